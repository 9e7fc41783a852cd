//! The few statements that engines need, as SQL of a dialect, for whatever runs SQL.

use crate::fault::Fault;
use crate::table::{Query, Table};
use crate::tx::{Lock, Statements};
use crate::value::Value;
use std::fmt::Write;
use uuid::Uuid;

/// A transaction of a database that speaks SQL.
pub(crate) trait Sql {
    const DIALECT: Dialect;
    /// As [`Statements::now`].
    fn time(&self) -> i64;
    /// As [`Statements::uuid`].
    fn id(&mut self) -> Uuid;
    /// The first `width` columns of what a query gives.
    fn rows(&mut self, sql: &str, width: usize, parameters: &[Value]) -> Result<Vec<Vec<Value>>, Fault>;
    /// As [`Sql::rows`], for [`get_all`].
    fn rows_of(&mut self, sql: &str, width: usize, keys: &[&str]) -> Result<Vec<Vec<Value>>, Fault>;
    /// Changes rows; tells whether there was one to change.
    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<bool, Fault>;
}

impl<S: Sql> Statements for S {
    fn now(&self) -> i64 {
        self.time()
    }

    fn uuid(&mut self) -> Uuid {
        self.id()
    }

    fn get(&mut self, table: &'static Table, key: &[Value], lock: Lock) -> Result<Option<Vec<Value>>, Fault> {
        Ok(self.rows(&get(S::DIALECT, table, lock), table.columns.len(), key)?.pop())
    }

    fn get_all(&mut self, table: &'static Table, keys: &[Value]) -> Result<Vec<Vec<Value>>, Fault> {
        let keys: Vec<&str> = keys.iter().filter_map(Value::text).collect();
        self.rows_of(&get_all(S::DIALECT, table), table.columns.len(), &keys)
    }

    fn select(&mut self, table: &'static Table, query: &Query, lock: Lock) -> Result<Vec<Vec<Value>>, Fault> {
        let sql = select(S::DIALECT, table, query, lock);
        self.rows(&sql, table.columns.len(), &parameters(query, true))
    }

    fn count(&mut self, table: &'static Table, query: &Query) -> Result<u64, Fault> {
        let rows = self.rows(&count(S::DIALECT, table, query), 1, &parameters(query, false))?;
        match rows.first().and_then(|row| row.first()) {
            Some(Value::Int(n)) => Ok(n.unsigned_abs()),
            _ => Err(Fault::Engine("a count gave no number".to_owned())),
        }
    }

    fn insert(&mut self, table: &'static Table, row: &[Value]) -> Result<(), Fault> {
        self.execute(&insert(S::DIALECT, table), row).map(drop)
    }

    fn update(&mut self, table: &'static Table, row: &[Value]) -> Result<bool, Fault> {
        match update(S::DIALECT, table) {
            Some(sql) => self.execute(&sql, row),
            None => Ok(self.get(table, &table.key_of(row), Lock::None)?.is_some()),
        }
    }

    fn delete(&mut self, table: &'static Table, key: &[Value]) -> Result<bool, Fault> {
        self.execute(&delete(S::DIALECT, table), key)
    }
}

/// The values of a query's parameters.
fn parameters(query: &Query, limited: bool) -> Vec<Value> {
    let mut all = query.prefix.clone();
    all.extend(query.bounds().map(|(_, bound)| bound.clone()));
    if limited && query.limit != usize::MAX {
        all.push(Value::Int(i64::try_from(query.limit).unwrap_or(i64::MAX)));
    }
    all
}

/// What differs between databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// The parameter of that number, from 1.
    fn parameter(self, number: usize) -> String {
        match self {
            Self::Sqlite => format!("?{number}"),
            Self::Postgres => format!("${number}"),
        }
    }

    /// SQLite has one writer, so whatever a transaction looks at is its own.
    fn lock(self, lock: Lock) -> &'static str {
        match (self, lock) {
            (Self::Sqlite, _) | (_, Lock::None) => "",
            (Self::Postgres, Lock::Share) => " FOR SHARE",
            (Self::Postgres, Lock::Update) => " FOR UPDATE",
            (Self::Postgres, Lock::UpdateFree) => " FOR UPDATE SKIP LOCKED",
        }
    }
}

