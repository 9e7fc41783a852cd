//! A PostgreSQL server of a test's own: the distribution's, in a folder that goes with it, on a Unix socket. And how to run
//! one suite of tests on each database.
//!
//! `ops/test` starts one for all tests and says so in [`VARIABLE`]; without it each test that wants one starts its own.
//! The server ends with the process that started it, however that ends. It knows nothing of Lucarne.

use postgres::{Client, NoTls};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The folder of the socket of a server that runs already.
pub const VARIABLE: &str = "LUCARNE_TEST_POSTGRES";

/// A server may take this long to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the server until standard input ends, which it does with whoever holds its other end. Who was killed cannot remove the
/// folder themselves.
const UNTIL_INPUT_ENDS: &str = r#"
    folder=$1; shift
    "$@" </dev/null & server=$!
    cat >/dev/null
    kill -QUIT "$server"; wait "$server"
    [ -e "/proc/$PPID" ] || rm -rf "$folder"
"#;

/// A server that answers.
pub struct Server {
    socket: PathBuf,
    own: Option<Own>,
}

struct Own {
    process: Option<Child>,
    folder: TempDir,
    durable: bool,
}

/// A database of a server, empty at first and dropped in the end.
pub struct Database<'a> {
    server: &'a Server,
    name: String,
}

type Result<T> = std::result::Result<T, String>;

/// Runs each of a suite's functions on every engine of `lucarne_db`, as a test of its own: `scene` makes of a `Db` what they
/// take.
#[macro_export]
macro_rules! on_each_engine {
    ($scene:ident: $($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                use std::sync::atomic::{AtomicI64, Ordering};
                let time = std::sync::Arc::new(AtomicI64::new(1_800_000_000_000));
                let clock = move || time.fetch_add(1, Ordering::Relaxed);
                let db = lucarne_db::Db::memory(std::sync::Arc::new(clock), 7);
                super::$name(super::$scene(db).await).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let db = lucarne_db::Db::sqlite(&folder.path().join("broker.db")).await.unwrap();
                super::$name(super::$scene(db.clone()).await).await;
                db.close().await;
            })+
        }
        mod postgres {
            $(#[test]
            fn $name() {
                // The server's own client must not be used within a runtime.
                let server = $crate::Server::get().unwrap();
                let database = server.database().unwrap();
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
                runtime.unwrap().block_on(async {
                    let db = lucarne_db::Db::postgres(&database.url()).await.unwrap();
                    super::$name(super::$scene(db.clone()).await).await;
                    db.close().await;
                });
            })+
        }
    };
}

/// The newest release's programs that the distribution has put beside each other, or those on PATH.
fn program(name: &str) -> Result<PathBuf> {
    let releases = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = releases
        .filter_map(|release| {
            let number = release.file_name().to_string_lossy().parse().ok()?;
            Some((number, release.path().join("bin").join(name)))
        })
        .filter(|(_, path)| path.exists())
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || std::env::split_paths(&path).map(|p| p.join(name)).find(|path| path.exists());
    let best = found.pop().map(|(_, path)| path).or_else(on_path);
    best.ok_or_else(|| {
        format!("the PostgreSQL server's program {name} is not here; install the package postgresql")
    })
}

/// The server refuses to run as root: then it runs as the distribution's user for it.
fn user() -> Result<Option<(u32, u32)>> {
    let id = |arguments: &[&str]| -> Result<u32> {
        let run = Command::new("id").args(arguments).output().map_err(|e| format!("id: {e}"))?;
        let text = String::from_utf8_lossy(&run.stdout).trim().to_owned();
        text.parse().map_err(|_| "there is no user postgres; install the package postgresql".to_owned())
    };
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)))
}

fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env("LC_ALL", "C.UTF-8").env_remove("PGDATA");
    command
}

fn checked(what: &str, output: std::io::Result<Output>) -> Result<()> {
    let output = output.map_err(|e| format!("{what}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what} failed: {}", String::from_utf8_lossy(&output.stderr)))
}

