//! The engine for simulations and tests: tables in memory, one transaction at a time, time and ids from outside.
//!
//! A job is run where it is submitted, so a simulation decides what happens in which order, and the same seed gives the
//! same.

use crate::Db;
use crate::audit::Strand;
use crate::engine::{Engine, Job, Mode, Ran, TRIES, closed, run};
use crate::fault::Fault;
use crate::ids::Ids;
use crate::table::{Index, Query, Table};
use crate::tables;
use crate::tx::{Lock, Statements};
use crate::value::Value;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Tells the time: milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

type Values = Vec<Value>;

pub(crate) struct Memory {
    state: Mutex<State>,
    clock: Clock,
}

struct State {
    tables: HashMap<&'static str, Kept>,
    strand: Strand,
    ids: Ids,
    seed: u64,
    closed: bool,
}

/// A table's rows and indexes. The key of an index is its columns and then the row's key.
#[derive(Clone, Default)]
struct Kept {
    rows: BTreeMap<Values, Values>,
    indexes: HashMap<&'static str, BTreeMap<Values, Values>>,
}

impl Memory {
    pub fn new(clock: Clock, seed: u64) -> Self {
        let tables = tables::ALL.iter().map(|table| (table.name, Kept::default())).collect();
        let strand = Strand { id: Uuid::from_u64_pair(seed, seed), number: 0, hash: vec![0; 32] };
        let mut state = State { tables, strand, ids: Ids::default(), seed, closed: false };
        for (table, row) in tables::first_rows() {
            state.table(table).put(table, row);
        }
        Self { state: Mutex::new(state), clock }
    }
}

impl Engine for Memory {
    fn submit(&self, mode: Mode, mut job: Box<dyn Job>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return job.done(Err(closed()));
        }
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            let strand = state.strand.clone();
            let mut open = Open { now: (self.clock)(), undo: Vec::new(), state: &mut state };
            let ran = run(&mut *job, &mut open, &strand);
            outcome = Ok(());
            match ran {
                Ran::Keep(strand) if mode == Mode::Write => {
                    state.strand = strand;
                    break;
                }
                Ran::Keep(_) | Ran::Drop => {
                    open.roll_back();
                    break;
                }
                Ran::Failed(fault) => {
                    open.roll_back();
                    outcome = Err(fault);
                    break;
                }
                Ran::Again(fault) => {
                    open.roll_back();
                    outcome = Err(fault);
                }
            }
        }
        drop(state);
        job.done(outcome);
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }
}

impl State {
    /// The next by SplitMix64: each follows from the seed, and differs in all places.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn table(&mut self, table: &'static Table) -> &mut Kept {
        self.tables.entry(table.name).or_default()
    }
}

fn pick(table: &Table, columns: &[&str], row: &[Value]) -> Values {
    columns.iter().map(|column| row[table.position(column)].clone()).collect()
}

/// The row's place in an index, if it is in it.
fn place(table: &Table, index: &Index, row: &[Value]) -> Option<Values> {
    if index.live.is_some_and(|live| row[table.position(live)] != Value::Null) {
        return None;
    }
    let mut place = pick(table, index.columns, row);
    place.extend(table.key_of(row));
    Some(place)
}

impl Kept {
    fn put(&mut self, table: &'static Table, row: Values) {
        for index in table.indexes {
            if let Some(place) = place(table, index, &row) {
                self.indexes.entry(index.name).or_default().insert(place, table.key_of(&row));
            }
        }
        self.rows.insert(table.key_of(&row), row);
    }

    fn take(&mut self, table: &'static Table, key: &[Value]) -> Option<Values> {
        let row = self.rows.remove(key)?;
        for index in table.indexes {
            if let Some(place) = place(table, index, &row)
                && let Some(places) = self.indexes.get_mut(index.name)
            {
                places.remove(&place);
            }
        }
        Some(row)
    }

