-- Whether viewers may hear what a pool's desktops play. Pools that exist are as those that are made without a word on it.
ALTER TABLE pools ADD COLUMN audio INTEGER NOT NULL DEFAULT 1 CONSTRAINT audio_is_on_or_off CHECK (audio IN (0, 1));
