-- How desktops live: kinds of pools, desktops that wait for users, limits of sessions, quotas, labels and processors of hosts.

ALTER TABLE pools ADD COLUMN rules TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE pools ADD COLUMN preparation TEXT COLLATE "C" NOT NULL DEFAULT '{}';

ALTER TABLE desktops ADD COLUMN persistent BIGINT NOT NULL DEFAULT 0;
ALTER TABLE desktops ADD COLUMN taken_at BIGINT;
UPDATE desktops SET taken_at = created_at;
CREATE INDEX desktops_waiting ON desktops (pool_id, id) WHERE taken_at IS NULL;

ALTER TABLE placements ADD COLUMN vcpus BIGINT NOT NULL DEFAULT 0;
UPDATE placements SET vcpus = (
    SELECT (pools.machine::json ->> 'vcpus')::bigint FROM desktops JOIN pools ON pools.id = desktops.pool_id
    WHERE desktops.id = placements.desktop_id
) WHERE freed_at IS NULL;
ALTER TABLE hosts ADD COLUMN promised_vcpus BIGINT NOT NULL DEFAULT 0;
UPDATE hosts SET promised_vcpus = (
    SELECT coalesce(sum(vcpus), 0) FROM placements WHERE placements.host_id = hosts.id AND freed_at IS NULL
);
ALTER TABLE hosts ADD COLUMN labels TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE hosts ADD COLUMN maintenance_at BIGINT;

ALTER TABLE users ADD COLUMN max_desktops BIGINT;
ALTER TABLE "groups" ADD COLUMN max_desktops BIGINT;
CREATE TABLE charges (
    group_id TEXT COLLATE "C" NOT NULL,
    assignment_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (group_id, assignment_id)
);
CREATE INDEX charges_of_group ON charges (group_id);
CREATE INDEX charges_of_assignment ON charges (assignment_id, group_id);

CREATE TABLE timers (
    kind TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (kind, subject)
);
CREATE INDEX timers_due ON timers (at);
