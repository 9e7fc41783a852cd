//! How long the steps of a connect that made a desktop took, kept beside the desktop.

use super::{Error, Result, Store};
use lucarne_control::DesktopId;
use lucarne_control::desktop::Launch;
use lucarne_db::tables::Desktop;
use lucarne_db::value::Json;

impl Store {
    /// Puts a launch on record.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn note_launch(&self, desktop: DesktopId, launch: Launch) -> Result<()> {
        self.write(move |tx| {
            let row = tx.lock(Desktop::key(&desktop))?;
            let mut row = row.ok_or_else(|| Error::not_found("desktop", desktop))?;
            row.launch = Some(Json(launch));
            Ok(tx.update(&row)?)
        })
        .await
    }
}
