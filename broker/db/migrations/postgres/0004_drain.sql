-- Hosts that take no new desktops, and why a desktop is where it is.

ALTER TABLE hosts ADD COLUMN drained_at BIGINT;
ALTER TABLE placements ADD COLUMN reason TEXT COLLATE "C";
