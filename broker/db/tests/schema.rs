//! Databases of older and newer releases, and what the databases themselves refuse.

#![allow(clippy::unwrap_used)]

use lucarne_control::api::{AuditHead, AuditVerified};
use lucarne_db::tables::{Audit, Desktop, Entitlement, Group, HolderKind, Host, Pool, Session};
use lucarne_db::{Db, Fault, audit};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const FIRST_RELEASES: [&str; 5] = [
    include_str!("../migrations/sqlite/0001_initial.sql"),
    include_str!("../migrations/sqlite/0002_viewer_roles.sql"),
    include_str!("../migrations/sqlite/0003_pool_audio.sql"),
    include_str!("../migrations/sqlite/0004_recording.sql"),
    include_str!("../migrations/sqlite/0005_pool_clipboard.sql"),
];

/// Two desktops, one of them gone, with everything around them.
const ROWS: &str = r#"
CREATE TABLE _sqlx_migrations (version INTEGER PRIMARY KEY, success INTEGER);
INSERT INTO _sqlx_migrations VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1);
INSERT INTO users (id, name, role, password_hash) VALUES ('019aa000-0000-7000-8000-0000000000a1', 'ada', 'administrator', 'x');
INSERT INTO pools (id, name, description, image, memory_mib, vcpus, width, height, network, max_desktops, shadow,
    shadow_control, audio, recording, recording_days, recording_mib, clipboard)
VALUES ('019aa000-0000-7000-8000-0000000000b1', 'desk', 'd', printf('%064d', 7), 1024, 2, 1280, 800, 'none', 9, 'with_consent',
    1, 0, 'required', 30, NULL, 'to_desktop');
INSERT INTO entitlements (pool_id, group_id) VALUES ('019aa000-0000-7000-8000-0000000000b1', '00000000-0000-7000-8000-000000000001');
INSERT INTO hosts (id, name, facts) VALUES ('019aa000-0000-7000-8000-0000000000c1', 'attic',
    '{"cpus":2,"memory_mib":4096,"driver":"qemu","driver_version":"10","accel":"tcg","accel_reason":""}');
INSERT INTO desktops (id, pool_id, name, machine_id, mac, desired, desired_gen, phase, ended_at) VALUES
    ('019aa000-0000-7000-8000-0000000000d1', '019aa000-0000-7000-8000-0000000000b1', 'desk-1', 'm1', '52:1', 'absent', 2, 'stopped', 9),
    ('019aa000-0000-7000-8000-0000000000d2', '019aa000-0000-7000-8000-0000000000b1', 'desk-2', 'm2', '52:2', 'running', 1, 'ready', NULL);
INSERT INTO placements (desktop_id, generation, host_id, memory_mib, freed_at) VALUES
    ('019aa000-0000-7000-8000-0000000000d1', 1, '019aa000-0000-7000-8000-0000000000c1', 1024, 9),
    ('019aa000-0000-7000-8000-0000000000d2', 3, '019aa000-0000-7000-8000-0000000000c1', 1024, NULL);
INSERT INTO assignments (id, desktop_id, user_id, pool_id, ended_at, end_reason) VALUES
    ('019aa000-0000-7000-8000-0000000000e1', '019aa000-0000-7000-8000-0000000000d1', '019aa000-0000-7000-8000-0000000000a1', '019aa000-0000-7000-8000-0000000000b1', 9, 'logged off'),
    ('019aa000-0000-7000-8000-0000000000e2', '019aa000-0000-7000-8000-0000000000d2', '019aa000-0000-7000-8000-0000000000a1', '019aa000-0000-7000-8000-0000000000b1', NULL, NULL);
INSERT INTO sessions (id, user_id, pool_id, desktop_id, state) VALUES ('019aa000-0000-7000-8000-0000000000f1',
    '019aa000-0000-7000-8000-0000000000a1', '019aa000-0000-7000-8000-0000000000b1', '019aa000-0000-7000-8000-0000000000d2', 'connected');
