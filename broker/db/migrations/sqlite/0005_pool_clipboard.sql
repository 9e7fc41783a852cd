-- Which way copied text goes between a pool's desktops and their viewers. Pools that exist are as those that are made without a
-- word on it.
ALTER TABLE pools ADD COLUMN clipboard TEXT NOT NULL DEFAULT 'both'
    CONSTRAINT clipboard_is_known CHECK (clipboard IN ('both', 'to_desktop', 'from_desktop', 'off'));
