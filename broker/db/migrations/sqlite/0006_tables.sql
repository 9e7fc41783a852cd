-- The tables as the broker declares them (broker/db/src/tables). What was there is kept under new names, copied, and
-- dropped; the audit log's rows get their chain from the program, which drops `old_audit` itself.

PRAGMA legacy_alter_table = ON;
ALTER TABLE users RENAME TO old_users;
ALTER TABLE groups RENAME TO old_groups;
ALTER TABLE memberships RENAME TO old_memberships;
ALTER TABLE pools RENAME TO old_pools;
ALTER TABLE entitlements RENAME TO old_entitlements;
ALTER TABLE hosts RENAME TO old_hosts;
ALTER TABLE images RENAME TO old_images;
ALTER TABLE host_images RENAME TO old_host_images;
ALTER TABLE desktops RENAME TO old_desktops;
ALTER TABLE placements RENAME TO old_placements;
ALTER TABLE assignments RENAME TO old_assignments;
ALTER TABLE sessions RENAME TO old_sessions;
ALTER TABLE tickets RENAME TO old_tickets;
ALTER TABLE shadows RENAME TO old_shadows;
ALTER TABLE logins RENAME TO old_logins;
ALTER TABLE audit RENAME TO old_audit;
DROP INDEX tickets_by_expiry;
DROP INDEX logins_by_expiry;
DROP TRIGGER audit_is_not_changed;
DROP TRIGGER audit_is_not_deleted;