INSERT INTO audit (at, actor, action, subject, detail) VALUES (5, 'ada', 'pool.created', 'desk', ''), (6, 'ada', 'x', 'y', 'z' || char(0) || 'z');
UPDATE revision SET value = 41;
"#;

fn of_the_first_releases(file: &Path) {
    let connection = Connection::open(file).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    for sql in FIRST_RELEASES {
        connection.execute_batch(sql).unwrap();
    }
    connection.execute_batch(ROWS).unwrap();
}

#[tokio::test]
async fn a_database_of_the_first_releases_is_taken_over_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.db");
    of_the_first_releases(&file);
    // The second time there is nothing to do.
    for _ in 0..2 {
        let db = Db::sqlite(&file).await.unwrap();
        let (pools, held, desktops, hosts) = db
            .read(|tx| {
                let held = tx.list(Entitlement::all())?;
                Ok::<_, Fault>((tx.list(Pool::all())?, held, tx.list(Desktop::all())?, tx.list(Host::all())?))
            })
            .await
            .unwrap();
        let policy = serde_json::to_value(pools[0].policy.0).unwrap();
        let wanted = serde_json::json!({"network": "none", "shadow": "with_consent", "shadow_control": true, "audio": false,
            "clipboard": "to_desktop", "recording": {"mode": "required", "days": 30, "mib": null}});
        assert_eq!(policy, wanted);
        assert_eq!((pools[0].machine.0.width, pools[0].max_desktops, pools[0].desktops), (1280, 9, 1));
        assert_eq!((held.len(), held[0].holder_kind), (1, HolderKind::Group));
        assert_eq!((hosts[0].desktops, hosts[0].promised_mib, hosts[0].revision), (1, 1024, 41));
        let told: Vec<_> =
            desktops.iter().map(|d| (d.placed, d.generation, d.assigned, d.user_id.is_some())).collect();
        assert_eq!(told, [(false, 1, false, true), (true, 3, true, true)]);
        // The one that lives keeps what its pool lets it do now.
        let policies: Vec<_> = desktops.iter().map(|d| d.policy.map(|policy| policy.0)).collect();
        assert_eq!(policies, [None, Some(pools[0].policy.0)]);
        let (groups, sessions, log) = db
            .read(|tx| {
                Ok::<_, Fault>((tx.list(Group::all())?, tx.list(Session::live())?, tx.list(Audit::all())?))
            })
            .await
            .unwrap();
        assert_eq!((groups.len(), sessions.len()), (1, 1));
        assert_eq!(
            log.iter().map(|row| (row.number, row.at, &*row.actor)).collect::<Vec<_>>(),
            [(1, 5, "system"), (2, 5, "ada"), (3, 6, "ada")]
        );
        assert_eq!(audit::verify(&db, &[]).await.unwrap().faults, Vec::<String>::new());
        assert!(log.iter().all(|row| row.hash == audit::hash(row)) && log[1].previous == log[0].hash);
        db.close().await;
    }
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.db");
    Db::sqlite(&file).await.unwrap().close().await;
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 900).unwrap();
    let refused = Db::sqlite(&file).await.unwrap_err().to_string();
    assert!(refused.contains("version 900") && refused.contains("install the release"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_or_lacks_a_column_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.db");
    std::fs::write(&file, "not a database, but long enough to be one at first sight".repeat(99)).unwrap();
    let refused = Db::sqlite(&file).await.unwrap_err().to_string();
    assert!(refused.contains("broker.db: file is not a database"), "{refused}");
    std::fs::remove_file(&file).unwrap();
    Db::sqlite(&file).await.unwrap().close().await;
    let change = "DROP INDEX users_named; ALTER TABLE users DROP COLUMN password_hash";
    Connection::open(&file).unwrap().execute_batch(change).unwrap();
    let refused = Db::sqlite(&file).await.unwrap_err().to_string();
    assert!(refused.contains("the column password_hash of the table users"), "{refused}");
}

#[tokio::test]
async fn sqlite_itself_refuses_to_rewrite_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.db");
    let db = Db::sqlite(&file).await.unwrap();
    db.write(|tx| tx.audit("ada", "x", "y", "z")).await.unwrap();
    let connection = Connection::open(&file).unwrap();
    for sql in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
        let error = connection.execute(sql, []).unwrap_err().to_string();
        assert!(error.contains("audit rows are never"), "{error}");
    }
    db.close().await;
}

