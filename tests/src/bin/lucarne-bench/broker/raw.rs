//! The same transaction by the bare client: the statements that an assignment needs, in their order, prepared once, with
//! the same locks, each with a flush of its own, and nothing decided. On a fresh database, as Lucarne's run was.

use super::{POOLS, Scene};
use anyhow::Result;
use lucarne_db::audit;
use lucarne_db::tables::{Audit, EVERYONE_ID};
use postgres::types::ToSql;
use postgres::{Client, NoTls};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use uuid::Uuid;

/// Connections, as many as Lucarne has.
const CONNECTIONS: usize = 16;

/// A parameter.
enum Is {
    Text(String),
    Int(i64),
    Bytes(Vec<u8>),
    Nothing,
}

fn text(id: impl ToString) -> Is {
    Is::Text(id.to_string())
}

/// The statements of one assignment with their parameters, as PostgreSQL numbers them; `lock` stands for its row locks.
fn statements(
    scene: &Scene,
    n: usize,
    (strand, previous): (Uuid, &mut (i64, Vec<u8>)),
) -> Vec<(&'static str, Vec<Is>)> {
    let (user, pool) = (scene.users[n], scene.pools[n % POOLS]);
    let host = scene.hosts[n % scene.hosts.len()];
    let (desktop, random) = (Uuid::now_v7(), Uuid::new_v4());
    let name = format!("bare-{n}-{random}");
    let mut all = vec![
        ("SELECT * FROM users WHERE id = $1 {share}", vec![text(user)]),
        ("SELECT * FROM pools WHERE name = $1 AND deleted_at IS NULL", vec![text(format!("pool-{}", n % POOLS))]),
        (
            "SELECT * FROM entitlements WHERE pool_id = $1 AND holder_kind = 'user' AND holder = $2",
            vec![text(pool), text(user)],
        ),
        (
            "SELECT * FROM entitlements WHERE pool_id = $1 AND holder_kind = 'group' AND holder = $2",
            vec![text(pool), text(EVERYONE_ID)],
        ),
        (
            "SELECT * FROM assignments WHERE user_id = $1 AND pool_id = $2 AND ended_at IS NULL",
            vec![text(user), text(pool)],
        ),
        ("SELECT * FROM pools WHERE id = $1 {update}", vec![text(pool)]),
        (
            "SELECT * FROM assignments WHERE user_id = $1 AND pool_id = $2 AND ended_at IS NULL",
            vec![text(user), text(pool)],
        ),
        ("SELECT * FROM hosts WHERE id = $1 {update}", vec![text(host)]),
        ("UPDATE pools SET desktops = desktops + 1 WHERE id = $1", vec![text(pool)]),
        (
            "SELECT * FROM assignments WHERE user_id = $1 AND pool_id = $2 ORDER BY id DESC LIMIT 1",
            vec![text(user), text(pool)],
        ),
        (
            "INSERT INTO desktops (id, pool_id, name, machine_id, mac, desired, desired_gen, phase, detail, timings, host_id,
                 generation, placed, user_id, assigned, created_at)
             VALUES ($1, $2, $3, $4, $3, 'running', 1, 'placing', '', '{}', $5, 1, 1, $6, 1, $7)",
            vec![text(desktop), text(pool), Is::Text(name), text(random), text(host), text(user), Is::Int(1)],
        ),
        (
            "INSERT INTO placements (desktop_id, generation, host_id, memory_mib, created_at) VALUES ($1, 1, $2, 1024, $3)",
            vec![text(desktop), text(host), Is::Int(1)],
        ),
        (
            "UPDATE hosts SET revision = revision + 1, desktops = desktops + 1, promised_mib = promised_mib + 1024
             WHERE id = $1",
            vec![text(host)],
        ),
        (
            "INSERT INTO assignments (id, desktop_id, user_id, pool_id, created_at, end_reason) VALUES ($1, $2, $3, $4, $5, $6)",
            vec![text(Uuid::now_v7()), text(desktop), text(user), text(pool), Is::Int(1), Is::Nothing],
        ),
        ("SELECT * FROM sessions WHERE desktop_id = $1 AND ended_at IS NULL", vec![text(desktop)]),
        (
            "INSERT INTO sessions (id, user_id, pool_id, desktop_id, state, created_at) VALUES ($1, $2, $3, $4, 'connecting', $5)",
            vec![text(Uuid::now_v7()), text(user), text(pool), text(desktop), Is::Int(1)],
        ),
    ];
    for action in ["desktop.assigned", "session.created"] {
        let row = Audit {
            id: Uuid::now_v7(),
            strand,
            number: previous.0.unsigned_abs() + 1,
            at: 1,
            actor: format!("user-{n}"),
            action: action.to_owned(),
            subject: desktop.to_string(),
            detail: "a fresh desktop".to_owned(),
            previous: previous.1.clone(),
            hash: Vec::new(),
        };
        let hash = audit::hash(&row);
        all.push((
            "INSERT INTO audit (id, strand, number, at, actor, action, subject, detail, previous, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            vec![
                text(row.id),
                text(strand),
                Is::Int(previous.0 + 1),
                Is::Int(1),
                Is::Text(row.actor),
                Is::Text(row.action),
                Is::Text(row.subject),
                Is::Text(row.detail),
                Is::Bytes(row.previous),
                Is::Bytes(hash.clone()),
            ],
        ));
        *previous = (previous.0 + 1, hash);
    }
    all
}

