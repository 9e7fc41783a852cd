//! Viewers without a window: vnc-rs, which is other people's, over the browser's WebSocket, and ours in a busy guest. Both
//! type into a real one.

#![allow(clippy::unwrap_used)]

use futures_util::{SinkExt, StreamExt};
use lucarne_rfb::client::Framebuffer;
use lucarne_tests::http::tls_config;
use lucarne_tests::poll::LIMIT;
use lucarne_tests::server::Server;
use lucarne_tests::viewer::{Vnc, keys};
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::block_in_place;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use vnc::{ClientKeyEvent, PixelFormat, VncConnector, VncEncoding, VncError, VncEvent, X11Event};

/// Has a symbol on a key of its own, one that needs Shift, and capitals.
const TYPED: &str = "echo \"From $USER|\" > ~/typed";
const SEEN: &str = "From user|";

#[test]
fn text_that_is_typed_at_once_arrives_whole_in_a_busy_guest() {
    let server = Server::start();
    let guest = server.guest(&server.connect(&server.user("anna")));
    let mut viewer = Vnc::connect(&server, "anna").unwrap();
    viewer.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).unwrap();
    guest.wait_terminal();
    let text = "Typed at ONCE; \"(all) of it\"\n".repeat(30);
    guest.must("nohup sh -c 'while [ ! -e /home/user/typed ]; do :; done' >/dev/null 2>&1 &");
    viewer.type_text("cat > part\n").unwrap();
    viewer.type_text(&text).unwrap();
    viewer.press(&[keys::CONTROL, u32::from('d')]).unwrap();
    viewer.type_text("mv part typed\n").unwrap();
    assert_eq!(guest.wait_file("/home/user/typed"), text.trim());
    server.stop();
}

/// The browser's WebSocket of a connection, as a stream of bytes.
async fn stream(server: &Server, connection: &Value) -> DuplexStream {
    let tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls_config(&server.cert()));
    let tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    let path = connection["websocket"].as_str().unwrap();
    let ticket = connection["ticket"].as_str().unwrap();
    let mut request = format!("wss://{}{path}", server.address).into_client_request().unwrap();
    let protocols = format!("binary, lucarne.ticket.{ticket}");
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    let (socket, _) = tokio_tungstenite::client_async(request, tls).await.unwrap();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (mut to_server, mut from_server) = socket.split();
    let (mut read, mut write) = tokio::io::split(theirs);
    tokio::spawn(async move {
        while let Some(Ok(message)) = from_server.next().await {
            if let Message::Binary(bytes) = message
                && write.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n @ 1..) = read.read(&mut buffer).await {
            if to_server.send(Message::binary(buffer[..n].to_vec())).await.is_err() {
                return;
            }
        }
    });
    ours
}

/// What vnc-rs has drawn.
#[derive(Default)]
struct Picture {
    width: usize,
    bytes: Vec<u8>,
}

impl Picture {
    fn take(&mut self, event: VncEvent) {
        match event {
            VncEvent::SetResolution(size) => {
                self.width = usize::from(size.width);
                self.bytes = vec![0; self.width * usize::from(size.height) * 4];
            }
            VncEvent::RawImage(rect, data) => {
                for (y, line) in data.chunks_exact(usize::from(rect.width) * 4).enumerate() {
                    self.put(rect, y, line);
                }
            }
            VncEvent::Copy(to, from) => {
                let lines: Vec<_> = (0..usize::from(from.height))
                    .map(|y| self.bytes[self.at(from, y)..][..usize::from(from.width) * 4].to_vec())
                    .collect();
                lines.iter().enumerate().for_each(|(y, line)| self.put(to, y, line));
            }
            VncEvent::Error(error) => panic!("vnc-rs: {error}"),
            _ => {}
        }
    }

    fn at(&self, rect: vnc::Rect, y: usize) -> usize {
        ((usize::from(rect.y) + y) * self.width + usize::from(rect.x)) * 4
    }

    fn put(&mut self, rect: vnc::Rect, y: usize, line: &[u8]) {
        let at = self.at(rect, y);
        self.bytes[at..at + line.len()].copy_from_slice(line);
    }

    /// Whether it has every pixel of another picture.
    fn is(&self, other: &Framebuffer) -> bool {
        self.width == usize::from(other.width())
            && self.bytes.len() == other.pixels().len() * 4
            && self.bytes.chunks_exact(4).zip(other.pixels()).all(|(a, b)| a[..3] == b.to_le_bytes()[..3])
    }
}

/// vnc-rs with its picture.
struct VncRs {
    client: vnc::VncClient,
    picture: Picture,
}

impl VncRs {
    async fn start(stream: DuplexStream) -> Self {
        let mut connector = VncConnector::new(stream)
            .set_auth_method(async move { Ok::<_, VncError>(String::new()) })
            .set_pixel_format(PixelFormat::bgra())
            .allow_shared(true);
        for encoding in [VncEncoding::Zrle, VncEncoding::CopyRect, VncEncoding::Raw] {
            connector = connector.add_encoding(encoding);
        }
        let client = connector.build().unwrap().try_start().await.unwrap().finish().unwrap();
        Self { client, picture: Picture::default() }
    }

    /// Follows the stream until the picture is as wanted.
    async fn follow(&mut self, what: &str, mut done: impl FnMut(&Picture) -> bool) {
        let began = Instant::now();
        while !done(&self.picture) {
            assert!(began.elapsed() < LIMIT, "not within {} s: {what}", LIMIT.as_secs());
            self.client.input(X11Event::Refresh).await.unwrap();
            if let Ok(event) = timeout(Duration::from_millis(50), self.client.recv_event()).await {
                self.picture.take(event.unwrap());
            }
            while let Some(event) = self.client.poll_event().await.unwrap() {
                self.picture.take(event);
            }
        }
    }

    async fn press(&self, pressed: &[u32]) {
        let down = pressed.iter().map(|key| (*key, true));
        for event in down.chain(pressed.iter().rev().map(|key| (*key, false))) {
            self.client.input(X11Event::KeyEvent(ClientKeyEvent::from(event))).await.unwrap();
        }
    }

    async fn type_line(&self, text: &str) {
        for symbol in text.chars() {
            let shifted = symbol.is_ascii_uppercase() || "~!@#$%^&*()_+{}|:\"<>?".contains(symbol);
            let keys = [keys::SHIFT, u32::from(symbol)];
            self.press(&keys[usize::from(!shifted)..]).await;
        }
        self.press(&[keys::RETURN]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vnc_rs_types_into_a_desktop_over_the_websocket() {
    let server = Server::start();
    let anna = server.user("anna");
    let connection = server.connect(&anna);
    let guest = server.guest(&connection);
    let mut viewer = VncRs::start(stream(&server, &connection).await).await;
    let mut beside = Vnc::beside(&server, &connection, true).unwrap();
    viewer.follow("exactly the desktop", |now| now.is(beside.newest().unwrap())).await;
    viewer.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).await;
    block_in_place(|| guest.wait_terminal());
    viewer.type_line(TYPED).await;
    assert_eq!(block_in_place(|| guest.wait_file("/home/user/typed")), SEEN);
    viewer.follow("exactly what was typed", |now| now.is(beside.newest().unwrap())).await;
    viewer.client.close().await.unwrap();
    block_in_place(|| server.stop());
}
