-- What a desktop lets people do is settled when it is made: its pool may change, it does not.

ALTER TABLE desktops ADD COLUMN policy TEXT;
UPDATE desktops SET policy = (SELECT policy FROM pools WHERE pools.id = desktops.pool_id) WHERE ended_at IS NULL;
