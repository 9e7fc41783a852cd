-- Desktops that are made of snapshots of others.
ALTER TABLE desktops ADD COLUMN origin_id TEXT COLLATE "C";
CREATE INDEX desktops_live_of_origin ON desktops (origin_id, id) WHERE ended_at IS NULL;
