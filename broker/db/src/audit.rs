//! The audit log's chain: each row has the hash of the one before it, so that what was changed, moved or taken out is found.
//!
//! One chain for everybody would make every change wait for the one before it. So there are strands: each connection that
//! writes continues its own. A strand begins with a row that names the ends of those before it, and does so again after each
//! [`AGAIN`] rows, so what was named can't be cut off either. The hashes have no key: who rewrites the whole log, or cuts off
//! what nothing has named yet, is found by who keeps what a check found elsewhere and gives it to the next.

use crate::table::{Row, Select};
use crate::tables::Audit;
use crate::value::{Column, ToValue};
use crate::{Db, Fault, Tx};
use lucarne_control::api::{AuditHead, AuditVerified};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use uuid::Uuid;

/// The action of a strand's first row.
pub const BEGAN: &str = "audit.strand_began";

/// The action of a row in a strand that names the ends of others once more.
pub const NAMES: &str = "audit.strands_named";

/// Rows of a strand after which it names the others again.
pub(crate) const AGAIN: u64 = 1000;

/// Ends that are named at most: those of the newest strands.
const NAMED: usize = 256;

/// Rows that are read at once.
const PAGE: usize = 1000;

/// Where a strand is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strand {
    /// Its id.
    pub id: Uuid,
    /// The number of its last row; 0 before the first.
    pub number: u64,
    /// The hash of its last row.
    pub hash: Vec<u8>,
}

impl Strand {
    /// A new one.
    pub fn new() -> Self {
        Self { id: Uuid::now_v7(), number: 0, hash: vec![0; 32] }
    }
}

fn head_of(row: &Audit) -> AuditHead {
    AuditHead { strand: row.strand, number: row.number, hash: hex(&row.hash) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A text as it is read back, so that what is hashed is what is kept.
pub(crate) fn kept(text: &str) -> String {
    String::from_value(text.to_value()).unwrap_or_default()
}

/// The sha256 of all that a row says, with the hash of the row before it. Each text goes with its length before it, so that
/// nothing can move from one to the next.
#[must_use]
pub fn hash(row: &Audit) -> Vec<u8> {
    let mut sha = Sha256::new();
    sha.update(row.id.as_bytes());
    sha.update(row.strand.as_bytes());
    sha.update(row.number.to_be_bytes());
    sha.update(row.at.to_be_bytes());
    for text in [&row.actor, &row.action, &row.subject, &row.detail] {
        sha.update((text.len() as u64).to_be_bytes());
        sha.update(text);
    }
    sha.update(&row.previous);
    sha.finalize().to_vec()
}

/// Rows by strand and number.
fn strands() -> Select<Audit> {
    let index = Audit::TABLE.indexes.iter().find(|index| index.name == "place").copied();
    Select::new(index, Vec::new())
}

/// Rows of one strand, by number.
fn in_strand(strand: &Uuid) -> Select<Audit> {
    strands().within(strand)
}

/// The last rows of the newest strands.
pub(crate) fn heads(tx: &mut Tx<'_>) -> Result<Vec<AuditHead>, Fault> {
    let mut heads: Vec<AuditHead> = Vec::new();
    let mut last = tx.find(strands().newest_first())?;
    while let Some(row) = last {
        heads.push(head_of(&row));
        if heads.len() == NAMED {
            break;
        }
        last = tx.find(strands().newest_first().before(&row.strand))?;
    }
    Ok(heads)
}

pub(crate) fn heads_text(heads: &[AuditHead]) -> String {
    serde_json::to_string(heads).unwrap_or_default()
}

/// Faults that are told; a log that was rewritten has as many as rows.
const FAULTS: usize = 100;

/// Reads the whole log and checks every row, and that rows which `known` names, or a strand, are there.
///
/// # Errors
/// A fault of the database.
pub async fn verify(db: &Db, known: &[AuditHead]) -> Result<AuditVerified, Fault> {
    let mut verified = AuditVerified::default();
    let mut claims = known.to_vec();
    let mut last = None;
    loop {
        let first =
            db.read(move |tx| tx.find(last.map_or_else(strands, |last| strands().after(&last)))).await?;
        let Some(first) = first else { break };
        last = Some(first.strand);
        if first.action != BEGAN {
            let (strand, action) = (first.strand, first.action);
            tell(&mut verified, format!("the strand {strand} does not begin with {BEGAN} but with {action}"));
        }
        verify_strand(db, first.strand, &mut claims, &mut verified).await?;
    }
    claims.sort_by(|a, b| (a.strand, a.number, &a.hash).cmp(&(b.strand, b.number, &b.hash)));
    claims.dedup();
    for claim in claims {
        let AuditHead { strand, number, .. } = claim;
        let row = db.read(move |tx| tx.find(in_strand(&strand).within(&number))).await?;
        match row {
            None => tell(&mut verified, format!("row {number} of the strand {strand} was there and is gone")),
            Some(row) if hex(&row.hash) != claim.hash => {
                tell(
                    &mut verified,
                    format!("row {number} of the strand {strand} is not the one that was there"),
                );
            }
            Some(_) => {}
        }
    }
    Ok(verified)
}

fn tell(verified: &mut AuditVerified, what: String) {
    if verified.faults.len() < FAULTS {
        verified.faults.push(what);
    }
}

async fn verify_strand(
    db: &Db,
    strand: Uuid,
    claims: &mut Vec<AuditHead>,
    verified: &mut AuditVerified,
) -> Result<(), Fault> {
    let (mut number, mut previous, mut head) = (0, vec![0; 32], None);
    loop {
        let after = number;
        let rows = db.read(move |tx| tx.list(in_strand(&strand).after(&after).limit(PAGE))).await?;
        for row in &rows {
            let what = format!("row {} of the strand {strand} ({} {})", row.number, row.action, row.subject);
            if row.number != number + 1 {
                let (from, to) = (number + 1, row.number.saturating_sub(1));
                tell(verified, format!("rows {from} to {to} of the strand {strand} are gone"));
            } else if row.previous != previous {
                tell(verified, format!("{what} does not follow the row before it"));
            }
            if row.hash != hash(row) {
                tell(verified, format!("{what} was changed"));
            }
            if row.action == BEGAN || row.action == NAMES {
                match serde_json::from_str::<Vec<AuditHead>>(&row.detail) {
                    Ok(named) => claims.extend(named),
                    Err(_) => tell(verified, format!("{what} does not name strands as it should")),
                }
            }
            (number, previous) = (row.number, row.hash.clone());
            head = Some(head_of(row));
        }
        verified.rows += rows.len() as u64;
        if rows.len() < PAGE {
            break;
        }
    }
    verified.heads.extend(head);
    Ok(())
}
