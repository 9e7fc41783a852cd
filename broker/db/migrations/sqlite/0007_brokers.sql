-- Several brokers: each is on record, and so is who has which host's link, what the hosts say, and through whom people look.

CREATE TABLE brokers (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    ended_at INTEGER,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX brokers_live ON brokers (id) WHERE ended_at IS NULL;

ALTER TABLE hosts ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hosts ADD COLUMN broker_id TEXT;
ALTER TABLE hosts ADD COLUMN cut_at INTEGER;
UPDATE hosts SET cut_at = last_seen;
CREATE INDEX hosts_linked_to ON hosts (broker_id, id);

CREATE TABLE host_pulses (
    host_id TEXT NOT NULL,
    disk_free INTEGER NOT NULL,
    memory_available INTEGER NOT NULL,
    PRIMARY KEY (host_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE host_templates (
    host_id TEXT NOT NULL,
    template TEXT NOT NULL,
    seen TEXT NOT NULL,
    PRIMARY KEY (host_id, template)
) STRICT, WITHOUT ROWID;
CREATE INDEX host_templates_on_host ON host_templates (host_id);
CREATE INDEX host_templates_of ON host_templates (template, host_id);

ALTER TABLE desktops ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE desktops ADD COLUMN endpoint TEXT;
UPDATE desktops SET held = 1 WHERE phase = 'ready';

ALTER TABLE sessions ADD COLUMN broker_id TEXT;
CREATE INDEX sessions_through ON sessions (broker_id, id) WHERE ended_at IS NULL;

-- Whoever looked looked through a broker that is not there any more.
UPDATE sessions SET state = 'disconnected' WHERE state = 'connected';
UPDATE shadows SET state = CASE state WHEN 'asked' THEN 'denied' ELSE 'ended' END, ended_at = created_at WHERE ended_at IS NULL;
ALTER TABLE shadows ADD COLUMN broker_id TEXT;
CREATE INDEX shadows_through ON shadows (broker_id, id) WHERE ended_at IS NULL;
