//! Keys that callers give their requests, so that one whose answer was lost can be sent again without being done twice
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! ```text
//!             claim                answer (not 5xx)
//!   (none) ─────────► in progress ─────────────────► answered ──┐
//!      ▲                 │   │                                  │ KEPT has passed
//!      │ release (5xx)   │   │ LONGEST has passed: its broker   │
//!      ├─────────────────┘   ▼ went, and nobody knows           │
//!      │                  unknown ──────────────────────────────┤
//!      └────────────────────────────────────────────────────────┘
//! ```
//!
//! What was answered is opaque here: who writes it has sealed it. A row is claimed by one broker at a time, whichever it is,
//! because the key is the table's.

use super::{Result, Store};
use lucarne_db::tables::IdempotencyKey;

/// For how long a repeat is given the first answer, milliseconds: 24 hours. Longer: more rows, each with an answer. Shorter:
/// a client that was off overnight does it twice.
pub(super) const KEPT: i64 = 24 * 3_600_000;

/// The longest time that a request takes, milliseconds: some wait a minute for a host. Longer: who repeats a request whose
/// broker went hears for that long that it is in progress. Shorter: a slow one is taken for lost.
pub(super) const LONGEST: i64 = 5 * 60_000;

/// Rows that are forgotten in one transaction.
const FORGET: usize = 500;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing was: the request is to be done, and what comes of it to be told.
    New,
    /// The same request was answered so.
    Answered(Vec<u8>),
    /// It came with another request.
    Reused,
    /// The same request is being done.
    InProgress,
    /// The same request was begun, and whether it was done nobody knows.
    Unknown,
}

impl Store {
    /// Claims a key for a request; both are sha256 sums, `hash` that of caller and key.
    ///
    /// # Errors
    /// A database fault.
    pub async fn claim_key(&self, hash: &[u8], request: &[u8]) -> Result<Claim> {
        let (hash, request) = (hash.to_vec(), request.to_vec());
        self.write(move |tx| {
            let now = tx.now();
            let row = tx.lock(IdempotencyKey::key(&hash))?;
            let Some(known) = row else {
                let (hash, request) = (hash.clone(), request.clone());
                let (claimed_at, expires_at) = (now, now + KEPT);
                tx.insert(&IdempotencyKey { hash, request, answer: None, claimed_at, expires_at })?;
                return Ok(Claim::New);
            };
            let mut known = known;
            if known.expires_at <= now {
                known.request.clone_from(&request);
                (known.answer, known.claimed_at, known.expires_at) = (None, now, now + KEPT);
                tx.update(&known)?;
                return Ok(Claim::New);
            }
            Ok(match &known.answer {
                _ if known.request != request => Claim::Reused,
                Some(answer) => Claim::Answered(answer.clone()),
                None if now - known.claimed_at < LONGEST => Claim::InProgress,
                None => Claim::Unknown,
            })
        })
        .await
    }

    /// Keeps what was answered to the request that claimed a key.
    ///
    /// # Errors
    /// A database fault.
    pub async fn answer_key(&self, hash: &[u8], answer: Vec<u8>) -> Result<()> {
        let hash = hash.to_vec();
        self.write(move |tx| {
            if let Some(mut row) = tx.lock(IdempotencyKey::key(&hash))? {
                row.answer = Some(answer.clone());
                tx.update(&row)?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets the claim of a request that was not done, so that a repeat does it.
    ///
    /// # Errors
    /// A database fault.
    pub async fn release_key(&self, hash: &[u8]) -> Result<()> {
        let hash = hash.to_vec();
        self.write(move |tx| Ok(tx.remove(IdempotencyKey::key(&hash)).map(drop)?)).await
    }

    /// Forgets keys whose time is over, a bounded number at once; gives how many.
    ///
    /// # Errors
    /// A database fault.
    pub async fn forget_keys(&self) -> Result<usize> {
        let over =
            self.read(|tx| Ok(tx.find(IdempotencyKey::by_expiry().up_to(&tx.now()))?.is_some())).await?;
        if !over {
            return Ok(0);
        }
        self.write(|tx| {
            let rows = tx.claim(IdempotencyKey::by_expiry().up_to(&tx.now()).limit(FORGET))?;
            let forgotten = rows.len();
            for row in rows {
                tx.delete(row)?;
            }
            Ok(forgotten)
        })
        .await
    }
}
