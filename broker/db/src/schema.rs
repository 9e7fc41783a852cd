//! Databases are brought up to date by migrations, and checked to be what [`tables`](crate::tables) declares.
//!
//! A migration expands: what the version before works with stays until no broker of it is left, and a later one contracts.

use crate::audit::{self, Strand};
use crate::fault::Fault;
use crate::table::{Index, Table};
use crate::tables::{self, Audit};
use crate::value::Kind;
use crate::{Row, ids::Ids};
use postgres::Client;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use uuid::Uuid;

macro_rules! migrations {
    ($engine:literal: $($name:literal),+ $(,)?) => {
        &[ $( include_str!(concat!("../migrations/", $engine, "/", $name, ".sql")) ),+ ]
    };
}

const SQLITE: &[&str] = migrations!("sqlite": "0001_initial", "0002_viewer_roles", "0003_pool_audio", "0004_recording", "0005_pool_clipboard", "0006_tables", "0007_brokers", "0008_enrollment", "0009_drain", "0010_launch", "0011_desktop_policy", "0012_permissions", "0013_idempotency", "0014_pool_rules", "0015_scoped_roles", "0016_home_disks", "0017_snapshots", "0018_clones");

/// The migration that gives the audit log its chain.
const CHAINED: usize = 6;

const POSTGRES: &[&str] = migrations!("postgres": "0001_first", "0002_brokers", "0003_enrollment", "0004_drain", "0005_launch", "0006_desktop_policy", "0007_permissions", "0008_idempotency", "0009_pool_rules", "0010_scoped_roles", "0011_home_disks", "0012_snapshots", "0013_clones");

/// Any number that nothing else locks: brokers that start at once migrate one after the other.
const MIGRATION_LOCK: i64 = 0x6c75_6361_726e_6521;

fn engine(error: impl std::fmt::Display) -> Fault {
    Fault::Engine(error.to_string())
}

fn newer(version: usize, latest: usize) -> Fault {
    Fault::Schema(format!(
        "its schema has version {version}, and this program knows versions up to {latest}; install the release of Lucarne \
         that it was last used with, or a newer one"
    ))
}

pub(crate) fn migrate_sqlite(connection: &mut Connection) -> Result<(), Fault> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(engine)?;
    let counted: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(engine)?;
    let mut version = counted as usize;
    if version == 0 {
        // Databases of the first releases count theirs in a table.
        let known = "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
        if tx.query_row(known, [], |row| row.get::<_, i64>(0)).map_err(engine)? > 0 {
            let last =
                tx.query_row("SELECT max(version) FROM _sqlx_migrations", [], |row| row.get::<_, u32>(0));
            version = last.map_err(engine)? as usize;
        }
    }
    if version > SQLITE.len() {
        return Err(newer(version, SQLITE.len()));
    }
    for (i, migration) in SQLITE.iter().enumerate().skip(version) {
        tx.execute_batch(migration).map_err(engine)?;
        if i + 1 == CHAINED {
            chain_old_log(&tx)?;
        }
    }
    tx.pragma_update(None, "user_version", u32::try_from(SQLITE.len()).unwrap_or(u32::MAX))
        .map_err(engine)?;
    for table in tables::ALL {
        check_sqlite(&tx, table)?;
    }
    tx.commit().map_err(engine)
}

/// Puts the rows of a log without a chain into a strand of their own.
fn chain_old_log(connection: &Connection) -> Result<(), Fault> {
    let mut strand = Strand::new();
    let mut ids = Ids::default();
    let old = "SELECT at, actor, action, subject, detail FROM old_audit ORDER BY seq";
    let mut old = connection.prepare(old).map_err(engine)?;
    let mut rows = old.query([]).map_err(engine)?;
    while let Some(row) = rows.next().map_err(engine)? {
        let at: i64 = row.get(0).map_err(engine)?;
        let text = |i: usize| row.get::<_, String>(i).map_err(engine);
        let texts = [text(1)?, text(2)?, text(3)?, text(4)?];
        if strand.number == 0 {
            let began = ["system", audit::BEGAN, &strand.id.to_string(), "[]"].map(str::to_owned);
            append(connection, &mut strand, ids.next_random(at), at, began)?;
        }
        append(connection, &mut strand, ids.next_random(at), at, texts)?;
    }
    drop(rows);
    drop(old);
    connection.execute_batch("DROP TABLE old_audit").map_err(engine)
}

