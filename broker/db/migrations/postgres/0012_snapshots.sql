-- Snapshots of personal desktops.

CREATE TABLE snapshots (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    desktop_id TEXT COLLATE "C" NOT NULL,
    host_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    progress BIGINT NOT NULL,
    detail TEXT COLLATE "C" NOT NULL,
    memory BIGINT NOT NULL,
    scheduled BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    wish BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    until BIGINT NOT NULL,
    parent_id TEXT COLLATE "C",
    current BIGINT NOT NULL,
    taken_at BIGINT,
    pause_ms BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    deleted_at BIGINT,
    settled_at BIGINT,
    gone_at BIGINT
);
CREATE UNIQUE INDEX snapshots_named ON snapshots (desktop_id, name) WHERE gone_at IS NULL;
CREATE INDEX snapshots_of_desktop ON snapshots (desktop_id, id) WHERE gone_at IS NULL;
CREATE INDEX snapshots_on_host ON snapshots (host_id, id) WHERE gone_at IS NULL;
CREATE INDEX snapshots_pending ON snapshots (host_id, id) WHERE settled_at IS NULL;

ALTER TABLE desktops ADD COLUMN back_to TEXT COLLATE "C";
ALTER TABLE desktops ADD COLUMN back_gen BIGINT NOT NULL DEFAULT 0;
