//! PostgreSQL: a server, and several connections to it, each with a thread and a strand of the audit log.
//!
//! Transactions are READ COMMITTED: what they rest on, they lock (`tx`). One that meets a deadlock, a lock that takes too
//! long, or a double is tried again. A connection that breaks is made anew, and what was not being committed is tried again
//! on it; what was, nobody can know.

use crate::audit::Strand;
use crate::engine::{Engine, Job, Mode, Ran, TRIES, closed, run};
use crate::fault::Fault;
use crate::ids::Ids;
use crate::schema;
use crate::sql::{Dialect, Sql};
use crate::value::{Kind, Value};
use postgres::error::SqlState;
use postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use postgres::{Client, Config, NoTls, SimpleQueryMessage, Statement};
use std::collections::HashMap;
use std::error::Error;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Connections, and so transactions at once. More of them share flushes and wait for each other's rows; a server has 100.
const CONNECTIONS: usize = 16;

/// How long a job waits for the server to come back, as after its restart, and for others' locks.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the server's machine may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// What each connection is set to. A transaction that holds locks and does nothing is a fault of ours, and should not stop
/// others; so is one that waits for a lock for longer than anybody waits for it. Every query has an index that is made for it,
/// and a plan that was made while its table was empty would read the whole table for as long as the connection lives.
const SETTINGS: &str = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s';
    SET synchronous_commit = on; SET client_min_messages = warning;
    SET enable_seqscan = off; SET enable_sort = off; SET jit = off";

pub(crate) struct Postgres {
    queue: Mutex<Option<Sender<Ask>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A job, what it may do, and when it was asked for.
type Ask = (Mode, Box<dyn Job>, Instant);
type Jobs = Arc<Mutex<Receiver<Ask>>>;

impl Postgres {
    pub fn open(url: &str) -> Result<Self, Fault> {
        let config = settings(url)?;
        let mut client = connect(&config)?;
        schema::migrate_postgres(&mut client)?;
        let (queue, jobs) = channel();
        let jobs: Jobs = Arc::new(Mutex::new(jobs));
        let mut threads = Vec::new();
        let mut first = Some(client);
        for _ in 0..CONNECTIONS {
            let (jobs, config, client) = (Arc::clone(&jobs), config.clone(), first.take());
            let session = client.map(Session::new);
            let worker = Worker { config, session, strand: Strand::new(), ids: Ids::default() };
            let spawned =
                std::thread::Builder::new().name("db".to_owned()).spawn(move || worker.serve(&jobs));
            threads.push(spawned.map_err(|e| Fault::Engine(format!("cannot start a thread: {e}")))?);
        }
        Ok(Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(threads) })
    }
}

/// How the server under `url` is connected to.
pub(crate) fn settings(url: &str) -> Result<Config, Fault> {
    let mut config = Config::from_str(url)
        .map_err(|e| Fault::Unavailable(format!("its address cannot be read: {}", told(&e))))?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    // A machine that went without a word is noticed in the time that jobs wait.
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
    }
    config.keepalives_idle(SILENCE);
    config.application_name("lucarne-broker");
    Ok(config)
}

pub(crate) fn connect(config: &Config) -> Result<Client, Fault> {
    let mut client = config.connect(NoTls).map_err(|e| Fault::Unavailable(told(&e)))?;
    client.batch_execute(SETTINGS).map_err(|e| Fault::Unavailable(told(&e)))?;
    Ok(client)
}

/// An error with its causes, which the library leaves out.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

impl Engine for Postgres {
    fn submit(&self, mode: Mode, job: Box<dyn Job>) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unsent = match queue {
            Some(queue) => queue.send((mode, job, Instant::now())).err().map(|unsent| unsent.0.1),
            None => Some(job),
        };
        if let Some(job) = unsent {
            job.done(Err(closed()));
        }
    }

    fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// A connection with what was prepared on it.
struct Session {
    client: Client,
    prepared: HashMap<String, Statement>,
}

impl Session {
    fn new(client: Client) -> Self {
        Self { client, prepared: HashMap::new() }
    }
}

