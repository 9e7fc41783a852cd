//! `lucarne database`: backups, and what has to be said when one was put back.

use crate::args::{Database, DatabaseCommand};
use crate::client::admin_socket;
use anyhow::{Context, Result, bail, ensure};
use lucarne_broker::database;
use std::path::{Path, PathBuf};

/// Backs up, or puts back.
pub async fn run(args: Database) -> Result<()> {
    let file = std::path::absolute(&args.data.data_dir)?.join("broker/broker.db");
    match (args.command, args.database) {
        (DatabaseCommand::Backup { .. } | DatabaseCommand::Restore { .. }, Some(_)) => {
            bail!(
                "a PostgreSQL database is backed up with pg_dump and put back with pg_restore; after that, `lucarne database restored`"
            )
        }
        (DatabaseCommand::Backup { file: to }, None) => {
            present(&file)?;
            database::back_up(&file, &to).await?;
            println!("{} is a backup of {}", to.display(), file.display());
            Ok(())
        }
        (DatabaseCommand::Restore { file: from }, None) => {
            let socket = admin_socket(&std::path::absolute(&args.data.data_dir)?);
            let running = std::os::unix::net::UnixStream::connect(&socket).is_ok();
            ensure!(!running, "the broker of {} runs; stop it first", args.data.data_dir.display());
            restore(&from, &file).await
        }
        (DatabaseCommand::Restored, Some(url)) => {
            database::restored(database::Where::Url(&url)).await?;
            println!("hosts follow the database again when a broker is started on it");
            Ok(())
        }
        (DatabaseCommand::Restored, None) => {
            bail!(
                "which PostgreSQL database was put back? Say it with --database; one of the broker's own is put back with `lucarne database restore FILE`"
            )
        }
    }
}

fn present(file: &Path) -> Result<()> {
    ensure!(
        file.exists(),
        "there is no database {}; choose the broker's folder with --data-dir",
        file.display()
    );
    Ok(())
}

async fn restore(from: &Path, file: &Path) -> Result<()> {
    ensure!(from.exists(), "there is no file {}", from.display());
    database::check(from)
        .await
        .with_context(|| format!("{} is no backup of a broker's database", from.display()))?;
    let kept = beside(file)?;
    if file.exists() {
        std::fs::rename(file, &kept).with_context(|| format!("{} cannot be moved", file.display()))?;
        // The log belongs to the file, and would be taken for that of the backup.
        for log in ["-wal", "-shm"] {
            let of = |file: &Path| PathBuf::from(format!("{}{log}", file.display()));
            if of(file).exists() {
                std::fs::rename(of(file), of(&kept))?;
            }
        }
    }
    std::fs::copy(from, file).with_context(|| format!("{} cannot be written", file.display()))?;
    database::restored(database::Where::File(file)).await?;
    println!("{} is as it was in {}; what was there is {}", file.display(), from.display(), kept.display());
    Ok(())
}

/// A name for what was there: the first that is free.
fn beside(file: &Path) -> Result<PathBuf> {
    let name = |n: u32| PathBuf::from(format!("{}.before-{n}", file.display()));
    (1..1000).map(name).find(|path| !path.exists()).context("there are too many old databases beside it")
}
