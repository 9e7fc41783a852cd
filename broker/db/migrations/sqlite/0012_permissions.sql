-- Tokens that may do less than their user.

ALTER TABLE logins ADD COLUMN permissions TEXT;
