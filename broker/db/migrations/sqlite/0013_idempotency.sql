-- What was answered to requests that carry a key, so that a repeat is not done twice.

CREATE TABLE idempotency_keys (
    hash BLOB NOT NULL,
    request BLOB NOT NULL,
    answer BLOB,
    claimed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);