impl Server {
    /// The server that runs for all tests, or a new one whose flushes to disk are left out.
    ///
    /// # Errors
    /// What is missing or failed, for people.
    pub fn get() -> Result<Self> {
        match std::env::var_os(VARIABLE) {
            Some(socket) => Ok(Self { socket: socket.into(), own: None }),
            None => Self::start(false),
        }
    }

    /// A new server. `durable`: with all its flushes to disk.
    ///
    /// # Errors
    /// What is missing or failed, for people.
    pub fn start(durable: bool) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(|e| format!("cannot make a folder: {e}"))?;
        let user = user()?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).map_err(|e| e.to_string())?;
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).map_err(|e| e.to_string())?;
        }
        let mut initdb = command(&program("initdb")?, user);
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]);
        checked("initdb", initdb.arg("--pgdata").arg(folder.path().join("data")).output())?;
        let own = Own { process: None, folder, durable };
        let mut server = Self { socket: own.folder.path().to_owned(), own: Some(own) };
        server.run()?;
        Ok(server)
    }

    fn run(&mut self) -> Result<()> {
        let Some(own) = &mut self.own else {
            return Err("this server was started by someone else".to_owned());
        };
        let data = own.folder.path().join("data");
        let mut shell = command(Path::new("/bin/sh"), user()?);
        shell
            .args(["-c", UNTIL_INPUT_ENDS, "sh"])
            .arg(own.folder.path())
            .arg(program("postgres")?)
            .arg("-D")
            .arg(data);
        shell.arg("-k").arg(own.folder.path()).args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        if !own.durable {
            shell.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        let log = std::fs::File::create(own.folder.path().join("log")).map_err(|e| e.to_string())?;
        let process = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn();
        own.process = Some(process.map_err(|e| format!("cannot start PostgreSQL: {e}"))?);
        let begun = Instant::now();
        while let Err(e) = self.connect("postgres") {
            let own = self.own.as_mut().and_then(|own| own.process.as_mut());
            let ended = own.is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if ended || begun.elapsed() > PATIENCE {
                return Err(format!("PostgreSQL does not answer: {e}; it says: {}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.socket.join("log")) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// The folder that its socket is in.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn connect(&self, database: &str) -> std::result::Result<Client, postgres::Error> {
        Client::connect(&self.url(database), NoTls)
    }

    /// Where one of its databases is, in libpq's words; `postgres` is always there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("host={} user=postgres dbname={database}", self.socket.display())
    }

    /// Ends it at once, as a crash does: connections break, and what was committed is there again later.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.own.as_mut().and_then(|own| own.process.take()) {
            drop(process.stdin.take());
            let _ = process.wait();
        }
    }

    /// Starts it again after [`Server::stop`].
    ///
    /// # Errors
    /// What failed, for people.
    pub fn start_again(&mut self) -> Result<()> {
        self.run()
    }

    /// Makes a database.
    ///
    /// # Errors
    /// What failed, for people.
    pub fn database(&self) -> Result<Database<'_>> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("lucarne_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut client = self.connect("postgres").map_err(|e| e.to_string())?;
        client.batch_execute(&format!("CREATE DATABASE {name}")).map_err(|e| format!("{e:?}"))?;
        Ok(Database { server: self, name })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Database<'_> {
    /// Where it is, in libpq's words.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// A connection to it.
    ///
    /// # Errors
    /// What failed, for people.
    pub fn connect(&self) -> Result<Client> {
        self.server.connect(&self.name).map_err(|e| e.to_string())
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if let Ok(mut client) = self.server.connect("postgres") {
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_there_after_a_crash() {
        let mut server = Server::start(true).unwrap();
        let mut client = server.connect("postgres").unwrap();
        client.batch_execute("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)").unwrap();
        server.stop();
        assert!(client.batch_execute("SELECT 1").is_err());
        server.start_again().unwrap();
        let mut client = server.connect("postgres").unwrap();
        assert_eq!(client.query_one("SELECT n FROM t", &[]).unwrap().get::<_, i32>(0), 7);
    }
}
