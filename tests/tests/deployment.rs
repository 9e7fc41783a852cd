//! Three hosts on machines of their own and two brokers on PostgreSQL: while people connect and type, a cable is pulled, a broker,
//! the database and an agent are killed. Streams that do not pass through what is gone go on, nobody gets two desktops or
//! another's, and nothing that was acknowledged or typed is lost.

#![allow(clippy::unwrap_used)]

use lucarne_rfb::client::Framebuffer;
use lucarne_tests::deployment::Deployment;
use lucarne_tests::guest::Guest;
use lucarne_tests::http::Client;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::password_of;
use lucarne_tests::viewer::{Vnc, keys};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Characters that are typed before the picture is looked at, as people do. Three guests that have to share two processors may
/// leave Xorg waiting for half a second, and the kernel has room for some 16 keys that Xorg does not read (`EVDEV_MIN_BUFFER_SIZE`).
const AT_ONCE: usize = 6;

/// Words that everyone types during each trouble.
const WORDS: u32 = 3;

/// Where VNC viewers come in, and with what certificate.
type Door = (SocketAddr, PathBuf);

/// Somebody who types into their desktop all the time, and comes back when the stream ends.
struct Person {
    name: &'static str,
    /// Index of the host that their desktop is on.
    host: usize,
    desktop: String,
    boot: String,
    guest: Guest,
    words: Arc<AtomicU32>,
    breaks: Arc<AtomicU32>,
    trouble: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    work: Option<JoinHandle<()>>,
}

