-- How desktops live: kinds of pools, desktops that wait for users, limits of sessions, quotas, labels and processors of hosts.

ALTER TABLE pools ADD COLUMN rules TEXT NOT NULL DEFAULT '{}';
ALTER TABLE pools ADD COLUMN preparation TEXT NOT NULL DEFAULT '{}';

ALTER TABLE desktops ADD COLUMN persistent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE desktops ADD COLUMN taken_at INTEGER;
UPDATE desktops SET taken_at = created_at;
CREATE INDEX desktops_waiting ON desktops (pool_id, id) WHERE taken_at IS NULL;

ALTER TABLE placements ADD COLUMN vcpus INTEGER NOT NULL DEFAULT 0;
UPDATE placements SET vcpus = (
    SELECT json_extract(pools.machine, '$.vcpus') FROM desktops JOIN pools ON pools.id = desktops.pool_id
    WHERE desktops.id = placements.desktop_id
) WHERE freed_at IS NULL;
ALTER TABLE hosts ADD COLUMN promised_vcpus INTEGER NOT NULL DEFAULT 0;
UPDATE hosts SET promised_vcpus = (
    SELECT coalesce(sum(vcpus), 0) FROM placements WHERE placements.host_id = hosts.id AND freed_at IS NULL
);
ALTER TABLE hosts ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE hosts ADD COLUMN maintenance_at INTEGER;

ALTER TABLE users ADD COLUMN max_desktops INTEGER;
ALTER TABLE "groups" ADD COLUMN max_desktops INTEGER;
CREATE TABLE charges (
    group_id TEXT NOT NULL,
    assignment_id TEXT NOT NULL,
    PRIMARY KEY (group_id, assignment_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX charges_of_group ON charges (group_id);
CREATE INDEX charges_of_assignment ON charges (assignment_id, group_id);

CREATE TABLE timers (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX timers_due ON timers (at);