#[test]
fn postgres_itself_refuses_to_rewrite_the_audit_log_and_its_schema_is_checked() {
    let server = lucarne_postgres::Server::get().unwrap();
    let database = server.database().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let db = runtime.block_on(Db::postgres(&database.url())).unwrap();
    runtime.block_on(db.write(|tx| tx.audit("ada", "x", "y", "z"))).unwrap();
    runtime.block_on(db.close());
    let mut client = database.connect().unwrap();
    for sql in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"] {
        let error = format!("{:?}", client.batch_execute(sql).unwrap_err());
        assert!(error.contains("audit rows are never"), "{error}");
    }
    client.batch_execute("ALTER TABLE users ALTER name TYPE TEXT COLLATE \"default\"").unwrap();
    let refused = runtime.block_on(Db::postgres(&database.url())).unwrap_err().to_string();
    assert!(refused.contains("the column name of the table users"), "{refused}");
    client.batch_execute("INSERT INTO schema_version VALUES (900)").unwrap();
    let refused = runtime.block_on(Db::postgres(&database.url())).unwrap_err().to_string();
    assert!(refused.contains("version 900"), "{refused}");
}

#[test]
fn a_restart_of_the_server_is_waited_for_and_loses_nothing_that_was_acknowledged() {
    let mut server = lucarne_postgres::Server::start(true).unwrap();
    let database = server.database().unwrap();
    let url = database.url();
    // Dropped without the database's own end: the server goes first.
    std::mem::forget(database);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let db = runtime.block_on(Db::postgres(&url)).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (db, done) = (db.clone(), Arc::clone(&done));
            runtime.spawn(async move {
                let (mut kept, mut unknown) = (Vec::new(), 0);
                for n in 0..150 {
                    let subject = format!("{writer}-{n}");
                    let noted = subject.clone();
                    match db.write(move |tx| tx.audit("ada", "count", &noted, "")).await {
                        Ok(()) => kept.push(subject),
                        Err(Fault::Unknown(_)) => unknown += 1,
                        Err(other) => panic!("{other}"),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                (kept, unknown)
            })
        })
        .collect();
    for restart in 1..=2 {
        while done.load(Ordering::Relaxed) < 200 * restart {
            std::thread::yield_now();
        }
        server.stop();
        server.start_again().unwrap();
    }
    let (mut kept, mut unknown) = (Vec::new(), 0);
    for writer in writers {
        let (noted, lost) = runtime.block_on(writer).unwrap();
        kept.extend(noted);
        unknown += lost;
    }
    let log = runtime.block_on(db.read(|tx| tx.list(Audit::all()))).unwrap();
    let log: Vec<_> = log.into_iter().filter(|row| row.action == "count").collect();
    let there: std::collections::HashSet<_> = log.iter().map(|row| row.subject.clone()).collect();
    assert!(kept.iter().all(|subject| there.contains(subject)), "an acknowledged row is gone");
    assert_eq!(log.len(), there.len(), "a row is there twice");
    assert!(log.len() <= kept.len() + unknown && kept.len() + unknown == 8 * 150);
    runtime.block_on(db.close());
}