fn ask(user: &Client) -> Value {
    until("a desktop is ready", LIMIT, || {
        let answer = user.try_send("POST", "/api/v1/sessions", Some(&json!({ "pool": "debian" }))).ok()?;
        (answer.status == 201).then(|| answer.json(201))
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Writes a picture as portable pixmap.
fn save(picture: &Framebuffer, file: &Path) {
    let mut out = format!("P6 {} {} 255\n", picture.width(), picture.height()).into_bytes();
    out.extend(picture.pixels().iter().flat_map(|p| p.to_be_bytes().into_iter().skip(1)));
    std::fs::write(file, out).unwrap();
}

/// Types a word into a file, and waits until it is there: what an unbroken stream took has to arrive.
fn put(viewer: &mut Vnc, guest: &Guest, word: &str) -> Result<(), String> {
    let line: Vec<char> = format!("echo {word} >> /tmp/words\n").chars().collect();
    for piece in line.chunks(AT_ONCE) {
        viewer.type_text(&String::from_iter(piece))?;
        viewer.pump("what was typed is in the picture", |_, updates| updates > 0)?;
    }
    let began = Instant::now();
    while guest.shell(&format!("grep -qx '{word}' /tmp/words")).is_none() {
        // An end of the stream is an answer, too.
        viewer.newest()?;
        if began.elapsed() > LIMIT {
            let picture = std::env::temp_dir().join(format!("lucarne-{word}.ppm"));
            save(viewer.newest()?, &picture);
            panic!("{word} is lost, and the stream goes on: see {}", picture.display());
        }
    }
    Ok(())
}

impl Person {
    fn begin(deployment: &Deployment, name: &'static str, at: usize) -> Self {
        deployment.add_user(name);
        let connection = ask(&deployment.brokers[at].user(name));
        let desktop = text(&connection["desktop"]["id"]);
        let on = |id: &String| deployment.hosts.iter().position(|host| host.running().contains(id));
        let host = until("its host runs it", LIMIT, || on(&desktop));
        let ready = || {
            let now = deployment.brokers[at].admin().get(&format!("/api/v1/desktops/{desktop}"));
            (now["phase"] == "ready").then_some(())
        };
        until("the guest has its identity", LIMIT, ready);
        let guest = deployment.hosts[host].guest(&desktop);
        let boot = guest.wait("cat /proc/sys/kernel/random/boot_id");
        let mut person = Self {
            name,
            host,
            desktop,
            boot,
            guest,
            words: Arc::default(),
            breaks: Arc::default(),
            trouble: Arc::default(),
            stop: Arc::default(),
            work: None,
        };
        // Their own broker first, then the others.
        let mut doors: Vec<Door> = deployment.brokers.iter().map(|b| (b.vnc, b.cert())).collect();
        doors.rotate_left(at);
        let mut viewer = Vnc::connect_at(&doors[0].0, &doors[0].1, name, &password_of(name)).unwrap();
        viewer.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).unwrap();
        person.guest.wait_terminal();
        person.work = Some(person.type_on(doors, viewer));
        person
    }

    fn type_on(&self, doors: Vec<Door>, viewer: Vnc) -> JoinHandle<()> {
        let (name, guest, stop) = (self.name, self.guest.clone(), Arc::clone(&self.stop));
        let (words, breaks, trouble) =
            (Arc::clone(&self.words), Arc::clone(&self.breaks), Arc::clone(&self.trouble));
        std::thread::spawn(move || {
            let mut viewer = Some(viewer);
            let (mut n, mut door) = (0, 0);
            while !stop.load(Ordering::SeqCst) {
                let Some(here) = &mut viewer else {
                    // Who is turned away by one goes to the next.
                    let (address, cert) = &doors[door % doors.len()];
                    match Vnc::connect_at(address, cert, name, &password_of(name)) {
                        // What was half typed when the stream broke ends here, whatever it is. (An interrupt would be obeyed
                        // later, and take away some of what comes after it.)
                        Ok(mut back) => viewer = back.press(&[keys::RETURN]).is_ok().then_some(back),
                        Err(e) => {
                            trouble.lock().unwrap().clone_from(&e);
                            door += 1;
                            std::thread::sleep(Duration::from_millis(200));
                        }
                    }
                    continue;
                };
                n += 1;
                match put(here, &guest, &format!("word{n}")) {
                    Ok(()) => {
                        words.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(e) => {
                        trouble.lock().unwrap().clone_from(&e);
                        breaks.fetch_add(1, Ordering::SeqCst);
                        viewer = None;
                    }
                }
            }
        })
    }

    fn breaks(&self) -> u32 {
        self.breaks.load(Ordering::SeqCst)
    }

    /// Waits until more words of theirs have come through.
    fn goes_on(&self, deployment: &Deployment) {
        let before = self.words.load(Ordering::SeqCst);
        let began = Instant::now();
        while self.words.load(Ordering::SeqCst) < before + WORDS {
            let told = || {
                format!(
                    "{} types in vain: {}\n{}",
                    self.name,
                    self.trouble.lock().unwrap(),
                    deployment.logs()
                )
            };
            assert!(began.elapsed() < 2 * LIMIT, "{}", told());
            assert!(!self.work.as_ref().unwrap().is_finished(), "{}", told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.work.take().unwrap().join().unwrap();
        assert_eq!(self.guest.wait("cat /proc/sys/kernel/random/boot_id"), self.boot, "it is the same guest");
    }
}

/// Nothing is double, nothing is lost: on record, on the hosts, and between them.
fn check(deployment: &Deployment, people: &[Person]) {
    let admin = deployment.brokers[0].admin();
    let desktops = admin.get("/api/v1/desktops?limit=200")["items"].as_array().unwrap().clone();
    let live: BTreeMap<String, &Value> =
        desktops.iter().filter(|d| d["phase"] == "ready").map(|d| (text(&d["id"]), d)).collect();
    let mut owners = BTreeSet::new();
    for desktop in live.values() {
        assert!(owners.insert(text(&desktop["user"])), "two desktops of one user: {desktops:#?}");
    }
    let mut seen = BTreeSet::new();
    for (i, host) in deployment.hosts.iter().enumerate() {
        for id in host.running() {
            assert!(seen.insert(id.clone()), "{id} runs twice");
            let row = live.get(&id).unwrap_or_else(|| {
                panic!("{id} runs on {} and should not: {desktops:#?}\n{}", host.name, deployment.logs())
            });
            assert_eq!(row["host"], host.name.as_str());
            if let Some(person) = people.iter().find(|p| p.desktop == id) {
                assert_eq!((person.host, &row["user"]), (i, &json!(person.name)));
            }
        }
    }
    let on_record: BTreeSet<String> = live.keys().cloned().collect();
    assert_eq!(seen, on_record, "what is on record runs");
    for person in people {
        assert!(seen.contains(&person.desktop), "{} has lost their desktop", person.name);
        for broker in &deployment.brokers {
            assert_eq!(text(&ask(&broker.user(person.name))["desktop"]["id"]), person.desktop);
        }
    }
    let said = deployment.brokers[1].lucarne(&["audit", "verify"]);
    assert!(said.contains("none was changed"), "{said}");
}

/// Somebody new comes during the trouble, and goes again.
fn visit(deployment: &Deployment, name: &str, at: usize) {
    deployment.add_user(name);
    leave(deployment, name, at);
}

fn leave(deployment: &Deployment, name: &str, at: usize) {
    let broker = &deployment.brokers[at];
    let login = json!({ "name": name, "password": password_of(name) });
    until("they can sign in", LIMIT, || {
        let answer = broker.anyone().send("POST", "/api/v1/auth/token", Some(&login));
        (answer.status == 201).then_some(())
    });
    let user = broker.user(name);
    let connection = ask(&user);
    let session = text(&connection["session"]["id"]);
    let answer = user.send("DELETE", &format!("/api/v1/sessions/{session}?wait=true"), None);
    assert!(matches!(answer.status, 200 | 204), "{}\n{}", answer.body, deployment.logs());
}

fn online(deployment: &Deployment, at: usize, host: usize, wanted: bool) {
    let name = &deployment.hosts[host].name;
    until(&format!("{name} is online: {wanted}"), LIMIT, || {
        let now = deployment.brokers[at].admin().get(&format!("/api/v1/hosts/{name}"));
        (now["online"] == wanted).then_some(())
    });
}

#[test]
fn people_go_on_while_cables_brokers_database_and_agents_fail() {
    let mut deployment = Deployment::start(2, 3);
    let mut people =
        [("ada", 0), ("bob", 1), ("eve", 0)].map(|(name, at)| Person::begin(&deployment, name, at));
    let hosts: BTreeSet<usize> = people.iter().map(|p| p.host).collect();
    assert_eq!(hosts.len(), 3, "desktops are spread over the hosts");
    people.iter().for_each(|person| person.goes_on(&deployment));
    assert_eq!(people.iter().map(Person::breaks).sum::<u32>(), 0);

    // Eve's host is cut off, until the brokers have noticed: she comes back to the same desktop, others notice nothing.
    let cut = people[2].host;
    deployment.hosts[cut].machine.cut();
    visit(&deployment, "guest1", 0);
    people[..2].iter().for_each(|person| person.goes_on(&deployment));
    online(&deployment, 1, cut, false);
    deployment.hosts[cut].machine.join();
    online(&deployment, 1, cut, true);
    people.iter().for_each(|person| person.goes_on(&deployment));
    assert_eq!(people[..2].iter().map(Person::breaks).sum::<u32>(), 0, "their streams do not pass there");

    // The first broker is killed: Ada and Eve come back through the second, where Bob goes on.
    deployment.brokers[0].kill();
    visit(&deployment, "guest2", 1);
    people.iter().for_each(|person| person.goes_on(&deployment));
    assert_eq!(people[1].breaks(), 0, "his stream does not pass there");
    deployment.brokers[0].restart();
    (0..3).for_each(|host| online(&deployment, 0, host, true));

    // The database is killed and started again: no stream ends, and who connects meanwhile is served after it.
    let before: Vec<u32> = people.iter().map(Person::breaks).collect();
    deployment.add_user("guest3");
    deployment.postgres.stop();
    people.iter().for_each(|person| person.goes_on(&deployment));
    let login = json!({ "name": "guest3", "password": password_of("guest3") });
    let refused = deployment.brokers[0].anyone().send("POST", "/api/v1/auth/token", Some(&login));
    let (status, code) = (refused.status, refused.code());
    assert_eq!((status, code.as_str()), (503, "database_unavailable"), "{}", deployment.logs());
    deployment.postgres.start_again().unwrap();
    leave(&deployment, "guest3", 0);
    people.iter().for_each(|person| person.goes_on(&deployment));
    assert_eq!(people.iter().map(Person::breaks).collect::<Vec<_>>(), before, "no stream passes there");

    // An agent is killed: no stream passes through it either.
    let host = people[0].host;
    deployment.hosts[host].kill_agent();
    people.iter().for_each(|person| person.goes_on(&deployment));
    deployment.hosts[host].restart_agent();
    online(&deployment, 0, host, true);
    people.iter().for_each(|person| person.goes_on(&deployment));
    assert_eq!(people.iter().map(Person::breaks).collect::<Vec<_>>(), before, "no stream passes there");

    people.iter_mut().for_each(Person::end);
    (0..3).for_each(|host| online(&deployment, 0, host, true));
    check(&deployment, &people);
    deployment.stop();
}
