-- The broker's state. Ids are UUIDv7 as text, so they sort by creation; times are milliseconds since the epoch, taken
-- from this database's clock; rows of history are ended, not deleted.

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    role          TEXT NOT NULL CONSTRAINT user_role_is_known CHECK (role IN ('administrator', 'user')),
    password_hash TEXT NOT NULL,
    created_at    INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    deleted_at    INTEGER
) STRICT;
CREATE UNIQUE INDEX one_user_per_name ON users (name) WHERE deleted_at IS NULL;

CREATE TABLE groups (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT;
-- Everyone is a member of this group without a row in memberships.
INSERT INTO groups (id, name) VALUES ('00000000-0000-7000-8000-000000000001', 'everyone');

CREATE TABLE memberships (
    user_id  TEXT NOT NULL REFERENCES users (id),
    group_id TEXT NOT NULL REFERENCES groups (id),
    PRIMARY KEY (user_id, group_id)
) STRICT;

CREATE TABLE pools (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    description  TEXT NOT NULL,
    image        TEXT NOT NULL,
    memory_mib   INTEGER NOT NULL,
    vcpus        INTEGER NOT NULL,
    width        INTEGER NOT NULL,
    height       INTEGER NOT NULL,
    network      TEXT NOT NULL,
    max_desktops INTEGER NOT NULL,
    created_at   INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    deleted_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX one_pool_per_name ON pools (name) WHERE deleted_at IS NULL;

CREATE TABLE entitlements (
    pool_id  TEXT NOT NULL REFERENCES pools (id),
    user_id  TEXT REFERENCES users (id),
    group_id TEXT REFERENCES groups (id),
    CONSTRAINT entitlement_is_of_one_user_or_one_group CHECK ((user_id IS NULL) <> (group_id IS NULL))
) STRICT;
CREATE UNIQUE INDEX one_entitlement_per_user ON entitlements (pool_id, user_id) WHERE user_id IS NOT NULL;
CREATE UNIQUE INDEX one_entitlement_per_group ON entitlements (pool_id, group_id) WHERE group_id IS NOT NULL;

CREATE TABLE hosts (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    facts      TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    last_seen  INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT;

CREATE TABLE images (
    digest       TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    version      TEXT NOT NULL,
    description  TEXT NOT NULL,
    virtual_size INTEGER NOT NULL,
    stored_size  INTEGER NOT NULL,
    created_at   INTEGER NOT NULL, -- seconds, as the image's own record says
    source       TEXT NOT NULL
) STRICT;

CREATE TABLE host_images (
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    digest  TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE,
    PRIMARY KEY (host_id, digest)
) STRICT;
CREATE INDEX host_images_by_digest ON host_images (digest);

CREATE TABLE desktops (
    id           TEXT PRIMARY KEY,
    pool_id      TEXT NOT NULL REFERENCES pools (id),
    name         TEXT NOT NULL,
    machine_id   TEXT NOT NULL UNIQUE,
    mac          TEXT NOT NULL,
    desired      TEXT NOT NULL CONSTRAINT desired_is_known CHECK (desired IN ('running', 'absent')),
    desired_gen  INTEGER NOT NULL,
    phase        TEXT NOT NULL,
    detail       TEXT NOT NULL DEFAULT '',
    timings      TEXT NOT NULL DEFAULT '{}',
    created_at   INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    ended_at     INTEGER, -- its host confirmed that it and its data are gone
    CONSTRAINT a_wanted_desktop_has_not_ended CHECK (ended_at IS NULL OR desired = 'absent')
) STRICT;
CREATE UNIQUE INDEX one_live_desktop_per_mac ON desktops (mac) WHERE ended_at IS NULL;
CREATE INDEX live_desktops_by_pool ON desktops (pool_id) WHERE ended_at IS NULL;

CREATE TABLE placements (
    desktop_id TEXT NOT NULL REFERENCES desktops (id),
    generation INTEGER NOT NULL,
    host_id    TEXT NOT NULL REFERENCES hosts (id),
    memory_mib INTEGER NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    freed_at   INTEGER,
    PRIMARY KEY (desktop_id, generation)
) STRICT;
CREATE UNIQUE INDEX one_live_placement_per_desktop ON placements (desktop_id) WHERE freed_at IS NULL;
CREATE INDEX live_placements_by_host ON placements (host_id) WHERE freed_at IS NULL;

CREATE TABLE assignments (
    id         TEXT PRIMARY KEY,
    desktop_id TEXT NOT NULL REFERENCES desktops (id),
    user_id    TEXT NOT NULL REFERENCES users (id),
    pool_id    TEXT NOT NULL REFERENCES pools (id),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    ended_at   INTEGER,
    end_reason TEXT
) STRICT;
CREATE UNIQUE INDEX one_live_assignment_per_desktop ON assignments (desktop_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX one_live_assignment_per_user_and_pool ON assignments (user_id, pool_id) WHERE ended_at IS NULL;
-- Stronger than the first: a desktop that had a user is never given to another, not even after the first is done.
CREATE UNIQUE INDEX one_assignment_in_a_desktops_life ON assignments (desktop_id);
CREATE INDEX assignments_by_user_and_pool ON assignments (user_id, pool_id, ended_at);

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id),
    pool_id    TEXT NOT NULL REFERENCES pools (id),
    desktop_id TEXT NOT NULL REFERENCES desktops (id),
    state      TEXT NOT NULL
        CONSTRAINT session_state_is_known CHECK (state IN ('connecting', 'connected', 'disconnected', 'ended')),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    ended_at   INTEGER,
    end_reason TEXT,
    CONSTRAINT an_ended_session_has_an_end CHECK ((state = 'ended') = (ended_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX one_live_session_per_desktop ON sessions (desktop_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_user ON sessions (user_id, id);

CREATE TABLE tickets (
    hash       BLOB PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    generation INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
CREATE INDEX tickets_by_expiry ON tickets (expires_at);
CREATE INDEX tickets_by_session ON tickets (session_id);

CREATE TABLE logins (
    hash       BLOB PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id),
    kind       TEXT NOT NULL CONSTRAINT login_kind_is_known CHECK (kind IN ('cookie', 'token')),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX logins_by_user ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires_at);

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never deleted'); END;

-- Rises with each change of what should be on any host; sent to agents with the desired set.
CREATE TABLE revision (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL
) STRICT;
INSERT INTO revision (id, value) VALUES (1, 1);
