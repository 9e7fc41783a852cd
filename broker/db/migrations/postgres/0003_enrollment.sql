-- Hosts that come by the network: the authority behind their certificates, who may join, and who may not connect any more.

CREATE TABLE authorities (
    name TEXT COLLATE "C" NOT NULL,
    certificate TEXT COLLATE "C" NOT NULL,
    private_key TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE enrollments (
    id TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    host TEXT COLLATE "C",
    created_by TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    used_by TEXT COLLATE "C",
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX enrollments_hashed ON enrollments (hash);

ALTER TABLE hosts ADD COLUMN public_key BYTEA;
ALTER TABLE hosts ADD COLUMN address TEXT COLLATE "C";
ALTER TABLE hosts ADD COLUMN denied_at BIGINT;
