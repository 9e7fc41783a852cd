-- Several brokers: each is on record, and so is who has which host's link, what the hosts say, and through whom people look.

CREATE TABLE brokers (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (id)
);
CREATE INDEX brokers_live ON brokers (id) WHERE ended_at IS NULL;

ALTER TABLE hosts ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE hosts ADD COLUMN broker_id TEXT COLLATE "C";
ALTER TABLE hosts ADD COLUMN cut_at BIGINT;
UPDATE hosts SET cut_at = last_seen;
CREATE INDEX hosts_linked_to ON hosts (broker_id, id);

CREATE TABLE host_pulses (
    host_id TEXT COLLATE "C" NOT NULL,
    disk_free BIGINT NOT NULL,
    memory_available BIGINT NOT NULL,
    PRIMARY KEY (host_id)
);

CREATE TABLE host_templates (
    host_id TEXT COLLATE "C" NOT NULL,
    template TEXT COLLATE "C" NOT NULL,
    seen TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (host_id, template)
);
CREATE INDEX host_templates_on_host ON host_templates (host_id);
CREATE INDEX host_templates_of ON host_templates (template, host_id);

ALTER TABLE desktops ADD COLUMN held BIGINT NOT NULL DEFAULT 0;
ALTER TABLE desktops ADD COLUMN endpoint TEXT COLLATE "C";
UPDATE desktops SET held = 1 WHERE phase = 'ready';

ALTER TABLE sessions ADD COLUMN broker_id TEXT COLLATE "C";
CREATE INDEX sessions_through ON sessions (broker_id, id) WHERE ended_at IS NULL;

-- Whoever looked looked through a broker that is not there any more.
UPDATE sessions SET state = 'disconnected' WHERE state = 'connected';
UPDATE shadows SET state = CASE state WHEN 'asked' THEN 'denied' ELSE 'ended' END, ended_at = created_at WHERE ended_at IS NULL;
ALTER TABLE shadows ADD COLUMN broker_id TEXT COLLATE "C";
CREATE INDEX shadows_through ON shadows (broker_id, id) WHERE ended_at IS NULL;
