//! Viewers that break the protocol, at each step of it and at each door, are closed with one line in a log that says why and
//! whom; who is beside them notices nothing.

#![allow(clippy::unwrap_used)]

use lucarne_tests::guest::Guest;
use lucarne_tests::http::tls;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::Server;
use lucarne_tests::viewer::{Vnc, keys};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

/// How long a stranger, or a message that has begun, may come to a halt: what the programs say, and something for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30 + 15);

/// A viewer that people use.
struct Healthy<'a> {
    viewer: Vnc,
    guest: &'a Guest,
    typed: u32,
}

impl Healthy<'_> {
    /// What it types arrives, and it gets to see it.
    fn works(&mut self) {
        self.typed += 1;
        let file = format!("/home/user/typed{}", self.typed);
        let before = self.viewer.newest().unwrap().clone();
        self.viewer.type_text(&format!("echo {} > {file}\n", self.typed)).unwrap();
        self.viewer.pump("what is typed", |now, _| *now != before).unwrap();
        assert_eq!(self.guest.wait_file(&file), self.typed.to_string());
    }
}

/// Reads until the server closes; gives how long that took.
fn closed(stream: &mut impl Read) -> Duration {
    let began = Instant::now();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return began.elapsed(),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("it is not closed")
            }
            // A reset, or TLS that was cut off.
            Err(_) => return began.elapsed(),
        }
    }
}

/// What a stranger does after the connection is there.
#[derive(Clone, Copy)]
struct Case {
    /// For people.
    what: &'static str,
    /// Sent in turn, each after something of the server's has come.
    says: &'static [&'static [u8]],
    /// In clear, or with TLS in place of the last answer.
    tls: Option<&'static [u8]>,
    /// What the log says.
    why: &'static str,
}

const VERSION: &[u8] = b"RFB 003.008\n";
const X509_PLAIN: &[u8] = &[0, 0, 1, 6];
/// Up to the start of TLS.
const TO_TLS: &[&[u8]] = &[VERSION, &[19], &[0, 2], X509_PLAIN];

