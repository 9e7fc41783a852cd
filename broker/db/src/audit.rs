//! The audit log's chain: each row has the hash of the one before it, so none can be changed, moved or taken out unseen.
//!
//! One chain for everybody would make every change wait for the one before it. So there are strands: each connection that
//! writes continues its own. A strand begins with a row that names the heads of those before it, so nothing that a later
//! strand has named can be cut off either. What nothing names yet, the last rows of the newest strands, can be: who wants
//! to find that keeps the heads of a check elsewhere and gives them to the next.

use crate::table::{Row, Select};
use crate::tables::Audit;
use crate::{Db, Fault, Tx};
use lucarne_control::api::{AuditHead, AuditVerified};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;
use uuid::Uuid;

/// The action of a strand's first row.
pub const BEGAN: &str = "audit.strand_began";

/// Heads that a new strand names: those of the newest strands, which have named the older ones.
const NAMED: usize = 64;

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
    let mut claims: HashMap<(Uuid, u64), String> = HashMap::new();
    let mut claim = |head: &AuditHead| {
        claims.insert((head.strand, head.number), head.hash.clone());
    };
    known.iter().for_each(&mut claim);
    let mut begun = Vec::new();
    loop {
        let after = begun.last().copied();
        let first =
            db.read(move |tx| tx.find(after.map_or_else(strands, |after| strands().after(&after)))).await?;
        let Some(first) = first else { break };
        if first.action == BEGAN {
            serde_json::from_str::<Vec<AuditHead>>(&first.detail)
                .unwrap_or_default()
                .iter()
                .for_each(&mut claim);
        }
        begun.push(first.strand);
    }
    for strand in begun {
        verify_strand(db, strand, &mut claims, &mut verified).await?;
    }
    let mut missing: Vec<_> = claims.into_keys().collect();
    missing.sort_unstable();
    for (strand, number) in missing {
        tell(&mut verified, format!("row {number} of the strand {strand} was there and is gone"));
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
    claims: &mut HashMap<(Uuid, u64), String>,
    verified: &mut AuditVerified,
) -> Result<(), Fault> {
    let (mut number, mut previous, mut head) = (0, vec![0; 32], None);
    loop {
        let after = number;
        let rows = db.read(move |tx| tx.list(in_strand(&strand).after(&after).limit(PAGE))).await?;
        for row in &rows {
            let what =
                || format!("row {} of the strand {strand} ({} {})", row.number, row.action, row.subject);
            if row.number != number + 1 {
                tell(
                    verified,
                    format!("rows {} to {} of the strand {strand} are gone", number + 1, row.number - 1),
                );
            } else if row.previous != previous {
                tell(verified, format!("{} does not follow the row before it", what()));
            }
            if row.hash != hash(row) {
                tell(verified, format!("{} was changed", what()));
            }
            if let Some(claimed) = claims.remove(&(strand, row.number))
                && claimed != hex(&row.hash)
            {
                tell(verified, format!("{} is not the one that was there", what()));
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