/// Assignments a second on SQLite, each flushed by itself.
pub fn sqlite(file: &Path, scene: &Scene, work: usize) -> Result<f64> {
    let connection = rusqlite::Connection::open(file)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")?;
    let (strand, mut head) = (Uuid::now_v7(), (0, vec![0; 32]));
    let begun = Instant::now();
    for n in 0..work {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for (sql, parameters) in statements(scene, n, (strand, &mut head)) {
            let sql = sql.replace('$', "?").replace("{share}", "").replace("{update}", "");
            let parameters = parameters.into_iter().map(|p| match p {
                Is::Text(text) => rusqlite::types::Value::Text(text),
                Is::Int(n) => rusqlite::types::Value::Integer(n),
                Is::Bytes(bytes) => rusqlite::types::Value::Blob(bytes),
                Is::Nothing => rusqlite::types::Value::Null,
            });
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
            while rows.next()?.is_some() {}
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
    }
    Ok(work as f64 / begun.elapsed().as_secs_f64())
}

/// Assignments a second on PostgreSQL.
pub fn postgres(url: &str, scene: &Scene, work: usize) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(|| one_connection(url, scene, work, &next))).collect();
        threads
            .into_iter()
            .try_for_each(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a connection's thread panicked")))
    })?;
    Ok(work as f64 / begun.elapsed().as_secs_f64())
}

fn one_connection(url: &str, scene: &Scene, work: usize, next: &AtomicUsize) -> Result<()> {
    let mut client = Client::connect(url, NoTls)?;
    let mut prepared = std::collections::HashMap::new();
    let (strand, mut head) = (Uuid::now_v7(), (0, vec![0; 32]));
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= work {
            return Ok(());
        }
        client.batch_execute("BEGIN")?;
        for (sql, parameters) in statements(scene, n, (strand, &mut head)) {
            let statement = match prepared.get(sql) {
                Some(statement) => statement,
                None => {
                    let text = sql.replace("{share}", "FOR SHARE").replace("{update}", "FOR UPDATE");
                    let statement = client.prepare(&text)?;
                    prepared.entry(sql).or_insert(statement)
                }
            };
            let parameters: Vec<Box<dyn ToSql + Sync>> = parameters
                .into_iter()
                .map(|p| -> Box<dyn ToSql + Sync> {
                    match p {
                        Is::Text(text) => Box::new(text),
                        Is::Int(n) => Box::new(n),
                        Is::Bytes(bytes) => Box::new(bytes),
                        Is::Nothing => Box::new(None::<String>),
                    }
                })
                .collect();
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(AsRef::as_ref).collect();
            client.query(statement, &parameters)?;
        }
        client.batch_execute("COMMIT")?;
    }
}
