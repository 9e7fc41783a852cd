-- What was answered to requests that carry a key, so that a repeat is not done twice.

CREATE TABLE idempotency_keys (
    hash BYTEA NOT NULL,
    request BYTEA NOT NULL,
    answer BYTEA,
    claimed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (hash)
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);
