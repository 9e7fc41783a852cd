-- Snapshots of personal desktops.

CREATE TABLE snapshots (
    id TEXT NOT NULL PRIMARY KEY,
    desktop_id TEXT NOT NULL,
    host_id TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    progress INTEGER NOT NULL,
    detail TEXT NOT NULL,
    memory INTEGER NOT NULL,
    scheduled INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    wish INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    parent_id TEXT,
    current INTEGER NOT NULL,
    taken_at INTEGER,
    pause_ms INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    deleted_at INTEGER,
    settled_at INTEGER,
    gone_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX snapshots_named ON snapshots (desktop_id, name) WHERE gone_at IS NULL;
CREATE INDEX snapshots_of_desktop ON snapshots (desktop_id, id) WHERE gone_at IS NULL;
CREATE INDEX snapshots_on_host ON snapshots (host_id, id) WHERE gone_at IS NULL;
CREATE INDEX snapshots_pending ON snapshots (host_id, id) WHERE settled_at IS NULL;

ALTER TABLE desktops ADD COLUMN back_to TEXT;
ALTER TABLE desktops ADD COLUMN back_gen INTEGER NOT NULL DEFAULT 0;
