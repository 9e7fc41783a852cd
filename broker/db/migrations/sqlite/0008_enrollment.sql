-- Hosts that come by the network: the authority behind their certificates, who may join, and who may not connect any more.

CREATE TABLE authorities (
    name TEXT NOT NULL,
    certificate TEXT NOT NULL,
    private_key TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

CREATE TABLE enrollments (
    id TEXT NOT NULL,
    hash BLOB NOT NULL,
    host TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    used_by TEXT,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX enrollments_hashed ON enrollments (hash);

ALTER TABLE hosts ADD COLUMN public_key BLOB;
ALTER TABLE hosts ADD COLUMN address TEXT;
ALTER TABLE hosts ADD COLUMN denied_at INTEGER;
