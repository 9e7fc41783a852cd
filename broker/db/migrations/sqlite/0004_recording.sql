-- Whether a pool's sessions are recorded, and how long their recordings are kept.
ALTER TABLE pools ADD COLUMN recording TEXT NOT NULL DEFAULT 'off'
    CONSTRAINT recording_is_known CHECK (recording IN ('off', 'on', 'required'));
ALTER TABLE pools ADD COLUMN recording_days INTEGER;
ALTER TABLE pools ADD COLUMN recording_mib INTEGER;