fn append(
    connection: &Connection,
    strand: &mut Strand,
    id: Uuid,
    at: i64,
    texts: [String; 4],
) -> Result<(), Fault> {
    let [actor, action, subject, detail] = texts.map(|text| audit::kept(&text));
    let (number, previous) = (strand.number + 1, strand.hash.clone());
    let mut row = Audit {
        id,
        strand: strand.id,
        number,
        at,
        actor,
        action,
        subject,
        detail,
        previous,
        hash: Vec::new(),
    };
    row.hash = audit::hash(&row);
    let sql = crate::sql::insert(crate::sql::Dialect::Sqlite, Audit::TABLE);
    connection.execute(&sql, rusqlite::params_from_iter(row.to_values())).map_err(engine)?;
    (strand.number, strand.hash) = (row.number, row.hash);
    Ok(())
}

fn is_not(table: &Table, what: &str, found: &str, wanted: &str) -> Fault {
    Fault::Schema(format!("{} of the table {} is {found:?} and should be {wanted:?}", what, table.name))
}

/// The statement that makes an index, as databases repeat it.
fn index_sql(table: &Table, index: &Index, schema: &str, method: &str) -> String {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let live = match (index.live, method.is_empty()) {
        (Some(live), true) => format!(" WHERE {live} IS NULL"),
        (Some(live), false) => format!(" WHERE ({live} IS NULL)"),
        (None, _) => String::new(),
    };
    let (name, columns) = (table.name, index.columns.join(", "));
    format!("CREATE {unique}INDEX {name}_{} ON {schema}{name} {method}({columns}){live}", index.name)
}

fn check_sqlite(connection: &Connection, table: &Table) -> Result<(), Fault> {
    let sql = "SELECT type, \"notnull\", pk FROM pragma_table_info(?1) WHERE name = ?2";
    let mut columns = connection.prepare(sql).map_err(engine)?;
    for column in table.columns {
        let kind = match column.kind {
            Kind::Int => "INTEGER",
            Kind::Text => "TEXT",
            Kind::Blob => "BLOB",
        };
        let key = table.key.iter().position(|k| *k == column.name).map_or(0, |at| at + 1);
        let wanted = format!("{kind}, not null {}, key {key}", !column.nullable);
        let found = columns
            .query_row([table.name, column.name], |row| {
                let (kind, not_null, key): (String, bool, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(format!("{kind}, not null {not_null}, key {key}"))
            })
            .optional()
            .map_err(engine)?
            .unwrap_or_else(|| "missing".to_owned());
        if found != wanted {
            return Err(is_not(table, &format!("the column {}", column.name), &found, &wanted));
        }
    }
    let mut indexes = connection.prepare("SELECT sql FROM sqlite_master WHERE name = ?1").map_err(engine)?;
    for index in table.indexes {
        let wanted = index_sql(table, index, "", "");
        let name = format!("{}_{}", table.name, index.name);
        let found: Option<String> =
            indexes.query_row([&name], |row| row.get(0)).optional().map_err(engine)?;
        let found = found.unwrap_or_else(|| "missing".to_owned());
        if found != wanted {
            return Err(is_not(table, "an index", &found, &wanted));
        }
    }
    Ok(())
}

pub(crate) fn migrate_postgres(client: &mut Client) -> Result<(), Fault> {
    let mut tx = client.transaction().map_err(engine)?;
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).map_err(engine)?;
    tx.batch_execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .map_err(engine)?;
    let row = tx.query_one("SELECT coalesce(max(version), 0) FROM schema_version", &[]).map_err(engine)?;
    let version = usize::try_from(row.get::<_, i64>(0)).unwrap_or(0);
    if version > POSTGRES.len() {
        return Err(newer(version, POSTGRES.len()));
    }
    for (i, migration) in POSTGRES.iter().enumerate().skip(version) {
        let applied = tx.batch_execute(migration);
        applied.map_err(|e| Fault::Engine(format!("migration {} failed: {e:?}", i + 1)))?;
        let done = i64::try_from(i + 1).unwrap_or(i64::MAX);
        tx.execute("INSERT INTO schema_version (version) VALUES ($1)", &[&done]).map_err(engine)?;
    }
    let schema: String = tx.query_one("SELECT current_schema()", &[]).map_err(engine)?.get(0);
    for table in tables::ALL {
        check_postgres(&mut tx, &schema, table)?;
    }
    tx.commit().map_err(engine)
}

