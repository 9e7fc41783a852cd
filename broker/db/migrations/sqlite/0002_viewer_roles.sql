-- Whether administrators may watch a pool's sessions, what becomes of each wish to, and as what a ticket lets in.
ALTER TABLE pools ADD COLUMN shadow TEXT NOT NULL DEFAULT 'off'
    CONSTRAINT shadow_policy_is_known CHECK (shadow IN ('off', 'with_consent', 'with_notice'));
ALTER TABLE pools ADD COLUMN shadow_control INTEGER NOT NULL DEFAULT 0;

CREATE TABLE shadows (
    id            TEXT PRIMARY KEY,
    session_id    TEXT NOT NULL REFERENCES sessions (id),
    administrator TEXT NOT NULL,
    control       INTEGER NOT NULL,
    consent       INTEGER NOT NULL, -- the user is asked
    state         TEXT NOT NULL
        CONSTRAINT shadow_state_is_known CHECK (state IN ('asked', 'denied', 'allowed', 'watching', 'ended')),
    created_at    INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT;
CREATE INDEX open_shadows ON shadows (id) WHERE state IN ('asked', 'allowed', 'watching');

ALTER TABLE tickets ADD COLUMN wish TEXT NOT NULL DEFAULT 'take_over'
    CONSTRAINT wish_is_known CHECK (wish IN ('take_over', 'share', 'view_only'));
ALTER TABLE tickets ADD COLUMN shadow_id TEXT REFERENCES shadows (id);
