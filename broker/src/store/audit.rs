//! The audit log: rows are written inside the transaction of what they tell, and never changed.

use super::{Result, Store, Tx, seconds};
use lucarne_control::api::AuditEntry;

/// Writes one row. `actor` is a user's name or `system`.
pub(super) async fn write(tx: &mut Tx, actor: &str, action: &str, subject: &str, detail: &str) -> Result<()> {
    sqlx::query("INSERT INTO audit (actor, action, subject, detail) VALUES (?, ?, ?, ?)")
        .bind(actor)
        .bind(action)
        .bind(subject)
        .bind(detail)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

impl Store {
    /// Notes something that changes no other row, such as a refused sign-in.
    ///
    /// # Errors
    /// A database fault.
    pub async fn note(&self, actor: &str, action: &str, subject: &str, detail: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        write(&mut tx, actor, action, subject, detail).await?;
        Ok(tx.commit().await?)
    }

    /// At most `limit` rows after position `after`, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn audit(&self, after: i64, limit: i64) -> Result<Vec<AuditEntry>> {
        let rows: Vec<(i64, i64, String, String, String, String)> = sqlx::query_as(
            "SELECT seq, at, actor, action, subject, detail FROM audit WHERE seq > ? ORDER BY seq LIMIT ?",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(seq, at, actor, action, subject, detail)| AuditEntry {
                seq,
                at: seconds(at),
                actor,
                action,
                subject,
                detail,
            })
            .collect())
    }
}