struct Worker {
    config: Config,
    session: Option<Session>,
    strand: Strand,
    ids: Ids,
}

/// How an attempt at a job ended.
enum Step {
    Done(Result<(), Fault>),
    Again(Fault),
    /// The connection is of no use any more; nothing was done.
    Broken(Fault),
}

impl Worker {
    fn serve(mut self, jobs: &Jobs) {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((mode, mut job, asked)) = job else { return };
            // After a time without the server many have given up; what they asked for is not done behind their backs.
            let outcome = if job.is_awaited() { self.attend(mode, &mut *job, asked) } else { Err(closed()) };
            job.done(outcome);
        }
    }

    fn attend(&mut self, mode: Mode, job: &mut dyn Job, asked: Instant) -> Result<(), Fault> {
        let mut tries = 0;
        loop {
            match self.attempt(mode, job) {
                Step::Done(outcome) => return outcome,
                Step::Again(fault) => {
                    tries += 1;
                    if tries >= TRIES || asked.elapsed() >= PATIENCE {
                        return Err(fault);
                    }
                }
                Step::Broken(fault) => {
                    self.session = None;
                    if asked.elapsed() >= PATIENCE {
                        return Err(fault);
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn attempt(&mut self, mode: Mode, job: &mut dyn Job) -> Step {
        let session = match &mut self.session {
            Some(session) => session,
            none => match connect(&self.config) {
                Ok(client) => none.insert(Session::new(client)),
                Err(fault) => return Step::Broken(fault),
            },
        };
        let begin = match mode {
            Mode::Write => "BEGIN",
            Mode::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let now = match begin_at(&mut session.client, begin) {
            Ok(now) => now,
            Err(e) => {
                return match fault(&e) {
                    fault @ Fault::Unavailable(_) => Step::Broken(fault),
                    fault if session.client.is_closed() => Step::Broken(fault),
                    fault => Step::Done(Err(fault)),
                };
            }
        };
        let mut open = Open { session, ids: &mut self.ids, now, broken: None };
        let ran = run(job, &mut open, &self.strand);
        let (broken, session) = (open.broken.take(), open.session);
        if let Some(fault) = broken {
            return Step::Broken(fault);
        }
        let (end, keep) = match &ran {
            Ran::Keep(_) => ("COMMIT", true),
            Ran::Drop | Ran::Again(_) | Ran::Failed(_) => ("ROLLBACK", false),
        };
        let ended = session.client.batch_execute(end);
        match (ran, ended) {
            (Ran::Keep(strand), Ok(())) => {
                self.strand = strand;
                Step::Done(Ok(()))
            }
            (Ran::Again(fault), Ok(())) => Step::Again(fault),
            (Ran::Failed(fault), _) => Step::Done(Err(fault)),
            (Ran::Drop, _) => Step::Done(Ok(())),
            (_, Err(e)) => {
                let closed = session.client.is_closed();
                if keep && mode == Mode::Write && !is_refused(&e) {
                    // Whether the server did it is not known; a strand that may have gone on is not continued.
                    self.strand = Strand::new();
                    self.session = None;
                    return Step::Done(Err(Fault::Unknown(told(&e))));
                }
                match fault(&e) {
                    fault if closed => Step::Broken(fault),
                    fault @ (Fault::Contended(_) | Fault::Double(_)) => Step::Again(fault),
                    fault => Step::Done(Err(fault)),
                }
            }
        }
    }
}

/// The server itself said that a commit was not done: a broken constraint (class 23), or a transaction that was rolled back
/// (class 40, but for 40003, which says that nobody knows). What a proxy says may be of a connection that it lost.
fn is_refused(error: &postgres::Error) -> bool {
    let code = error.code().map(SqlState::code).unwrap_or_default();
    code.starts_with("23") || code.starts_with("40") && code != "40003"
}

/// Begins a transaction and gives its time by the server's clock, in one round trip.
fn begin_at(client: &mut Client, begin: &str) -> Result<i64, postgres::Error> {
    let sql = format!("{begin}; SELECT floor(extract(epoch FROM now()) * 1000)::bigint");
    let messages = client.simple_query(&sql)?;
    let text = messages.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| text.parse().ok()),
        _ => None,
    });
    Ok(text.unwrap_or_default())
}

fn fault(error: &postgres::Error) -> Fault {
    let Some(db) = error.as_db_error() else { return Fault::Unavailable(told(error)) };
    let text = match db.detail() {
        Some(detail) => format!("{} ({detail})", db.message()),
        None => db.message().to_owned(),
    };
    match db.code() {
        &SqlState::UNIQUE_VIOLATION => Fault::Double(text),
        &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::LOCK_NOT_AVAILABLE => Fault::Contended(text),
        code if code.code().starts_with("57P")
            || code.code().starts_with("08")
            || code.code().starts_with("53") =>
        {
            Fault::Unavailable(text)
        }
        _ => Fault::Engine(text),
    }
}

/// A parameter or a column.
#[derive(Debug)]
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(n) => n.to_sql(ty, out),
            Value::Text(text) => text.to_sql(ty, out),
            Value::Blob(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

struct Read(Value);

impl<'a> FromSql<'a> for Read {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match kind(ty) {
            Some(Kind::Int) => Value::Int(i64::from_sql(ty, raw)?),
            Some(Kind::Text) => Value::Text(String::from_sql(ty, raw)?),
            Some(Kind::Blob) => Value::Blob(Vec::from_sql(ty, raw)?),
            None => return Err(format!("a column of the type {ty}").into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Value::Null))
    }

    fn accepts(ty: &Type) -> bool {
        kind(ty).is_some()
    }
}

fn kind(ty: &Type) -> Option<Kind> {
    match *ty {
        Type::INT8 => Some(Kind::Int),
        Type::TEXT => Some(Kind::Text),
        Type::BYTEA => Some(Kind::Blob),
        _ => None,
    }
}

/// A transaction.
struct Open<'a> {
    session: &'a mut Session,
    ids: &'a mut Ids,
    now: i64,
    /// Why the connection is of no use any more.
    broken: Option<Fault>,
}

impl Open<'_> {
    fn prepared(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(statement) = self.session.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.session.client.prepare(sql);
        let statement = self.checked(statement)?;
        self.session.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn checked<T>(&mut self, result: Result<T, postgres::Error>) -> Result<T, Fault> {
        result.map_err(|e| {
            let fault = fault(&e);
            if self.session.client.is_closed() || matches!(fault, Fault::Unavailable(_)) {
                self.broken = Some(fault.clone());
            }
            fault
        })
    }

    fn query(
        &mut self,
        sql: &str,
        width: usize,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Vec<Value>>, Fault> {
        let statement = self.prepared(sql)?;
        let rows = self.session.client.query(&statement, parameters);
        let rows = self.checked(rows)?;
        let read = |row: &postgres::Row| (0..width).map(|i| row.try_get::<_, Read>(i).map(|r| r.0)).collect();
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|e| Fault::Engine(told(&e)))
    }
}

impl Sql for Open<'_> {
    const DIALECT: Dialect = Dialect::Postgres;

    fn time(&self) -> i64 {
        self.now
    }

    fn id(&mut self) -> Uuid {
        self.ids.next_random(self.now)
    }

    fn rows(&mut self, sql: &str, width: usize, parameters: &[Value]) -> Result<Vec<Vec<Value>>, Fault> {
        let bound: Vec<Bound<'_>> = parameters.iter().map(Bound).collect();
        let bound: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|b| b as &(dyn ToSql + Sync)).collect();
        self.query(sql, width, &bound)
    }

    fn rows_of(&mut self, sql: &str, width: usize, keys: &[&str]) -> Result<Vec<Vec<Value>>, Fault> {
        self.query(sql, width, &[&keys])
    }

    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<bool, Fault> {
        let statement = self.prepared(sql)?;
        let bound: Vec<Bound<'_>> = parameters.iter().map(Bound).collect();
        let bound: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|b| b as &(dyn ToSql + Sync)).collect();
        let changed = self.session.client.execute(&statement, &bound);
        Ok(self.checked(changed)? > 0)
    }
}
