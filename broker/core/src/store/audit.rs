//! The audit log: rows are written inside the transaction of what they tell, and never changed.

use super::{Result, Store, rows, seconds};
use lucarne_control::api::{AuditEntry, AuditHead, AuditVerified};
use lucarne_db::tables::Audit;
use uuid::Uuid;

impl Store {
    /// Notes something that changes no other row, such as a refused sign-in.
    ///
    /// # Errors
    /// A database fault.
    pub async fn note(&self, actor: &str, action: &str, subject: &str, detail: &str) -> Result<()> {
        let texts = [actor, action, subject, detail].map(str::to_owned);
        self.write(move |tx| {
            let [actor, action, subject, detail] = &texts;
            Ok(tx.audit(actor, action, subject, detail)?)
        })
        .await
    }

    /// Reads the whole log and checks that nothing in it was changed, moved or taken out, and that the rows which `known`
    /// names are there.
    ///
    /// # Errors
    /// A database fault.
    pub async fn verify_audit(&self, known: &[AuditHead]) -> Result<AuditVerified> {
        Ok(lucarne_db::audit::verify(&self.db, known).await?)
    }

    /// At most `limit` rows after the one of this id, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn audit(&self, after: Option<Uuid>, limit: i64) -> Result<Vec<AuditEntry>> {
        self.read(move |tx| {
            let select = Audit::all().limit(rows(limit));
            let entries = tx.list(match after {
                Some(after) => select.after(&after),
                None => select,
            })?;
            let entry = |row: Audit| AuditEntry {
                id: row.id,
                at: seconds(row.at),
                actor: row.actor,
                action: row.action,
                subject: row.subject,
                detail: row.detail,
            };
            Ok(entries.into_iter().map(entry).collect())
        })
        .await
    }
}
