//! Requests that are not to be done twice.

use crate::table::table;

table! {
    /// A request that came with a key of its caller's (draft-ietf-httpapi-idempotency-key-header).
    IdempotencyKey in "idempotency_keys" {
        /// sha256 of caller and key; the key itself is on no disk.
        hash: Vec<u8>,
        /// sha256 of the request.
        request: Vec<u8>,
        /// What was answered, sealed; nothing while it is being done, and for ever if its broker went meanwhile.
        answer: Option<Vec<u8>>,
        /// When it came.
        claimed_at: i64,
        /// When it is forgotten.
        expires_at: i64,
    }
    key (hash: [u8]);
    index by_expiry () then (expires_at);
}
