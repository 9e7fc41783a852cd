//! The built product as a server: `lucarne up` in a data folder of the tests' own.
//!
//! Image and template are kept from test to test, because making them takes minutes; everything else is made anew. One
//! server runs at a time, whatever runs the tests.

use crate::guest::Guest;
use crate::http::{Answer, Client};
use crate::poll::{LIMIT, until};
use crate::process::{self, Process};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The first start on a machine builds the image and makes the template.
const START_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The pool that `up` makes.
pub const POOL: &str = "debian";

/// The checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the checkout").to_owned()
}

/// The program, as `ops/up` and `ops/test` build it.
///
/// # Panics
/// It is not built.
#[must_use]
pub fn program() -> PathBuf {
    let path = root().join("target/release/lucarne");
    assert!(path.exists(), "{} is not built; use ops/test, or cargo build --release", path.display());
    path
}

/// The tests' data folder.
#[must_use]
pub fn data_dir() -> PathBuf {
    std::env::var_os("LUCARNE_TEST_DATA").map_or_else(|| "/var/tmp/lucarne-tests".into(), PathBuf::from)
}

/// The password of every user that a test makes.
#[must_use]
pub fn password_of(name: &str) -> String {
    format!("password of {name}")
}

/// `lucarne` with these words, on the tests' data folder.
#[must_use]
pub fn lucarne(words: &[&str]) -> Command {
    lucarne_of(&program(), words)
}

fn lucarne_of(program: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).env("LUCARNE_DATA_DIR", data_dir()).stdin(Stdio::null());
    command
}

