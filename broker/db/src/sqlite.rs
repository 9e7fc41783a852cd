//! SQLite: one file, one writing thread, several that read.
//!
//! The writer takes what waits and commits it together: each job is a savepoint, and nobody is told of success before the
//! commit that makes it durable. So a flush to disk is shared by all that came while the one before it was under way.

use crate::audit::Strand;
use crate::engine::{Engine, Job, Mode, Ran, TRIES, closed, run};
use crate::fault::Fault;
use crate::ids::Ids;
use crate::schema;
use crate::sql::{Dialect, Sql};
use crate::value::Value;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Threads that read. Too few: lists wait for each other. Too many: only memory, some 2 MB each.
const READERS: usize = 4;

/// How long a lock of another process (a backup, a shell) is waited for.
const BUSY: Duration = Duration::from_secs(10);

/// Jobs that are committed together at most, and the time after which what came is committed. More would make the first
/// wait; a flush takes about a millisecond.
const TOGETHER: usize = 256;
const GATHER: Duration = Duration::from_millis(4);

/// Statements that a connection keeps prepared: more than there are.
const PREPARED: usize = 512;

type Queue = Sender<Box<dyn Job>>;

pub(crate) struct Sqlite {
    queues: Mutex<Option<(Queue, Queue)>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Sqlite {
    pub fn open(file: &Path) -> Result<Self, Fault> {
        let fault = |reason: String| Fault::Open { file: file.to_owned(), reason };
        let open = |flags| {
            let connection = Connection::open_with_flags(file, flags).map_err(|e| fault(e.to_string()))?;
            set_up(&connection).map_err(|e| fault(e.to_string()))?;
            Ok(connection)
        };
        let mut connection = open(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let writing = |c: &Connection| {
            c.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")
        };
        writing(&connection).map_err(|e| fault(e.to_string()))?;
        schema::migrate_sqlite(&mut connection).map_err(|e| match e {
            Fault::Engine(reason) | Fault::Schema(reason) => fault(reason),
            other => other,
        })?;
        let (write, jobs) = channel();
        let mut threads = vec![spawn("db-writer", move || Writer::new(connection).serve(&jobs))?];
        let (read, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let (connection, jobs) = (open(OpenFlags::SQLITE_OPEN_READ_ONLY)?, Arc::clone(&jobs));
            threads.push(spawn("db-reader", move || serve_reads(&connection, &jobs))?);
        }
        Ok(Self { queues: Mutex::new(Some((write, read))), threads: Mutex::new(threads) })
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Fault> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|e| Fault::Engine(format!("cannot start a thread: {e}")))
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    // No table has any; those of old releases would be in the way of their own migration.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    Ok(())
}

impl Engine for Sqlite {
    fn submit(&self, mode: Mode, job: Box<dyn Job>) {
        let queue = {
            let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues
                .as_ref()
                .map(|(write, read)| if mode == Mode::Write { write.clone() } else { read.clone() })
        };
        let unsent = match queue {
            Some(queue) => queue.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        if let Some(job) = unsent {
            job.done(Err(closed()));
        }
    }

    fn close(&self) {
        drop(self.queues.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// A connection that writes.
struct Writer {
    connection: Connection,
    strand: Strand,
    ids: Ids,
}

/// How a job ended within its savepoint.
enum Step {
    Kept(Strand),
    Dropped,
    Failed(Fault),
}

impl Writer {
    fn new(connection: Connection) -> Self {
        Self { connection, strand: Strand::new(), ids: Ids::default() }
    }

    fn serve(mut self, jobs: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = jobs.recv() {
            let begun = Instant::now();
            if let Err(e) = self.batch("BEGIN IMMEDIATE") {
                first.done(Err(e));
                continue;
            }
            let mut waiting = Vec::new();
            let mut lost = None;
            let mut next = Some(first);
            while let Some(mut job) = next {
                let outcome = match self.step(&mut *job) {
                    Step::Kept(strand) => {
                        self.strand = strand;
                        Ok(())
                    }
                    Step::Dropped => Ok(()),
                    Step::Failed(fault) => Err(fault),
                };
                // On a full disk and the like SQLite gives up the whole transaction, and what came after would be its own.
                if self.connection.is_autocommit() {
                    let gone = Fault::Engine("SQLite gave up the transaction".to_owned());
                    lost = Some(outcome.clone().err().unwrap_or(gone));
                }
                waiting.push((job, outcome));
                let more = lost.is_none() && waiting.len() < TOGETHER && begun.elapsed() < GATHER;
                next = if more { jobs.try_recv().ok() } else { None };
            }
            let committed = lost.map_or_else(|| self.commit(), Err);
            if committed.is_err() {
                // What is in the file is not known for certain; nobody continues this strand.
                self.strand = Strand::new();
            }
            for (job, outcome) in waiting {
                job.done(committed.clone().and(outcome));
            }
        }
    }

    fn commit(&self) -> Result<(), Fault> {
        let committed = self.batch("COMMIT");
        match committed {
            // Still open: it was not begun, and is taken back.
            Err(fault) if !self.connection.is_autocommit() => self.batch("ROLLBACK").and(Err(fault)),
            Err(Fault::Engine(reason)) => Err(Fault::Unknown(reason)),
            committed => committed,
        }
    }

    fn step(&mut self, job: &mut dyn Job) -> Step {
        let mut last = closed();
        for _ in 0..TRIES {
            if let Err(fault) = self.batch("SAVEPOINT job") {
                return Step::Failed(fault);
            }
            let mut open = Open { connection: &self.connection, ids: &mut self.ids, now: now() };
            let (end, step) = match run(job, &mut open, &self.strand) {
                Ran::Keep(strand) => ("RELEASE job", Some(Step::Kept(strand))),
                Ran::Drop => ("ROLLBACK TO job; RELEASE job", Some(Step::Dropped)),
                Ran::Failed(fault) => ("ROLLBACK TO job; RELEASE job", Some(Step::Failed(fault))),
                Ran::Again(fault) => {
                    last = fault;
                    ("ROLLBACK TO job; RELEASE job", None)
                }
            };
            if let Err(fault) = self.batch(end) {
                return Step::Failed(fault);
            }
            if let Some(step) = step {
                return step;
            }
        }
        Step::Failed(last)
    }

    fn batch(&self, sql: &str) -> Result<(), Fault> {
        sql.split("; ").try_for_each(|sql| {
            self.connection
                .prepare_cached(sql)
                .and_then(|mut s| s.execute([]))
                .map(drop)
                .map_err(|e| fault(&e))
        })
    }
}

fn serve_reads(connection: &Connection, jobs: &Mutex<Receiver<Box<dyn Job>>>) {
    let mut ids = Ids::default();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = job else { return };
        let read = |sql: &str| {
            connection.prepare_cached(sql).and_then(|mut s| s.execute([])).map(drop).map_err(|e| fault(&e))
        };
        let mut outcome = read("BEGIN");
        if outcome.is_ok() {
            let mut open = Open { connection, ids: &mut ids, now: now() };
            if let Ran::Again(fault) | Ran::Failed(fault) = run(&mut *job, &mut open, &Strand::new()) {
                outcome = Err(fault);
            }
            outcome = outcome.and(read("ROLLBACK"));
        }
        job.done(outcome);
    }
}

/// SQLite has no clock but this machine's.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn fault(error: &rusqlite::Error) -> Fault {
    match error.sqlite_error().map(|e| e.extended_code) {
        Some(
            rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
            | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | rusqlite::ffi::SQLITE_CONSTRAINT_ROWID,
        ) => Fault::Double(error.to_string()),
        Some(code) if matches!(code & 0xff, rusqlite::ffi::SQLITE_BUSY | rusqlite::ffi::SQLITE_LOCKED) => {
            Fault::Unavailable(format!("another process holds its lock ({error})"))
        }
        _ => Fault::Engine(error.to_string()),
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(n) => ValueRef::Integer(*n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A transaction.
struct Open<'a> {
    connection: &'a Connection,
    ids: &'a mut Ids,
    now: i64,
}

impl Sql for Open<'_> {
    const DIALECT: Dialect = Dialect::Sqlite;

    fn time(&self) -> i64 {
        self.now
    }

    fn id(&mut self) -> Uuid {
        self.ids.next_random(self.now)
    }

    fn rows(&mut self, sql: &str, width: usize, parameters: &[Value]) -> Result<Vec<Vec<Value>>, Fault> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params_from_iter(parameters))?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..width).map(|i| {
                    Ok(match row.get_ref(i)? {
                        ValueRef::Null => Value::Null,
                        ValueRef::Integer(n) => Value::Int(n),
                        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
                        // No column has the type; what is there cannot be read as any other either.
                        ValueRef::Real(n) => Value::Text(n.to_string()),
                    })
                });
                all.push(values.collect::<rusqlite::Result<_>>()?);
            }
            Ok(all)
        };
        read().map_err(|e| fault(&e))
    }

    fn rows_of(&mut self, sql: &str, width: usize, keys: &[&str]) -> Result<Vec<Vec<Value>>, Fault> {
        let list = serde_json::to_string(keys).map_err(|e| Fault::Engine(e.to_string()))?;
        self.rows(sql, width, &[Value::Text(list)])
    }

    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<bool, Fault> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|e| fault(&e))?;
        let changed = statement.execute(params_from_iter(parameters)).map_err(|e| fault(&e))?;
        Ok(changed > 0)
    }
}