    /// The unique index that has this row's values in another row.
    fn double(&self, table: &'static Table, row: &[Value]) -> Option<&'static Index> {
        let key = table.key_of(row);
        table.indexes.iter().copied().filter(|index| index.unique).find(|index| {
            let values = pick(table, index.columns, row);
            // SQL: nothing is not the same as nothing.
            if place(table, index, row).is_none() || values.contains(&Value::Null) {
                return false;
            }
            let Some(places) = self.indexes.get(index.name) else { return false };
            let same = places.range(values.clone()..).take_while(|(place, _)| place.starts_with(&values));
            same.into_iter().any(|(_, other)| *other != key)
        })
    }

    /// The keys of rows by an index, in order.
    fn keys(&self, query: &Query) -> Vec<&Values> {
        let from = match &query.after {
            // Nothing that has this value itself.
            Some(after) => {
                let from: Values = query.prefix.iter().chain([after]).cloned().collect();
                Bound::Included(from)
            }
            None => Bound::Included(query.prefix.clone()),
        };
        let next = query.prefix.len();
        let within = |place: &Values| {
            place.starts_with(&query.prefix)
                && query.up_to.as_ref().is_none_or(|most| place[next] <= *most)
                && query.before.as_ref().is_none_or(|before| place[next] < *before)
        };
        let beyond = |place: &Values| query.after.as_ref().is_none_or(|after| place[next] > *after);
        let range = (from, Bound::Unbounded);
        let limit = if query.newest_first { usize::MAX } else { query.limit };
        let mut keys: Vec<&Values> = match query.index {
            None => {
                let rows = self.rows.range(range).map(|(key, _)| key).take_while(|key| within(key));
                rows.filter(|key| beyond(key)).take(limit).collect()
            }
            Some(index) => {
                let Some(places) = self.indexes.get(index.name) else { return Vec::new() };
                let places = places.range(range).take_while(|(place, _)| within(place));
                places.filter(|(place, _)| beyond(place)).map(|(_, key)| key).take(limit).collect()
            }
        };
        if query.newest_first {
            keys.reverse();
            keys.truncate(query.limit);
        }
        keys
    }
}

/// A database in memory that a simulation has in its hand.
#[derive(Clone)]
pub struct Simulated(Arc<Memory>);

/// What was in it at some time.
pub struct Snapshot(HashMap<&'static str, Kept>);

impl Simulated {
    /// An empty one, whose time is `clock`'s and whose ids follow from `seed`.
    #[must_use]
    pub fn new(clock: Clock, seed: u64) -> Self {
        Self(Arc::new(Memory::new(clock, seed)))
    }

    /// It, at once and without faults.
    #[must_use]
    pub fn direct(&self) -> Db {
        Db { engine: Arc::clone(&self.0) as Arc<dyn Engine>, name: "memory".into() }
    }

    /// It, through a gate.
    #[must_use]
    pub fn through(&self, gate: Gate) -> Db {
        Db { engine: Arc::new(Gated { memory: Arc::clone(&self.0), gate }), name: "memory".into() }
    }

    /// A backup.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.0.state.lock().unwrap_or_else(PoisonError::into_inner).tables.clone())
    }

    /// Puts a backup back. What is made from now on has new ids.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tables.clone_from(&snapshot.0);
        let id = Uuid::from_u64_pair(state.random(), state.random());
        state.strand = Strand { id, number: 0, hash: vec![0; 32] };
    }
}

/// Transactions on a memory that somebody else lets run, when and if they like: what a simulation puts between a broker and
/// its database.
struct Gated {
    memory: Arc<Memory>,
    gate: Gate,
}

/// Takes transactions, to let them run.
pub type Gate = Arc<dyn Fn(Pending) + Send + Sync>;

/// A transaction that waits to be run. Dropped, it is not run, and whoever waits for it hears that it failed.
pub struct Pending {
    memory: Arc<Memory>,
    mode: Mode,
    job: Box<dyn Job>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending({:?})", self.mode)
    }
}

impl Pending {
    /// It may change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.mode == Mode::Write
    }

    /// Runs it.
    pub fn run(self) {
        self.memory.submit(self.mode, self.job);
    }

    /// Does not run it: the database was not reached.
    pub fn refuse(self) {
        self.job.done(Err(Fault::Unavailable("the simulation has it so".to_owned())));
    }

    /// Runs it, and loses the answer on the way back.
    pub fn lose_answer(self) {
        let lost = Box::new(Lost(Some(self.job)));
        self.memory.submit(self.mode, lost);
    }
}

