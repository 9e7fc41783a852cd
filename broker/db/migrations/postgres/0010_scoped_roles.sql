-- Roles that hold for one pool or one group only.

CREATE TABLE scoped_roles (
    user_id TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    scope_kind TEXT COLLATE "C" NOT NULL,
    scope_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, role, scope_kind, scope_id)
);
CREATE INDEX scoped_roles_of ON scoped_roles (user_id);
CREATE INDEX scoped_roles_within ON scoped_roles (scope_kind, scope_id, user_id);
