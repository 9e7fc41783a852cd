-- How long the steps of a connect that made a desktop took.

ALTER TABLE desktops ADD COLUMN launch TEXT COLLATE "C";