/// A job whose answer is lost.
struct Lost(Option<Box<dyn Job>>);

impl Job for Lost {
    fn run(&mut self, tx: &mut crate::tx::Tx<'_>) -> bool {
        self.0.as_mut().is_some_and(|job| job.run(tx))
    }

    fn is_awaited(&self) -> bool {
        true
    }

    fn done(mut self: Box<Self>, _: Result<(), Fault>) {
        if let Some(job) = self.0.take() {
            job.done(Err(Fault::Unknown("the simulation has it so".to_owned())));
        }
    }
}

impl Engine for Gated {
    fn submit(&self, mode: Mode, job: Box<dyn Job>) {
        (self.gate)(Pending { memory: Arc::clone(&self.memory), mode, job });
    }

    fn close(&self) {}
}

/// A transaction, with what takes it back.
struct Open<'a> {
    now: i64,
    undo: Vec<(&'static Table, Values, Option<Values>)>,
    state: &'a mut State,
}

impl Open<'_> {
    fn roll_back(self) {
        for (table, key, before) in self.undo.into_iter().rev() {
            let kept = self.state.table(table);
            kept.take(table, &key);
            if let Some(row) = before {
                kept.put(table, row);
            }
        }
    }

    fn put(&mut self, table: &'static Table, row: &[Value], before: Option<Values>) -> Result<(), Fault> {
        let key = table.key_of(row);
        let kept = self.state.table(table);
        if let Some(index) = kept.double(table, row) {
            if let Some(before) = before {
                kept.put(table, before);
            }
            return Err(Fault::Double(format!("{}_{}", table.name, index.name)));
        }
        kept.put(table, row.to_vec());
        self.undo.push((table, key, before));
        Ok(())
    }
}

impl Statements for Open<'_> {
    fn now(&self) -> i64 {
        self.now
    }

    fn uuid(&mut self) -> Uuid {
        let random = self.state.random();
        self.state.ids.next(self.now, random)
    }

    fn random(&mut self) -> Uuid {
        let bits = u128::from(self.state.random()) << 64 | u128::from(self.state.random());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }

    fn get(&mut self, table: &'static Table, key: &[Value], _: Lock) -> Result<Option<Values>, Fault> {
        Ok(self.state.table(table).rows.get(key).cloned())
    }

    fn get_all(&mut self, table: &'static Table, keys: &[Value]) -> Result<Vec<Values>, Fault> {
        let kept = self.state.table(table);
        Ok(keys.iter().filter_map(|key| kept.rows.get(std::slice::from_ref(key)).cloned()).collect())
    }

    fn select(&mut self, table: &'static Table, query: &Query, _: Lock) -> Result<Vec<Values>, Fault> {
        let kept = self.state.table(table);
        Ok(kept.keys(query).into_iter().filter_map(|key| kept.rows.get(key).cloned()).collect())
    }

    fn count(&mut self, table: &'static Table, query: &Query) -> Result<u64, Fault> {
        Ok(self.state.table(table).keys(query).len() as u64)
    }

    fn insert(&mut self, table: &'static Table, row: &[Value]) -> Result<(), Fault> {
        if self.state.table(table).rows.contains_key(&table.key_of(row)) {
            return Err(Fault::Double(format!("{}_pkey", table.name)));
        }
        self.put(table, row, None)
    }

    fn update(&mut self, table: &'static Table, row: &[Value]) -> Result<bool, Fault> {
        let Some(before) = self.state.table(table).take(table, &table.key_of(row)) else { return Ok(false) };
        self.put(table, row, Some(before)).map(|()| true)
    }

    fn delete(&mut self, table: &'static Table, key: &[Value]) -> Result<bool, Fault> {
        let Some(before) = self.state.table(table).take(table, key) else { return Ok(false) };
        self.undo.push((table, key.to_vec(), Some(before)));
        Ok(true)
    }
}