fn columns(table: &Table) -> String {
    table.columns.iter().map(|c| c.name).collect::<Vec<_>>().join(", ")
}

/// `a = ?1 AND b = ?2`, from the parameter after `before`.
fn equal(dialect: Dialect, names: &[&str], before: usize) -> String {
    let terms = names.iter().enumerate().map(|(i, n)| format!("{n} = {}", dialect.parameter(before + i + 1)));
    terms.collect::<Vec<_>>().join(" AND ")
}

/// Parameters: the key.
fn get(dialect: Dialect, table: &Table, lock: Lock) -> String {
    let (columns, name) = (columns(table), table.name);
    format!("SELECT {columns} FROM {name} WHERE {}{}", equal(dialect, table.key, 0), dialect.lock(lock))
}

/// Parameters: the keys, as a JSON array for SQLite and as an array for PostgreSQL.
fn get_all(dialect: Dialect, table: &Table) -> String {
    let (columns, name, key) = (columns(table), table.name, table.key[0]);
    match dialect {
        Dialect::Sqlite => {
            format!("SELECT {columns} FROM {name} WHERE {key} IN (SELECT value FROM json_each(?1))")
        }
        Dialect::Postgres => format!("SELECT {columns} FROM {name} WHERE {key} = ANY($1)"),
    }
}

/// The condition of a query. Parameters: the prefix, then the bounds.
fn condition(dialect: Dialect, table: &Table, query: &Query) -> String {
    let ordered = query.columns(table);
    let mut terms = Vec::new();
    let mut number = query.prefix.len();
    if number > 0 {
        terms.push(equal(dialect, &ordered[..number], 0));
    }
    let next = ordered.get(number);
    for (sign, _) in query.bounds() {
        if let Some(column) = next {
            number += 1;
            terms.push(format!("{column} {sign} {}", dialect.parameter(number)));
        }
    }
    if let Some(live) = query.index.and_then(|index| index.live) {
        terms.push(format!("{live} IS NULL"));
    }
    if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) }
}

/// Parameters: those of the condition, then the limit.
fn select(dialect: Dialect, table: &Table, query: &Query, lock: Lock) -> String {
    let mut sql =
        format!("SELECT {} FROM {}{}", columns(table), table.name, condition(dialect, table, query));
    let direction = if query.newest_first { " DESC" } else { "" };
    let ordered = query.columns(table);
    // What is the same in all rows orders nothing.
    let by: Vec<String> = ordered[query.prefix.len()..].iter().map(|c| format!("{c}{direction}")).collect();
    if !by.is_empty() {
        let _ = write!(sql, " ORDER BY {}", by.join(", "));
    }
    if query.limit != usize::MAX {
        let bounds = query.bounds().count();
        let _ = write!(sql, " LIMIT {}", dialect.parameter(query.prefix.len() + bounds + 1));
    }
    sql + dialect.lock(lock)
}

/// Parameters: those of the condition.
fn count(dialect: Dialect, table: &Table, query: &Query) -> String {
    format!("SELECT count(*) FROM {}{}", table.name, condition(dialect, table, query))
}

/// Parameters: the row.
pub(crate) fn insert(dialect: Dialect, table: &Table) -> String {
    let parameters: Vec<_> = (1..=table.columns.len()).map(|n| dialect.parameter(n)).collect();
    format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns(table), parameters.join(", "))
}

/// Parameters: the row. `None` where there is nothing but the key.
fn update(dialect: Dialect, table: &Table) -> Option<String> {
    let set: Vec<_> = (table.columns.iter().enumerate())
        .filter(|(_, c)| !table.key.contains(&c.name))
        .map(|(i, c)| format!("{} = {}", c.name, dialect.parameter(i + 1)))
        .collect();
    let key: Vec<_> = (table.key.iter())
        .map(|name| format!("{name} = {}", dialect.parameter(table.position(name) + 1)))
        .collect();
    let update = format!("UPDATE {} SET {} WHERE {}", table.name, set.join(", "), key.join(" AND "));
    (!set.is_empty()).then_some(update)
}

/// Parameters: the key.
fn delete(dialect: Dialect, table: &Table) -> String {
    format!("DELETE FROM {} WHERE {}", table.name, equal(dialect, table.key, 0))
}