/// The right to use the data folder; others wait for it.
#[must_use]
pub struct Turn(#[expect(dead_code, reason = "held open, for the lock is the file's")] File);

impl Turn {
    /// Waits for it and clears away what an interrupted test left.
    ///
    /// # Panics
    /// The folder cannot be used.
    pub fn take() -> Self {
        assert!(rustix::process::geteuid().is_root(), "tests that start desktops need root: use ops/test");
        let data = data_dir();
        fs::create_dir_all(&data).expect("the data folder can be made");
        let lock = File::create(data.with_extension("lock")).expect("the lock can be made");
        flock(&lock, FlockOperation::LockExclusive).expect("the lock can be taken");
        process::kill_all(&data);
        for part in ["broker", "host/desktops", "host/homes", "host/recordings", "run", "log"] {
            let part = data.join(part);
            if let Err(e) = fs::remove_dir_all(&part) {
                assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{}: {e}", part.display());
            }
        }
        Self(lock)
    }
}

/// A running server. Dropped it is killed with all that it started; [`Server::stop`] ends it as people do.
pub struct Server {
    /// Of the web server.
    pub address: SocketAddr,
    /// For VNC viewers.
    pub vnc: SocketAddr,
    /// For monitoring of the broker.
    pub metrics: SocketAddr,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// The administrator's.
    pub password: String,
    /// The data folder.
    pub data: PathBuf,
    up: Child,
    _turn: Turn,
}

impl Server {
    /// Starts it on free ports and waits until it says that it is up.
    ///
    /// # Panics
    /// It is not.
    #[must_use]
    pub fn start() -> Self {
        Self::start_of(&program())
    }

    /// The same with another copy of the program.
    ///
    /// # Panics
    /// It is not up.
    #[must_use]
    pub fn start_of(program: &Path) -> Self {
        let turn = Turn::take();
        let data = data_dir();
        let said = data.join("up.log");
        let out = File::create(&said).expect("what it says can be kept");
        let mut command =
            lucarne_of(program, &["up", "--listen", "127.0.0.1:0", "--vnc-listen", "127.0.0.1:0"]);
        command.args(["--metrics-listen", "127.0.0.1:0", "--host-metrics-listen", "127.0.0.1:0"]);
        command.args(["--data-dir".as_ref(), data.as_os_str()]);
        command.arg("--recipe").arg(root().join("ops/images/debian-desktop.toml"));
        // Its children work where it does, which is how they are found again.
        command.current_dir(&data).stdout(out.try_clone().expect("a descriptor")).stderr(out);
        let mut up = command.spawn().expect("lucarne up starts");
        let text = until("lucarne up is up", START_LIMIT, || {
            let text = fs::read_to_string(&said).unwrap_or_default();
            if let Ok(Some(status)) = up.try_wait() {
                panic!("lucarne up ended with {status}: {text}");
            }
            text.contains("Ctrl-C ends everything").then_some(text)
        });
        let after = |label: &str| {
            let at = text.find(label).unwrap_or_else(|| panic!("no {label:?} in {text}"));
            text[at + label.len()..].split_whitespace().next().unwrap_or_default().to_owned()
        };
        let address = after("https://").trim_end_matches('/').parse().expect("an address");
        Self {
            address,
            vnc: after("VNC viewers").parse().expect("an address"),
            metrics: after("Monitoring    http://").trim_end_matches("/metrics").parse().expect("an address"),
            fingerprint: after("SHA-256"),
            password: after("password"),
            data,
            up,
            _turn: turn,
        }
    }

    /// For monitoring of the host agent, as its log says.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn host_metrics(&self) -> SocketAddr {
        let log = fs::read_to_string(self.data.join("log/host.log")).expect("the host agent's log");
        let line =
            log.lines().rev().find(|line| line.contains("monitoring is served")).expect("it is served");
        line.rsplit("address=").next().and_then(|address| address.trim().parse().ok()).expect("an address")
    }

    /// The certificate's file.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.data.join("broker/tls/cert.pem")
    }

    /// The address for browsers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}/", self.address)
    }

    /// Requests of nobody.
    #[must_use]
    pub fn anyone(&self) -> Client {
        Client::remote(self.address, self.cert())
    }

    /// Requests of the administrator, on the local socket.
    #[must_use]
    pub fn admin(&self) -> Client {
        Client::local(self.data.join("run/admin.sock"))
    }

    /// Makes a user with [`password_of`] that name, and signs in.
    #[must_use]
    pub fn user(&self, name: &str) -> Client {
        let password = password_of(name);
        let body = json!({ "name": name, "password": password });
        let _ = self.admin().send("POST", "/api/v1/users", Some(&body)).json(201);
        self.anyone().signed_in(name, &password)
    }

    /// Asks for a desktop of the first pool until there is a ticket; gives the connection.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn connect(&self, user: &Client) -> Value {
        self.connect_to(user, POOL)
    }

    /// As [`Self::connect`], of another pool.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn connect_to(&self, user: &Client, pool: &str) -> Value {
        until("a desktop is ready", LIMIT, || {
            let answer = Self::ask_for(user, pool);
            assert!(matches!(answer.status, 201 | 202), "{}\n{}\n{}", answer.head, answer.body, self.logs());
            (answer.status == 201).then(|| answer.json(201))
        })
    }

    /// Asks once.
    #[must_use]
    pub fn ask(&self, user: &Client) -> Answer {
        Self::ask_for(user, POOL)
    }

    fn ask_for(user: &Client, pool: &str) -> Answer {
        user.send("POST", "/api/v1/sessions", Some(&json!({ "pool": pool })))
    }

    /// The folder of a desktop.
    #[must_use]
    pub fn desktop_dir(&self, id: &str) -> PathBuf {
        self.data.join("host/desktops").join(id)
    }

    /// The guest of a connection's desktop, once it has its identity.
    ///
    /// # Panics
    /// It is no connection, or the guest gets none.
    #[must_use]
    pub fn guest(&self, connection: &Value) -> Guest {
        let id = connection["desktop"]["id"].as_str().expect("a connection");
        until("the guest has its identity", LIMIT, || {
            let desktop = self.admin().get(&format!("/api/v1/desktops/{id}"));
            (desktop["phase"] == "ready").then_some(())
        });
        Guest::of(&self.desktop_dir(id))
    }

    /// The one process whose command line has all of these words.
    ///
    /// # Panics
    /// There is not exactly one.
    #[must_use]
    pub fn process(&self, words: &[&str]) -> Process {
        let mut found = process::with(&self.data, words);
        assert_eq!(found.len(), 1, "processes with {words:?} among {:#?}", process::of(&self.data));
        found.remove(0)
    }

    /// What the broker has logged.
    #[must_use]
    pub fn broker_log(&self) -> String {
        fs::read_to_string(self.data.join("log/broker.log")).unwrap_or_default()
    }

    /// The last lines of what broker and agent have logged.
    #[must_use]
    pub fn logs(&self) -> String {
        let tail = |name: &str| {
            let text = fs::read_to_string(self.data.join("log").join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        };
        format!("broker:\n{}\nhost agent:\n{}", tail("broker.log"), tail("host.log"))
    }

    /// Ends it by Ctrl-C, and sees that it leaves no process, socket or desktop.
    ///
    /// # Panics
    /// It does.
    pub fn stop(self) {
        self.stop_keeping(&[]);
    }

    /// The same where these desktops persist: they are powered off, and their folders stay.
    ///
    /// # Panics
    /// It leaves anything else, or less.
    pub fn stop_keeping(mut self, kept: &[&str]) {
        let pid = i32::try_from(self.up.id()).expect("a process number");
        assert!(process::signal(pid, Signal::INT), "lucarne up is gone");
        let status = until("lucarne up ends", LIMIT, || self.up.try_wait().expect("it can be waited for"));
        assert!(status.success(), "lucarne up ended with {status}\n{}", self.logs());
        let left = process::of(&self.data);
        assert!(left.is_empty(), "lucarne up left {left:#?}");
        let desktops = names(&self.data.join("host/desktops"));
        assert_eq!(desktops, kept, "the desktops that lucarne up left\n{}", self.logs());
        let sockets = sockets(&self.data);
        assert!(sockets.is_empty(), "lucarne up left the sockets {sockets:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.up.kill();
        process::kill_all(&self.data);
        let _ = self.up.wait();
    }
}

/// The names in a folder.
#[must_use]
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

fn sockets(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(sockets(&entry.path())),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}