const fn clear(what: &'static str, says: &'static [&'static [u8]], why: &'static str) -> Case {
    Case { what, says, tls: None, why }
}

/// Wrong at once.
const WRONG: &[Case] = &[
    clear("another protocol", &[b"GET / HTTP/1.1\r\n"], "does not speak RFB"),
    clear("a version that is none", &[b"RFB 00x.008\n"], "does not speak RFB"),
    clear("a type that is not offered", &[VERSION, &[1]], "security type 1, which was not offered"),
    clear("no type at all", &[VERSION, &[0]], "security type 0, which was not offered"),
    clear("an old viewer", &[b"RFB 003.003\n"], "RFB 3.3"),
    clear("another VeNCrypt", &[VERSION, &[19], &[9, 9]], "VeNCrypt 9.9"),
    clear("a sub-type that is not offered", &[VERSION, &[19], &[0, 2], &[0, 0, 3, 231]], "sub-type 999"),
    clear("messages in place of TLS", &[VERSION, &[19], &[0, 2], X509_PLAIN, &[3; 64]], "TLS failed"),
    clear("a key of 65,535 bits", &[VERSION, &[129], &[0, 0, 255, 255]], "key"),
    clear("a megabyte ahead", &[&[b'R'; 1 << 20]], "RFB"),
    Case {
        what: "a name of 4 GiB",
        says: TO_TLS,
        tls: Some(&[255; 8]),
        why: "user name of 4294967295 bytes",
    },
    Case {
        what: "a password over the bound",
        says: TO_TLS,
        tls: Some(&[0, 0, 0, 4, 0, 0, 4, 1]),
        why: "password of 1025 bytes",
    },
];

/// Right so far; then it goes, or says nothing more.
const CUT: &[Case] = &[
    clear("nothing", &[], "RFB version"),
    clear("half a version", &[b"RFB 003."], "RFB version"),
    clear("no type", &[VERSION], "security type"),
    clear("half a VeNCrypt version", &[VERSION, &[19], &[0]], "VeNCrypt version"),
    clear("half a sub-type", &[VERSION, &[19], &[0, 2], &[0, 0]], "VeNCrypt sub-type"),
    clear("no TLS", TO_TLS, "TLS"),
    clear("half a TLS record", &[VERSION, &[19], &[0, 2], X509_PLAIN, &[22, 3, 1, 2, 0, 1]], "TLS"),
    clear("half an RSA key", &[VERSION, &[129], &[0, 0, 8, 0, 1]], "RSA-AES"),
    Case { what: "no name", says: TO_TLS, tls: Some(&[]), why: "user name and password" },
    Case {
        what: "half a name",
        says: TO_TLS,
        tls: Some(&[0, 0, 0, 4, 0, 0, 0, 9, b'a']),
        why: "user name and password",
    },
];

impl Case {
    /// Does it, and waits until it is closed, or goes; gives the own port and how long it took.
    fn run(self, server: &Server, goes: bool) -> (u16, Duration) {
        let mut tcp = TcpStream::connect(server.vnc).unwrap();
        let port = tcp.local_addr().unwrap().port();
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        let mut buffer = [0; 4096];
        for part in self.says {
            assert!(tcp.read(&mut buffer).unwrap() > 0, "{}: closed before its time", self.what);
            // It may be closed in the middle of this.
            let _ = tcp.write_all(part);
        }
        let took = match self.tls {
            None if goes => Duration::ZERO,
            None => closed(&mut tcp),
            Some(says) => {
                // The one byte that says that the sub-type is good.
                assert_eq!(tcp.read(&mut buffer[..1]).unwrap(), 1, "{}", self.what);
                let mut tls = tls(&server.cert(), tcp);
                tls.write_all(says).and_then(|()| tls.flush()).unwrap();
                while tls.conn.is_handshaking() {
                    tls.conn.complete_io(&mut tls.sock).unwrap();
                }
                if goes { Duration::ZERO } else { closed(&mut tls) }
            }
        };
        (port, took)
    }

    /// Waits for the one line about it.
    fn is_logged(self, server: &Server, port: u16) {
        let address = format!("address=127.0.0.1:{port} ");
        let lines = until(&format!("{}: a line with {address}", self.what), LIMIT, || {
            let log = server.broker_log();
            let lines: Vec<_> = log.lines().filter(|l| l.contains(&address)).map(str::to_owned).collect();
            (!lines.is_empty()).then_some(lines)
        });
        println!("{}: {}", self.what, lines[0]);
        assert!(lines.len() == 1 && lines[0].contains(self.why), "{}: {lines:#?}", self.what);
    }
}

/// Messages that no server can take, after ClientInit.
const BAD_MESSAGES: &[(&str, &[u8], &str)] = &[
    ("an unknown type", &[99], "unknown type 99"),
    ("a handshake anew", VERSION, "unknown type 82"),
    ("7 bits a pixel", &[0, 0, 0, 0, 7, 7, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0], "pixel format"),
    ("65,535 encodings", &[2, 0, 255, 255], "65535 encodings"),
    ("a fence of 65 bytes", &[248, 0, 0, 0, 0, 0, 0, 0, 65], "fence of 65 bytes"),
    ("an unknown QEMU message", &[255, 77], "sub-type 77"),
    ("a clipboard without flags", &[6, 0, 0, 0, 255, 255, 255, 255, 0], "clipboard"),
    ("a clipboard that is no zlib", &[6, 0, 0, 0, 255, 255, 255, 248, 16, 0, 0, 1, 9, 9, 9, 9], "clipboard"),
];

/// The beginnings of all messages that are longer than their type.
const HALVES: &[&[u8]] = &[
    &[0, 0, 0, 0, 32],
    &[2, 0, 0, 9, 0],
    &[3, 1, 0],
    &[4, 1],
    &[5, 0, 1],
    &[6, 0, 0, 0, 0, 1, 0, 0, b'x'],
    &[6, 0, 0, 0, 127, 255, 255, 255, b'x'],
    &[150, 1],
    &[248, 0, 0, 0, 0, 0, 0, 0, 64, 1],
    &[250, 0],
    &[251, 0, 4, 0, 4, 0, 255, 0, 1],
    &[255, 0, 0, 1, 0],
];

fn desktop_log(server: &Server, connection: &Value) -> Vec<String> {
    let dir = server.desktop_dir(connection["desktop"]["id"].as_str().unwrap());
    let log = std::fs::read_to_string(dir.join("desktop.log")).unwrap();
    log.lines().filter(|l| l.contains("a viewer was closed")).map(str::to_owned).collect()
}

/// Waits for one more line than `before`; gives it.
fn one_more(server: &Server, connection: &Value, before: usize) -> String {
    let mut lines = until("a line about it", LIMIT, || {
        Some(desktop_log(server, connection)).filter(|lines| lines.len() > before)
    });
    assert_eq!(lines.len(), before + 1, "{lines:#?}");
    lines.pop().unwrap()
}

fn websocket(server: &Server, connection: &Value) -> WebSocket<lucarne_tests::http::Tls> {
    let tcp = TcpStream::connect(server.address).unwrap();
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    let path = connection["websocket"].as_str().unwrap();
    let mut request = format!("wss://{}{path}", server.address).into_client_request().unwrap();
    let protocols = format!("binary, lucarne.ticket.{}", connection["ticket"].as_str().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    client(request, tls(&server.cert(), tcp)).unwrap().0
}

#[test]
fn viewers_that_break_the_protocol_are_closed_with_a_reason_and_others_unharmed() {
    let server = Server::start();
    let (anna, bert) = (server.user("anna"), server.user("bert"));
    let connection = server.connect(&anna);
    let guest = server.guest(&connection);
    let viewer = Vnc::beside(&server, &connection, false).unwrap();
    let mut healthy = Healthy { viewer, guest: &guest, typed: 0 };
    healthy.viewer.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).unwrap();
    guest.wait_terminal();
    healthy.works();

    // What comes to a halt takes longest, so all of it at once, and the rest beside it.
    thread::scope(|scope| {
        for case in CUT {
            let server = &server;
            scope.spawn(move || {
                let (port, took) = case.run(server, false);
                assert!(took < PATIENCE, "{}: closed after {took:?}", case.what);
                case.is_logged(server, port);
            });
        }
        let halts: Vec<_> = HALVES
            .iter()
            .map(|half| {
                let mut viewer = Vnc::beside(&server, &connection, true).unwrap();
                viewer.send_raw(half).unwrap();
                scope.spawn(move || {
                    let began = Instant::now();
                    viewer.until_closed();
                    assert!(began.elapsed() < PATIENCE, "{half:?}: closed after {:?}", began.elapsed());
                })
            })
            .collect();
        for case in WRONG {
            let (port, _) = case.run(&server, false);
            case.is_logged(&server, port);
        }
        for case in CUT {
            let (port, _) = case.run(&server, true);
            case.is_logged(&server, port);
        }
        healthy.works();
        halts.into_iter().for_each(|halt| halt.join().unwrap());
    });
    let lines = desktop_log(&server, &connection);
    let halted = lines.iter().filter(|l| l.contains("began a message and sent nothing more")).count();
    assert_eq!((lines.len(), halted), (HALVES.len(), HALVES.len()), "{lines:#?}");
    healthy.works();

    // Those who are let in, over TLS, on the desktop of the healthy one.
    for (what, bytes, why) in BAD_MESSAGES {
        let before = desktop_log(&server, &connection).len();
        let mut viewer = Vnc::connect(&server, "anna").unwrap();
        viewer.send_raw(bytes).unwrap();
        viewer.until_closed();
        let line = one_more(&server, &connection, before);
        println!("{what}: {line}");
        assert!(line.contains(why) && line.contains("session="), "{what}: {line}");
    }
    for half in HALVES {
        let before = desktop_log(&server, &connection).len();
        let mut viewer = Vnc::connect(&server, "anna").unwrap();
        viewer.send_raw(half).unwrap();
        viewer.leave();
        let line = one_more(&server, &connection, before);
        // The gateway may go with something of the server's unread, which is a reset.
        let told =
            ["in the middle of a message", "its connection broke"].iter().any(|why| line.contains(why));
        assert!(told, "{half:?}: {line}");
    }
    healthy.works();

    // The browsers' door, to a desktop of one's own.
    for (what, message, why) in [
        ("text", Message::text("hello"), "text where RFB is binary"),
        ("a message of 5 MiB", Message::binary(vec![0; 5 << 20]), "broke"),
        ("no RFB", Message::binary(&b"GET / HTTP/1.1\r\n\r\n"[..]), "display"),
    ] {
        let connection = server.connect(&bert);
        let session = connection["session"]["id"].as_str().unwrap().to_owned();
        let ended = || {
            let log = server.broker_log();
            let ours = |l: &&str| l.contains("a browser's stream ended") && l.contains(&session);
            log.lines().filter(ours).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = ended().len();
        let mut socket = websocket(&server, &connection);
        // It may be closed in the middle of this.
        let _ = socket.send(message);
        while socket.read().is_ok_and(|m| !m.is_close()) {}
        let lines = until(&format!("a line about {what}"), LIMIT, || {
            Some(ended()).filter(|lines| lines.len() > before)
        });
        println!("{what}: {}", lines[before]);
        assert!(lines.len() == before + 1 && lines[before].contains(why), "{what}: {lines:#?}");
    }
    healthy.works();
    Vnc::connect(&server, "anna").unwrap();
    server.stop();
}
