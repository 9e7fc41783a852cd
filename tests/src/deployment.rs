//! The built product as an organisation runs it: brokers that share a PostgreSQL database, and enrolled hosts on machines of
//! their own on a network.

use crate::guest::Guest;
use crate::http::Client;
use crate::netns::Machine;
use crate::poll::{LIMIT, until};
use crate::process;
use crate::server::{Server, Turn, data_dir, names, password_of, program};
use lucarne_postgres::Server as Postgres;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A broker.
pub struct Broker {
    /// Of the web server.
    pub address: SocketAddr,
    /// For VNC viewers.
    pub vnc: SocketAddr,
    hosts: SocketAddr,
    data: PathBuf,
    database: String,
    process: Child,
}

impl Broker {
    fn start(data: &Path, database: &str, doors: [SocketAddr; 3]) -> Self {
        fs::create_dir_all(data).expect("a folder can be made");
        let [listen, vnc, hosts] = doors.map(|door| door.to_string());
        let said = data.join("said");
        let mut command = Command::new(program());
        command.args(["broker", "--announce", "--default-pool", "debian", "--listen", &listen]);
        command.args(["--vnc-listen", &vnc, "--agent-listen", &hosts, "--data-dir"]).arg(data);
        command.env("LUCARNE_DATABASE", database).current_dir(data).stdin(Stdio::null());
        command.stdout(File::create(&said).expect("a file can be made")).stderr(log(data));
        let mut process = command.spawn().expect("a broker starts");
        let announced: Value = until("a broker serves", LIMIT, || {
            if let Ok(Some(status)) = process.try_wait() {
                panic!("the broker ended with {status}: {}", tail(data));
            }
            serde_json::from_str(fs::read_to_string(&said).ok()?.lines().next()?).ok()
        });
        let door = |name: &str| announced[name].as_str().expect("an address").parse().expect("an address");
        Self {
            address: door("address"),
            vnc: door("vnc_address"),
            hosts: door("agent_address"),
            data: data.to_owned(),
            database: database.to_owned(),
            process,
        }
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        self.process.kill().expect("the broker runs");
        self.process.wait().expect("it can be waited for");
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        *self = Self::start(&self.data, &self.database, [self.address, self.vnc, self.hosts]);
    }