/// A log of two strands: the file was opened twice.
async fn a_log(file: &Path) -> Vec<AuditHead> {
    for subject in ["first", "second"] {
        let db = Db::sqlite(file).await.unwrap();
        for n in 0..5 {
            db.write(move |tx| tx.audit("ada", "thing.done", subject, &n.to_string())).await.unwrap();
        }
        db.close().await;
    }
    verify(file, &[]).await.heads
}

async fn verify(file: &Path, known: &[AuditHead]) -> AuditVerified {
    let db = Db::sqlite(file).await.unwrap();
    let verified = audit::verify(&db, known).await.unwrap();
    db.close().await;
    verified
}

#[tokio::test]
async fn what_somebody_does_to_the_log_behind_the_brokers_back_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    let heads = a_log(&whole).await;
    let fine = verify(&whole, &heads).await;
    assert_eq!((fine.faults.len(), fine.rows, heads.len()), (0, 12, 2));
    let cases = [
        ("UPDATE audit SET actor = 'eve' WHERE number = 3 AND subject = 'first'", "was changed"),
        ("DELETE FROM audit WHERE number = 3 AND subject = 'first'", "rows 3 to 3 of the strand"),
        ("DELETE FROM audit WHERE number = 6 AND subject = 'first'", "row 6 of the strand"),
        ("DELETE FROM audit WHERE strand = (SELECT min(strand) FROM audit)", "was there and is gone"),
        (
            "UPDATE audit SET number = 100 - number WHERE number IN (3, 4) AND subject = 'first'",
            "rows 3 to 4 of the strand",
        ),
    ];
    for (sql, wanted) in cases {
        let file = folder.path().join("changed.db");
        std::fs::copy(&whole, &file).unwrap();
        let connection = Connection::open(&file).unwrap();
        connection
            .execute_batch("DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted")
            .unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
        drop(connection);
        let found = verify(&file, &[]).await.faults.join("\n");
        assert!(found.contains(wanted), "{sql}: {found:?}");
    }
    // The end of the newest strand is missed only by who kept its head.
    let file = folder.path().join("cut.db");
    std::fs::copy(&whole, &file).unwrap();
    let cut = "DROP TRIGGER audit_is_not_deleted; DELETE FROM audit WHERE number = 6 AND subject = 'second'";
    Connection::open(&file).unwrap().execute_batch(cut).unwrap();
    assert!(verify(&file, &[]).await.faults.is_empty());
    assert!(verify(&file, &heads).await.faults[0].contains("row 6 of the strand"));
}

#[tokio::test]
async fn a_log_that_was_rewritten_from_end_to_end_is_found_by_who_kept_its_heads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.db");
    let heads = a_log(&file).await;
    let db = Db::sqlite(&file).await.unwrap();
    let mut rows = db.read(|tx| tx.list(Audit::all())).await.unwrap();
    db.close().await;
    rows.sort_by_key(|row| (row.strand, row.number));
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("DROP TRIGGER audit_is_not_changed").unwrap();
    let (mut previous, mut heads_now) = (vec![0; 32], Vec::new());
    for mut row in rows {
        if row.number == 1 {
            previous = vec![0; 32];
            row.detail = serde_json::to_string(&heads_now).unwrap();
        }
        if row.subject == "first" {
            row.actor = "eve".to_owned();
        }
        row.previous = previous;
        row.hash = audit::hash(&row);
        let sql = "UPDATE audit SET actor = ?, detail = ?, previous = ?, hash = ? WHERE id = ?";
        let id = row.id.to_string();
        connection.execute(sql, (&row.actor, &row.detail, &row.previous, &row.hash, &id)).unwrap();
        let hash = row.hash.iter().map(|b| format!("{b:02x}")).collect();
        heads_now = vec![AuditHead { strand: row.strand, number: row.number, hash }];
        previous = row.hash;
    }
    drop(connection);
    assert_eq!(verify(&file, &[]).await.faults, Vec::<String>::new(), "the rewriter was careful");
    assert!(verify(&file, &heads).await.faults[0].contains("is not the one that was there"));
}
