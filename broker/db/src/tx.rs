//! A transaction, as the code above sees it: rows by key and by index, locks, new ids, the audit log.
//!
//! Engines differ in what runs beside a transaction: nothing on memory and SQLite, anything on PostgreSQL, whose
//! transactions are READ COMMITTED. So the types ask for what makes all three alike: a row is only changed through
//! [`Locked`], which holds it until the end, and what a decision rests on is taken with [`Tx::share`]. What is only
//! looked at ([`Tx::peek`], [`Tx::list`]) may be old.

use crate::audit::{self, Strand};
use crate::fault::{self, Fault};
use crate::table::{Key, Query, Row, Select, Table};
use crate::tables::Audit;
use crate::value::Value;
use std::ops::{Deref, DerefMut};
use uuid::Uuid;

/// How a row is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lock {
    /// Looked at.
    None,
    /// Nobody changes it until the end of the transaction.
    Share,
    /// Nobody else has it until then.
    Update,
    /// As [`Lock::Update`]; rows that others have are passed over.
    UpdateFree,
}

/// What an engine does within one transaction.
pub trait Statements {
    /// Milliseconds since the epoch by the database's clock, the same throughout a transaction.
    fn now(&self) -> i64;
    /// 16 bytes that order by this transaction's time and are different each time.
    fn uuid(&mut self) -> Uuid;
    /// 122 random bits.
    fn random(&mut self) -> Uuid {
        Uuid::new_v4()
    }
    /// The row of a key.
    fn get(&mut self, table: &'static Table, key: &[Value], lock: Lock) -> Result<Option<Vec<Value>>, Fault>;
    /// The rows of those keys that there are, in any order; the table's key is one column of text.
    fn get_all(&mut self, table: &'static Table, keys: &[Value]) -> Result<Vec<Vec<Value>>, Fault>;
    /// Rows by an index.
    fn select(&mut self, table: &'static Table, query: &Query, lock: Lock) -> Result<Vec<Vec<Value>>, Fault>;
    /// How many rows there are by an index.
    fn count(&mut self, table: &'static Table, query: &Query) -> Result<u64, Fault>;
    /// Adds a row.
    fn insert(&mut self, table: &'static Table, row: &[Value]) -> Result<(), Fault>;
    /// Changes all columns of the row that has this row's key; false when there is none.
    fn update(&mut self, table: &'static Table, row: &[Value]) -> Result<bool, Fault>;
    /// Removes a row; false when there is none.
    fn delete(&mut self, table: &'static Table, key: &[Value]) -> Result<bool, Fault>;
}

/// A row that nobody else can change until the transaction ends.
#[derive(Debug)]
pub struct Locked<R> {
    row: R,
    key: Vec<Value>,
}

impl<R: Row> Locked<R> {
    fn new(row: R) -> Self {
        let key = R::TABLE.key_of(&row.to_values());
        Self { row, key }
    }

    /// The row as it is now.
    #[must_use]
    pub fn into_row(self) -> R {
        self.row
    }
}

impl<R> Deref for Locked<R> {
    type Target = R;
    fn deref(&self) -> &R {
        &self.row
    }
}

impl<R> DerefMut for Locked<R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.row
    }
}

/// A transaction.
pub struct Tx<'a> {
    statements: &'a mut dyn Statements,
    strand: Strand,
    /// The first fault that was met: nothing of the transaction is kept.
    met: Option<Fault>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(statements: &'a mut dyn Statements, strand: Strand) -> Self {
        Self { statements, strand, met: None }
    }

    /// What is left of it when its work is done: where its audit rows ended, and the first fault that was met.
    pub(crate) fn end(self) -> (Strand, Option<Fault>) {
        (self.strand, self.met)
    }

    fn noted<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(fault) = &result {
            self.met.get_or_insert_with(|| fault.clone());
        }
        result
    }

    /// Has the whole transaction rolled back and run again: what it rests on has changed under it. What this gives is to be
    /// returned.
    pub fn again(&mut self, why: &str) -> Fault {
        let fault = Fault::Contended(why.to_owned());
        self.met.get_or_insert_with(|| fault.clone());
        fault
    }

    fn row<R: Row>(values: Vec<Value>) -> Result<R, Fault> {
        R::from_values(values).map_err(|e| fault::corrupt(R::TABLE.name, e))
    }

    fn get<R: Row>(&mut self, key: &Key<R>, lock: Lock) -> Result<Option<R>, Fault> {
        let values = self.statements.get(R::TABLE, &key.values, lock);
        self.noted(values)?.map(Self::row).transpose()
    }

    fn rows<R: Row>(&mut self, select: &Select<R>, lock: Lock) -> Result<Vec<R>, Fault> {
        let rows = self.statements.select(R::TABLE, &select.query, lock);
        self.noted(rows)?.into_iter().map(Self::row).collect()
    }

    /// Milliseconds since the epoch by the database's clock, the same throughout the transaction.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.statements.now()
    }

    /// A new id (UUIDv7, RFC 9562 section 5.7) of this transaction's time.
    pub fn uuid(&mut self) -> Uuid {
        self.statements.uuid()
    }

    /// 122 random bits (UUIDv4, RFC 9562 section 5.4).
    pub fn random(&mut self) -> Uuid {
        self.statements.random()
    }

    /// The row of a key, as it was last committed: it may change at any time.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn peek<R: Row>(&mut self, key: Key<R>) -> Result<Option<R>, Fault> {
        self.get(&key, Lock::None)
    }

    /// The row of a key, which nobody changes until the end of the transaction.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn share<R: Row>(&mut self, key: Key<R>) -> Result<Option<R>, Fault> {
        self.get(&key, Lock::Share)
    }