    /// The certificate's file.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.data.join("broker/tls/cert.pem")
    }

    /// Requests of the administrator, on the local socket.
    #[must_use]
    pub fn admin(&self) -> Client {
        Client::local(self.data.join("run/admin.sock"))
    }

    /// Requests of nobody.
    #[must_use]
    pub fn anyone(&self) -> Client {
        Client::remote(self.address, self.cert())
    }

    /// Requests of a user, signed in here.
    #[must_use]
    pub fn user(&self, name: &str) -> Client {
        self.anyone().signed_in(name, &password_of(name))
    }

    /// `lucarne` with these words, as the administrator here.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn lucarne(&self, words: &[&str]) -> String {
        let mut command = Command::new(program());
        let output = command.args(words).arg("--data-dir").arg(&self.data).output().expect("lucarne runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "lucarne {words:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

/// A host on a machine of its own.
pub struct Host {
    /// The machine.
    pub machine: Machine,
    /// Its name.
    pub name: String,
    data: PathBuf,
    agent: Child,
}

impl Host {
    /// Enrols and starts it; image and template are there already.
    fn start(number: u8, root: &Path, brokers: &[Broker]) -> Self {
        let machine = Machine::new(number);
        let name = format!("host{number}");
        let data = root.join(format!("h{number}"));
        let from = data_dir().join("host");
        for part in ["images", "templates"] {
            copy_linked(&from.join(part), &data.join("host").join(part));
        }
        let given = brokers[0].lucarne(&["host", "token", "--host", &name, "--output", "json"]);
        let given: Value = serde_json::from_str(&given).expect("JSON");
        let doors: Vec<String> =
            brokers.iter().map(|b| format!("{}:{}", machine.gateway(), b.hosts.port())).collect();
        let mut enroll = machine.command(&program());
        enroll.args(["host", "enroll", given["token"].as_str().expect("a token"), "--name", &name]);
        let output = enroll.args(["--broker", &doors.join(","), "--data-dir"]).arg(&data).output();
        let output = output.expect("lucarne runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let agent = Self::run(&machine, &data);
        Self { machine, name, data, agent }
    }

    fn run(machine: &Machine, data: &Path) -> Child {
        let mut command = machine.command(&program());
        command.args(["host", "run", "--accel", "tcg", "--data-dir"]).arg(data);
        command.current_dir(data).stdin(Stdio::null()).stdout(log(data)).stderr(log(data));
        command.spawn().expect("an agent starts")
    }

    /// Kills its agent, as a crash does.
    pub fn kill_agent(&mut self) {
        // `ip netns exec` has become it.
        self.agent.kill().expect("the agent runs");
        self.agent.wait().expect("it can be waited for");
    }

    /// Starts its agent again.
    pub fn restart_agent(&mut self) {
        self.agent = Self::run(&self.machine, &self.data);
    }

    /// The ids of the desktops whose QEMU runs there.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let folder = self.data.join("host/desktops");
        let runs = |id: &String| !process::with(&self.data, &["qemu-system", id]).is_empty();
        names(&folder).into_iter().filter(runs).collect()
    }

    /// The guest of a desktop there.
    #[must_use]
    pub fn guest(&self, desktop: &str) -> Guest {
        Guest::of(&self.data.join("host/desktops").join(desktop))
    }
}

/// All of it. Dropped, everything is killed and gone.
pub struct Deployment {
    /// The brokers.
    pub brokers: Vec<Broker>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The database that the brokers share.
    pub postgres: Postgres,
    root: PathBuf,
    _turn: Turn,
}

impl Deployment {
    /// Starts it and waits until desktops can be forked on every host.
    ///
    /// # Panics
    /// Something does not start.
    #[must_use]
    pub fn start(brokers: usize, hosts: u8) -> Self {
        // Image and template are made once, by the server that makes them for all tests.
        let ready = names(&data_dir().join("host/templates")).iter().any(|name| !name.starts_with('.'));
        if !ready {
            Server::start().stop();
        }
        let turn = Turn::take();
        let root = data_dir().join("net");
        process::kill_all(&root);
        if let Err(e) = fs::remove_dir_all(&root) {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{}: {e}", root.display());
        }
        let postgres = Postgres::start(true).expect("PostgreSQL starts");
        let here: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let any: SocketAddr = "0.0.0.0:0".parse().expect("an address");
        let brokers: Vec<Broker> = (1..=brokers)
            .map(|n| Broker::start(&root.join(format!("b{n}")), &postgres.url("postgres"), [here, here, any]))
            .collect();
        let hosts = (1..=hosts).map(|n| Host::start(n, &root, &brokers)).collect();
        let deployment = Self { brokers, hosts, postgres, root, _turn: turn };
        for host in &deployment.hosts {
            until(&format!("{} has its template", host.name), LIMIT * 10, || {
                let pools = deployment.brokers[0].admin().get("/api/v1/pools");
                let templates = pools["items"][0]["templates"].as_array()?.clone();
                let ready = |t: &Value| t["host"] == host.name.as_str() && t["state"] == "ready";
                templates.iter().any(ready).then_some(())
            });
        }
        deployment
    }

    /// Adds a user with [`password_of`] that name.
    pub fn add_user(&self, name: &str) {
        let body = json!({ "name": name, "password": password_of(name) });
        let _ = self.brokers[1].admin().send("POST", "/api/v1/users", Some(&body)).json(201);
    }

    /// What everything has logged last.
    #[must_use]
    pub fn logs(&self) -> String {
        let all =
            names(&self.root).into_iter().map(|name| format!("{name}:\n{}", tail(&self.root.join(&name))));
        all.collect::<Vec<_>>().join("\n")
    }

    /// Ends it as its administrators would: the hosts with their desktops, then the brokers.
    ///
    /// # Panics
    /// Something does not end, or leaves a process.
    pub fn stop(mut self) {
        for host in &mut self.hosts {
            let pid = i32::try_from(host.agent.id()).expect("a process number");
            assert!(process::signal(pid, Signal::INT), "the agent of {} is gone", host.name);
        }
        for host in &mut self.hosts {
            until("an agent ends", LIMIT, || host.agent.try_wait().expect("it can be waited for"));
        }
        for broker in &mut self.brokers {
            let pid = i32::try_from(broker.process.id()).expect("a process number");
            assert!(process::signal(pid, Signal::TERM), "a broker is gone");
            until("a broker ends", LIMIT, || broker.process.try_wait().expect("it can be waited for"));
        }
        let none = || process::of(&self.root).is_empty().then_some(());
        until("nothing of it runs any more", LIMIT, none);
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        process::kill_all(&self.root);
        for child in
            self.brokers.iter_mut().map(|b| &mut b.process).chain(self.hosts.iter_mut().map(|h| &mut h.agent))
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn log(data: &Path) -> File {
    let file = File::options().create(true).append(true).open(data.join("log.txt"));
    file.expect("what it logs can be kept")
}

fn tail(data: &Path) -> String {
    let text = fs::read_to_string(data.join("log.txt")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Copies a folder whose files are shared with the copy.
fn copy_linked(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("a folder can be made");
    let status = Command::new("cp").arg("-al").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "{} cannot be copied", from.display());
}
