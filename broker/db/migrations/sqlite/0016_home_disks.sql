-- Users' disks, which are put into their floating desktops and outlive them.

CREATE TABLE disks (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    pool_id TEXT NOT NULL,
    host_id TEXT,
    size_mib INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    made_at INTEGER,
    deleted_at INTEGER,
    gone_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX disks_of_user_in_pool ON disks (user_id, pool_id) WHERE deleted_at IS NULL;
CREATE INDEX disks_present ON disks (id) WHERE gone_at IS NULL;
CREATE INDEX disks_of_user ON disks (user_id, id) WHERE gone_at IS NULL;
CREATE INDEX disks_of_pool ON disks (pool_id, id) WHERE gone_at IS NULL;
CREATE INDEX disks_on_host ON disks (host_id, id) WHERE gone_at IS NULL;

ALTER TABLE desktops ADD COLUMN disk_id TEXT;
CREATE INDEX desktops_live_with_disk ON desktops (disk_id, id) WHERE ended_at IS NULL;