    /// The row of a key, for change.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn lock<R: Row>(&mut self, key: Key<R>) -> Result<Option<Locked<R>>, Fault> {
        Ok(self.get(&key, Lock::Update)?.map(Locked::new))
    }

    /// The rows of those ids that there are, in any order. For tables whose key is one column of text.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn peek_all<R: Row>(&mut self, keys: impl IntoIterator<Item = Key<R>>) -> Result<Vec<R>, Fault> {
        let mut keys: Vec<Value> = keys.into_iter().flat_map(|key| key.values).collect();
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.statements.get_all(R::TABLE, &keys);
        self.noted(rows)?.into_iter().map(Self::row).collect()
    }

    /// Rows by an index, as they were last committed.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn list<R: Row>(&mut self, select: Select<R>) -> Result<Vec<R>, Fault> {
        self.rows(&select, Lock::None)
    }

    /// The first row by an index, as it was last committed.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn find<R: Row>(&mut self, select: Select<R>) -> Result<Option<R>, Fault> {
        Ok(self.rows(&select.limit(1), Lock::None)?.pop())
    }

    /// The first row by an index, which nobody changes until the end of the transaction.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn share_first<R: Row>(&mut self, select: Select<R>) -> Result<Option<R>, Fault> {
        Ok(self.rows(&select.limit(1), Lock::Share)?.pop())
    }

    /// Rows by an index, for change.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn lock_list<R: Row>(&mut self, select: Select<R>) -> Result<Vec<Locked<R>>, Fault> {
        Ok(self.rows(&select, Lock::Update)?.into_iter().map(Locked::new).collect())
    }

    /// The first row by an index, for change.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn lock_first<R: Row>(&mut self, select: Select<R>) -> Result<Option<Locked<R>>, Fault> {
        Ok(self.rows(&select.limit(1), Lock::Update)?.pop().map(Locked::new))
    }

    /// Rows by an index that nobody else has, for change.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn claim<R: Row>(&mut self, select: Select<R>) -> Result<Vec<Locked<R>>, Fault> {
        Ok(self.rows(&select, Lock::UpdateFree)?.into_iter().map(Locked::new).collect())
    }

    /// How many rows there are by an index.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn count<R: Row>(&mut self, select: Select<R>) -> Result<u64, Fault> {
        let query = Query { limit: usize::MAX, ..select.query };
        let count = self.statements.count(R::TABLE, &query);
        self.noted(count)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Fault::Double`], after which the transaction is tried again, or a fault of the database.
    pub fn insert<R: Row>(&mut self, row: &R) -> Result<(), Fault> {
        let done = self.statements.insert(R::TABLE, &row.to_values());
        self.noted(done)
    }

    /// Keeps a locked row as it is now.
    ///
    /// # Errors
    /// [`Fault::Double`], after which the transaction is tried again, or a fault of the database.
    ///
    /// # Panics
    /// In tests, when the row's key was changed.
    pub fn update<R: Row>(&mut self, row: &Locked<R>) -> Result<(), Fault> {
        let values = row.row.to_values();
        debug_assert_eq!(R::TABLE.key_of(&values), row.key, "a key is never changed");
        let done = self.statements.update(R::TABLE, &values);
        if self.noted(done)? {
            Ok(())
        } else {
            Err(Fault::Engine(format!("a locked row of {} was not there to be changed", R::TABLE.name)))
        }
    }

    /// Removes a locked row.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn delete<R: Row>(&mut self, row: Locked<R>) -> Result<(), Fault> {
        self.remove(Key::<R>::new(row.key)).map(drop)
    }

    /// Removes the row of a key; tells whether there was one.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn remove<R: Row>(&mut self, key: Key<R>) -> Result<bool, Fault> {
        let done = self.statements.delete(R::TABLE, &key.values);
        self.noted(done)
    }

    /// Writes to the audit log what this transaction does. `actor` is a user's name or `system`.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn audit(&mut self, actor: &str, action: &str, subject: &str, detail: &str) -> Result<(), Fault> {
        if self.strand.number.is_multiple_of(audit::AGAIN) {
            let names = if self.strand.number == 0 { audit::BEGAN } else { audit::NAMES };
            let heads = audit::heads(self)?;
            let strand = self.strand.id.to_string();
            self.append("system", names, &strand, &audit::heads_text(&heads))?;
        }
        self.append(actor, action, subject, detail)
    }

    fn append(&mut self, actor: &str, action: &str, subject: &str, detail: &str) -> Result<(), Fault> {
        let mut row = Audit {
            id: self.uuid(),
            strand: self.strand.id,
            number: self.strand.number + 1,
            at: self.now(),
            actor: audit::kept(actor),
            action: audit::kept(action),
            subject: audit::kept(subject),
            detail: audit::kept(detail),
            previous: self.strand.hash.clone(),
            hash: Vec::new(),
        };
        row.hash = audit::hash(&row);
        self.insert(&row)?;
        self.strand.number = row.number;
        self.strand.hash = row.hash;
        Ok(())
    }
}
