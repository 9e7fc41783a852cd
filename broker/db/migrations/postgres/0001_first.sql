-- The tables as the broker declares them (broker/db/src/tables).

CREATE TABLE users (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    password_hash TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX users_named ON users (name) WHERE deleted_at IS NULL;
CREATE INDEX users_living ON users (id) WHERE deleted_at IS NULL;
CREATE INDEX users_living_in_role ON users (role) WHERE deleted_at IS NULL;

CREATE TABLE groups (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX groups_named ON groups (name);

CREATE TABLE memberships (
    user_id TEXT COLLATE "C" NOT NULL,
    group_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX memberships_of ON memberships (user_id);
CREATE INDEX memberships_in_group ON memberships (group_id, user_id);

CREATE TABLE pools (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    machine TEXT COLLATE "C" NOT NULL,
    policy TEXT COLLATE "C" NOT NULL,
    max_desktops BIGINT NOT NULL,
    desktops BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX pools_named ON pools (name) WHERE deleted_at IS NULL;
CREATE INDEX pools_present ON pools (id) WHERE deleted_at IS NULL;
CREATE INDEX pools_on_image ON pools (image);

CREATE TABLE entitlements (
    pool_id TEXT COLLATE "C" NOT NULL,
    holder_kind TEXT COLLATE "C" NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (pool_id, holder_kind, holder)
);
CREATE INDEX entitlements_of_pool ON entitlements (pool_id);
CREATE INDEX entitlements_held_by ON entitlements (holder_kind, holder, pool_id);

CREATE TABLE hosts (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    facts TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    desktops BIGINT NOT NULL,
    promised_mib BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX hosts_named ON hosts (name);

CREATE TABLE images (
    digest TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    virtual_size BIGINT NOT NULL,
    stored_size BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (digest)
);
CREATE INDEX images_named ON images (name, created_at, version);

CREATE TABLE host_images (
    host_id TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (host_id, digest)
);
CREATE INDEX host_images_on_host ON host_images (host_id);
CREATE INDEX host_images_of ON host_images (digest, host_id);

CREATE TABLE desktops (
    id TEXT COLLATE "C" NOT NULL,
    pool_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    machine_id TEXT COLLATE "C" NOT NULL,
    mac TEXT COLLATE "C" NOT NULL,
    desired TEXT COLLATE "C" NOT NULL,
    desired_gen BIGINT NOT NULL,
    phase TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C" NOT NULL,
    timings TEXT COLLATE "C" NOT NULL,
    host_id TEXT COLLATE "C",
    generation BIGINT NOT NULL,
    placed BIGINT NOT NULL,
    user_id TEXT COLLATE "C",
    assigned BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX desktops_named ON desktops (name) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX desktops_with_mac ON desktops (mac) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX desktops_with_machine_id ON desktops (machine_id);
CREATE INDEX desktops_live ON desktops (id) WHERE ended_at IS NULL;
CREATE INDEX desktops_live_of_pool ON desktops (pool_id, id) WHERE ended_at IS NULL;
CREATE INDEX desktops_live_on ON desktops (host_id, id) WHERE ended_at IS NULL;
CREATE INDEX desktops_of_user ON desktops (user_id, id);

CREATE TABLE placements (
    desktop_id TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    host_id TEXT COLLATE "C" NOT NULL,
    memory_mib BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    freed_at BIGINT,
    PRIMARY KEY (desktop_id, generation)
);
CREATE UNIQUE INDEX placements_live ON placements (desktop_id) WHERE freed_at IS NULL;
CREATE INDEX placements_on ON placements (host_id, desktop_id, generation);

CREATE TABLE assignments (
    id TEXT COLLATE "C" NOT NULL,
    desktop_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    pool_id TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT COLLATE "C",
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX assignments_of_desktop ON assignments (desktop_id);
CREATE UNIQUE INDEX assignments_live_in_pool ON assignments (user_id, pool_id) WHERE ended_at IS NULL;
CREATE INDEX assignments_of_user_in_pool ON assignments (user_id, pool_id, id);
CREATE INDEX assignments_live_of_user ON assignments (user_id, pool_id) WHERE ended_at IS NULL;

CREATE TABLE sessions (
    id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    pool_id TEXT COLLATE "C" NOT NULL,
    desktop_id TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT COLLATE "C",
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX sessions_live_on ON sessions (desktop_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_on ON sessions (desktop_id, id);
CREATE INDEX sessions_of_user ON sessions (user_id, id);
CREATE INDEX sessions_live ON sessions (id) WHERE ended_at IS NULL;

CREATE TABLE tickets (
    hash BYTEA NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    wish TEXT COLLATE "C" NOT NULL,
    shadow_id TEXT COLLATE "C",
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    PRIMARY KEY (hash)
);
CREATE INDEX tickets_by_expiry ON tickets (expires_at);

CREATE TABLE shadows (
    id TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    administrator TEXT COLLATE "C" NOT NULL,
    control BIGINT NOT NULL,
    consent BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (id)
);
CREATE INDEX shadows_open ON shadows (id) WHERE ended_at IS NULL;

CREATE TABLE logins (
    hash BYTEA NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (hash)
);
CREATE INDEX logins_of ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires_at);

CREATE TABLE audit (
    id TEXT COLLATE "C" NOT NULL,
    strand TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C" NOT NULL,
    previous BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX audit_place ON audit (strand, number);

CREATE TABLE counters (
    name TEXT COLLATE "C" NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
);

CREATE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'audit rows are never changed or deleted'; END $$;
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_kept();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit EXECUTE FUNCTION audit_is_kept();

-- Everyone is a member of this group without a row in memberships.
INSERT INTO groups (id, name, created_at) VALUES ('00000000-0000-7000-8000-000000000001', 'everyone', 0);
INSERT INTO counters (name, value) VALUES ('revision', 1);