CREATE TABLE users (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX users_named ON users (name) WHERE deleted_at IS NULL;
CREATE INDEX users_living ON users (id) WHERE deleted_at IS NULL;
CREATE INDEX users_living_in_role ON users (role) WHERE deleted_at IS NULL;

CREATE TABLE groups (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX groups_named ON groups (name);

CREATE TABLE memberships (
    user_id TEXT NOT NULL,
    group_id TEXT NOT NULL,
    PRIMARY KEY (user_id, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_of ON memberships (user_id);
CREATE INDEX memberships_in_group ON memberships (group_id, user_id);

CREATE TABLE pools (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    image TEXT NOT NULL,
    machine TEXT NOT NULL,
    policy TEXT NOT NULL,
    max_desktops INTEGER NOT NULL,
    desktops INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX pools_named ON pools (name) WHERE deleted_at IS NULL;
CREATE INDEX pools_present ON pools (id) WHERE deleted_at IS NULL;
CREATE INDEX pools_on_image ON pools (image);

CREATE TABLE entitlements (
    pool_id TEXT NOT NULL,
    holder_kind TEXT NOT NULL,
    holder TEXT NOT NULL,
    PRIMARY KEY (pool_id, holder_kind, holder)
) STRICT, WITHOUT ROWID;
CREATE INDEX entitlements_of_pool ON entitlements (pool_id);
CREATE INDEX entitlements_held_by ON entitlements (holder_kind, holder, pool_id);

CREATE TABLE hosts (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    facts TEXT NOT NULL,
    revision INTEGER NOT NULL,
    desktops INTEGER NOT NULL,
    promised_mib INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX hosts_named ON hosts (name);

CREATE TABLE images (
    digest TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    description TEXT NOT NULL,
    virtual_size INTEGER NOT NULL,
    stored_size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX images_named ON images (name, created_at, version);

CREATE TABLE host_images (
    host_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (host_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX host_images_on_host ON host_images (host_id);
CREATE INDEX host_images_of ON host_images (digest, host_id);

CREATE TABLE desktops (
    id TEXT NOT NULL,
    pool_id TEXT NOT NULL,
    name TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    mac TEXT NOT NULL,
    desired TEXT NOT NULL,
    desired_gen INTEGER NOT NULL,
    phase TEXT NOT NULL,
    detail TEXT NOT NULL,
    timings TEXT NOT NULL,
    host_id TEXT,
    generation INTEGER NOT NULL,
    placed INTEGER NOT NULL,
    user_id TEXT,
    assigned INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX desktops_named ON desktops (name) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX desktops_with_mac ON desktops (mac) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX desktops_with_machine_id ON desktops (machine_id);
CREATE INDEX desktops_live ON desktops (id) WHERE ended_at IS NULL;
CREATE INDEX desktops_live_of_pool ON desktops (pool_id, id) WHERE ended_at IS NULL;
CREATE INDEX desktops_live_on ON desktops (host_id, id) WHERE ended_at IS NULL;
CREATE INDEX desktops_of_user ON desktops (user_id, id);

CREATE TABLE placements (
    desktop_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    host_id TEXT NOT NULL,
    memory_mib INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    freed_at INTEGER,
    PRIMARY KEY (desktop_id, generation)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX placements_live ON placements (desktop_id) WHERE freed_at IS NULL;
CREATE INDEX placements_on ON placements (host_id, desktop_id, generation);

CREATE TABLE assignments (
    id TEXT NOT NULL,
    desktop_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    pool_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    end_reason TEXT,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX assignments_of_desktop ON assignments (desktop_id);
CREATE UNIQUE INDEX assignments_live_in_pool ON assignments (user_id, pool_id) WHERE ended_at IS NULL;
CREATE INDEX assignments_of_user_in_pool ON assignments (user_id, pool_id, id);
CREATE INDEX assignments_live_of_user ON assignments (user_id, pool_id) WHERE ended_at IS NULL;

CREATE TABLE sessions (
    id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    pool_id TEXT NOT NULL,
    desktop_id TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    end_reason TEXT,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX sessions_live_on ON sessions (desktop_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_on ON sessions (desktop_id, id);
CREATE INDEX sessions_of_user ON sessions (user_id, id);
CREATE INDEX sessions_live ON sessions (id) WHERE ended_at IS NULL;

CREATE TABLE tickets (
    hash BLOB NOT NULL,
    session_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    wish TEXT NOT NULL,
    shadow_id TEXT,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    PRIMARY KEY (hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_by_expiry ON tickets (expires_at);

CREATE TABLE shadows (
    id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    administrator TEXT NOT NULL,
    control INTEGER NOT NULL,
    consent INTEGER NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX shadows_open ON shadows (id) WHERE ended_at IS NULL;

CREATE TABLE logins (
    hash BLOB NOT NULL,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_of ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires_at);

CREATE TABLE audit (
    id TEXT NOT NULL,
    strand TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX audit_place ON audit (strand, number);

CREATE TABLE counters (
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

INSERT INTO users SELECT id, name, role, password_hash, created_at, deleted_at FROM old_users;
INSERT INTO groups SELECT id, name, created_at FROM old_groups;
INSERT INTO memberships SELECT user_id, group_id FROM old_memberships;
INSERT INTO pools SELECT id, name, description, image,
    json_object('memory_mib', memory_mib, 'vcpus', vcpus, 'width', width, 'height', height),
    json_object('network', network, 'shadow', shadow, 'shadow_control', json(iif(shadow_control, 'true', 'false')),
        'audio', json(iif(audio, 'true', 'false')), 'clipboard', clipboard,
        'recording', json_object('mode', recording, 'days', recording_days, 'mib', recording_mib)),
    max_desktops, (SELECT count(*) FROM old_desktops d WHERE d.pool_id = p.id AND d.ended_at IS NULL),
    created_at, deleted_at FROM old_pools p;
INSERT INTO entitlements SELECT pool_id, iif(user_id IS NULL, 'group', 'user'), coalesce(user_id, group_id) FROM old_entitlements;
INSERT INTO hosts SELECT id, name, facts, (SELECT value FROM revision),
    (SELECT count(*) FROM old_placements pl WHERE pl.host_id = h.id AND pl.freed_at IS NULL),
    (SELECT coalesce(sum(memory_mib), 0) FROM old_placements pl WHERE pl.host_id = h.id AND pl.freed_at IS NULL),
    created_at, last_seen FROM old_hosts h;
INSERT INTO images SELECT digest, name, version, description, virtual_size, stored_size, created_at, source FROM old_images;
INSERT INTO host_images SELECT host_id, digest FROM old_host_images;
INSERT INTO desktops SELECT d.id, d.pool_id, d.name, d.machine_id, d.mac, d.desired, d.desired_gen, d.phase, d.detail, d.timings,
    pl.host_id, coalesce(pl.generation, 0), pl.desktop_id IS NOT NULL AND pl.freed_at IS NULL, a.user_id, a.id IS NOT NULL AND a.ended_at IS NULL,
    d.created_at, d.ended_at
    FROM old_desktops d LEFT JOIN old_assignments a ON a.desktop_id = d.id
    LEFT JOIN old_placements pl ON pl.desktop_id = d.id
        AND pl.generation = (SELECT max(generation) FROM old_placements WHERE desktop_id = d.id);
INSERT INTO placements SELECT desktop_id, generation, host_id, memory_mib, created_at, freed_at FROM old_placements;
INSERT INTO assignments SELECT id, desktop_id, user_id, pool_id, created_at, ended_at, end_reason FROM old_assignments;
INSERT INTO sessions SELECT id, user_id, pool_id, desktop_id, state, created_at, ended_at, end_reason FROM old_sessions;
INSERT INTO tickets SELECT hash, session_id, generation, wish, shadow_id, expires_at, used_at FROM old_tickets;
INSERT INTO shadows SELECT id, session_id, administrator, control, consent, state, created_at,
    iif(state IN ('denied', 'ended'), created_at, NULL) FROM old_shadows;
INSERT INTO logins SELECT hash, user_id, kind, created_at, expires_at FROM old_logins;
INSERT INTO counters SELECT 'revision', value FROM revision;

DROP TABLE old_users;
DROP TABLE old_groups;
DROP TABLE old_memberships;
DROP TABLE old_pools;
DROP TABLE old_entitlements;
DROP TABLE old_hosts;
DROP TABLE old_images;
DROP TABLE old_host_images;
DROP TABLE old_desktops;
DROP TABLE old_placements;
DROP TABLE old_assignments;
DROP TABLE old_sessions;
DROP TABLE old_tickets;
DROP TABLE old_shadows;
DROP TABLE old_logins;
DROP TABLE revision;
DROP TABLE IF EXISTS _sqlx_migrations;
PRAGMA legacy_alter_table = OFF;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never deleted'); END;