fn check_postgres(tx: &mut postgres::Transaction<'_>, schema: &str, table: &Table) -> Result<(), Fault> {
    let sql = "SELECT format('%s, nullable %s%s', data_type, is_nullable, ', collation ' || collation_name)
               FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 AND column_name = $3";
    for column in table.columns {
        let nullable = if column.nullable { "YES" } else { "NO" };
        let wanted = match column.kind {
            Kind::Int => format!("bigint, nullable {nullable}"),
            Kind::Text => format!("text, nullable {nullable}, collation C"),
            Kind::Blob => format!("bytea, nullable {nullable}"),
        };
        let row = tx.query_opt(sql, &[&schema, &table.name, &column.name]).map_err(engine)?;
        let found = row.map_or_else(|| "missing".to_owned(), |row| row.get(0));
        if found != wanted {
            return Err(is_not(table, &format!("the column {}", column.name), &found, &wanted));
        }
    }
    let sql = "SELECT indexdef FROM pg_indexes WHERE schemaname = $1 AND indexname = $2";
    let place = format!("{schema}.");
    let mut wanted: Vec<(String, String)> = (table.indexes.iter())
        .map(|index| {
            (format!("{}_{}", table.name, index.name), index_sql(table, index, &place, "USING btree "))
        })
        .collect();
    let (key, columns) = (format!("{}_pkey", table.name), table.key.join(", "));
    let by_key = format!("CREATE UNIQUE INDEX {key} ON {place}{} USING btree ({columns})", table.name);
    wanted.push((key, by_key));
    for (name, wanted) in wanted {
        let row = tx.query_opt(sql, &[&schema, &name]).map_err(engine)?;
        let found = row.map_or_else(|| "missing".to_owned(), |row| row.get(0));
        if found != wanted {
            return Err(is_not(table, "an index", &found, &wanted));
        }
    }
    Ok(())
}

/// The statements that make everything that is declared.
#[cfg(test)]
pub(crate) fn declared(dialect: crate::sql::Dialect) -> String {
    use crate::sql::Dialect;
    use std::fmt::Write;
    let mut sql = String::new();
    for table in tables::ALL {
        let lines: Vec<String> = (table.columns.iter())
            .map(|column| {
                let kind = match (dialect, column.kind) {
                    (Dialect::Sqlite, Kind::Int) => "INTEGER",
                    (Dialect::Sqlite, Kind::Text) => "TEXT",
                    (Dialect::Sqlite, Kind::Blob) => "BLOB",
                    (Dialect::Postgres, Kind::Int) => "BIGINT",
                    (Dialect::Postgres, Kind::Text) => "TEXT COLLATE \"C\"",
                    (Dialect::Postgres, Kind::Blob) => "BYTEA",
                };
                format!("    {} {kind}{}", column.name, if column.nullable { "" } else { " NOT NULL" })
            })
            .chain([format!("    PRIMARY KEY ({})", table.key.join(", "))])
            .collect();
        let strict = if dialect == Dialect::Sqlite { " STRICT, WITHOUT ROWID" } else { "" };
        let _ = writeln!(sql, "CREATE TABLE {} (\n{}\n){strict};", table.name, lines.join(",\n"));
        for index in table.indexes {
            let _ = writeln!(sql, "{};", index_sql(table, index, "", ""));
        }
        sql.push('\n');
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "prints what a new migration has to lead to"]
    fn print() {
        println!(
            "{}\n=====\n{}",
            declared(crate::sql::Dialect::Sqlite),
            declared(crate::sql::Dialect::Postgres)
        );
    }
}
