//! Viewers for tests: a browser's WebSocket and a VNC viewer, both on real TLS, and VNC viewers without TLS.

use super::{LIMIT, Server};
use futures_util::{SinkExt, StreamExt};
use lucarne_control::api::Connection;
use lucarne_control::viewer::{Ending, Notice, ShadowQuestion, Viewer};
use lucarne_rfb::client::{Handshake, HandshakeError, HandshakeEvent, Want, write};
use lucarne_rfb::security::eax::Channel;
use lucarne_rfb::security::{Password, Subtype};
use std::collections::VecDeque;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A browser's viewer.
pub struct Browser {
    ws: WebSocketStream<TlsStream<TcpStream>>,
    pending: Vec<u8>,
    notices: VecDeque<Notice>,
    /// The words with which the stream was closed.
    pub reason: String,
}

/// Opens the WebSocket with a ticket; a refusal gives its HTTP status and body.
pub async fn open(server: &Server, ticket: &str, origin: Option<&str>) -> Result<Browser, (u16, String)> {
    open_with(server, ticket, origin, "binary").await
}

/// The same with other subprotocols, of which the first is agreed on.
pub async fn open_with(
    server: &Server,
    ticket: &str,
    origin: Option<&str>,
    protocols: &str,
) -> Result<Browser, (u16, String)> {
    let agreed = protocols.split(',').next().unwrap().to_owned();
    let mut request = format!("wss://{}/api/v1/stream", server.address).into_client_request().unwrap();
    let protocols = format!("{protocols}, lucarne.ticket.{ticket}");
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match tokio_tungstenite::client_async(request, server.connect().await).await {
        Ok((ws, answer)) => {
            assert_eq!(answer.headers()["sec-websocket-protocol"], agreed);
            Ok(Browser { ws, pending: Vec::new(), notices: VecDeque::new(), reason: String::new() })
        }
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().map(String::from_utf8_lossy);
            Err((answer.status().as_u16(), body.unwrap_or_default().into_owned()))
        }
        Err(e) => panic!("{e}"),
    }
}

impl Browser {
    /// Opens the stream of a connection and runs RFB up to the desktop's greeting, which it checks.
    pub async fn view(server: &Server, connection: &Connection) -> Self {
        Self::view_with(server, connection, "binary").await
    }

    /// The same for a browser that shows notices, as the web client does.
    pub async fn told(server: &Server, connection: &Connection) -> Self {
        Self::view_with(server, connection, "lucarne.notices, binary").await
    }

    async fn view_with(server: &Server, connection: &Connection, protocols: &str) -> Self {
        let ticket = connection.ticket.as_deref().expect("the connection has a ticket");
        let mut browser = open_with(server, ticket, None, protocols).await.unwrap();
        let mut shake = Handshake::new(Want::None);
        loop {
            let mut out = Vec::new();
            let event = shake.poll(&mut out).unwrap();
            if event == Some(HandshakeEvent::Secured) {
                write::client_init(true, &mut out);
            }
            browser.send(&out).await;
            if event.is_some() {
                break;
            }
            let bytes = browser.receive().await.expect("the stream goes on");
            shake.feed(&bytes).unwrap();
        }
        let greeting = format!("desktop {}\n", connection.desktop.name);
        assert_eq!(browser.exact(greeting.len()).await, greeting.as_bytes());
        browser
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.ws.send(Message::binary(bytes.to_vec())).await.unwrap();
        }
    }

    /// The next bytes, or the code with which the stream was closed.
    pub async fn receive(&mut self) -> Result<Vec<u8>, u16> {
        loop {
            let next = timeout(LIMIT, self.ws.next()).await.expect("the broker says something");
            match next {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes.to_vec()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    self.reason = frame.reason.to_string();
                    return Err(frame.code.into());
                }
                Some(Ok(Message::Text(text))) => {
                    self.notices.push_back(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn exact(&mut self, n: usize) -> Vec<u8> {
        while self.pending.len() < n {
            let more = self.receive().await.expect("the stream goes on");
            self.pending.extend(more);
        }
        self.pending.drain(..n).collect()
    }

    /// What is typed comes back.
    pub async fn echo(&mut self, bytes: &[u8]) {
        self.send(bytes).await;
        assert_eq!(self.exact(bytes.len()).await, bytes);
    }

    pub async fn close(mut self) {
        self.ws.close(None).await.unwrap();
    }

    /// Reads on until a notice comes that `fits`.
    pub async fn notice<T>(&mut self, fits: impl Fn(&Notice) -> Option<T>) -> T {
        loop {
            while let Some(notice) = self.notices.pop_front() {
                if let Some(found) = fits(&notice) {
                    return found;
                }
            }
            let next = timeout(LIMIT, self.ws.next()).await.expect("the broker tells something");
            match next {
                Some(Ok(Message::Text(text))) => {
                    self.notices.push_back(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Binary(bytes))) => self.pending.extend(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the session has this many viewers; gives them.
    pub async fn sees(&mut self, n: usize) -> Vec<Viewer> {
        let among = |notice: &Notice| match notice {
            Notice::Viewers { you, viewers, .. } if viewers.len() == n => {
                assert!(viewers.iter().any(|v| v.id == *you));
                Some(viewers.clone())
            }
            _ => None,
        };
        self.notice(among).await
    }

    /// Waits until it is asked something.
    pub async fn asked(&mut self) -> ShadowQuestion {
        let question = |notice: &Notice| match notice {
            Notice::Viewers { questions, .. } => questions.first().cloned(),
            Notice::Ending { .. } | Notice::TakenOver { .. } => None,
        };
        self.notice(question).await
    }

    /// Waits until it is told of its end, or that there is none any more.
    pub async fn ending(&mut self) -> Option<Ending> {
        let ending = |notice: &Notice| match notice {
            Notice::Ending { ending } => Some(*ending),
            _ => None,
        };
        self.notice(ending).await
    }

    /// Waits until no question is open.
    pub async fn unasked(&mut self) {
        let none = |notice: &Notice| match notice {
            Notice::Viewers { questions, .. } => questions.is_empty().then_some(()),
            Notice::Ending { .. } | Notice::TakenOver { .. } => None,
        };
        self.notice(none).await;
    }

    /// Reads on until the stream is closed, and gives the code.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Err(code) = self.receive().await {
                return code;
            }
        }
    }
}

/// A VNC viewer behind VeNCrypt X509Plain, up to the desktop's greeting.
pub async fn vnc(
    server: &Server,
    user: &str,
    password: &str,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    vnc_sharing(server, user, password, false).await
}

/// The same, with the shared flag of ClientInit (RFC 6143, section 7.3.1).
pub async fn vnc_sharing(
    server: &Server,
    user: &str,
    password: &str,
    shared: bool,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let mut tcp = TcpStream::connect(server.vnc).await.unwrap();
    let want = Want::VeNCrypt {
        subtypes: vec![Subtype::X509Plain],
        user: user.to_owned(),
        password: Password::new(password.to_owned()),
    };
    let mut shake = Handshake::new(want);
    let mut buffer = [0; 1024];
    loop {
        let mut out = Vec::new();
        let event = shake.poll(&mut out)?;
        tcp.write_all(&out).await.unwrap();
        if event.is_some() {
            break;
        }
        let n = tcp.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the server went");
        shake.feed(&buffer[..n])?;
    }
    let mut tls = server.tls(tcp).await;
    let mut out = Vec::new();
    shake.tls_started(&mut out)?;
    loop {
        tls.write_all(&out).await.unwrap();
        tls.flush().await.unwrap();
        let n = tls.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the server went");
        shake.feed(&buffer[..n])?;
        out.clear();
        if shake.poll(&mut out)? == Some(HandshakeEvent::Secured) {
            break;
        }
    }
    let mut out = Vec::new();
    write::client_init(shared, &mut out);
    tls.write_all(&out).await.unwrap();
    tls.flush().await.unwrap();
    Ok(tls)
}

/// A VNC viewer without TLS.
pub struct Bare {
    tcp: TcpStream,
    /// Where the security type encrypts the stream.
    pub channel: Option<Channel>,
    pending: Vec<u8>,
}

/// A VNC viewer that wants a security type without TLS, after ClientInit.
pub async fn bare(server: &Server, want: Want) -> Result<Bare, HandshakeError> {
    let tcp = TcpStream::connect(server.vnc).await.unwrap();
    let mut viewer = Bare { tcp, channel: None, pending: Vec::new() };
    let mut shake = Handshake::new(want);
    loop {
        let mut out = Vec::new();
        let event = shake.poll(&mut out)?;
        viewer.send(&out).await;
        match event {
            None => {
                let bytes = viewer.receive().await.expect("the server goes on");
                shake.feed(&bytes)?;
            }
            Some(HandshakeEvent::CheckKey) => {
                let shown = shake.server_key().map(|key| key.fingerprint());
                assert_eq!(shown, server.vnc_fingerprint, "the fingerprint that the server prints");
                let mut out = Vec::new();
                shake.trust(&mut out)?;
                viewer.send(&out).await;
            }
            Some(HandshakeEvent::StartAes) => viewer.channel = Some(shake.channel()?),
            Some(HandshakeEvent::StartTls(_)) => panic!("no TLS was wanted"),
            Some(HandshakeEvent::Secured) => break,
        }
    }
    let mut out = Vec::new();
    write::client_init(true, &mut out);
    viewer.send(&out).await;
    viewer.pending.extend(shake.take_rest());
    Ok(viewer)
}

impl Bare {
    pub async fn send(&mut self, bytes: &[u8]) {
        let mut wire = bytes.to_vec();
        if let Some(channel) = &mut self.channel {
            wire.clear();
            channel.sealer.seal(bytes, &mut wire);
        }
        self.tcp.write_all(&wire).await.unwrap();
    }

    /// The next bytes; `None` at the end.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        loop {
            let mut text = Vec::new();
            if let Some(channel) = &mut self.channel {
                while channel.opener.open(&mut text).unwrap() {}
                if !text.is_empty() {
                    return Some(text);
                }
            }
            let read = timeout(LIMIT, self.tcp.read(&mut buffer)).await.expect("the broker says something");
            let bytes = &buffer[..read.ok().filter(|n| *n > 0)?];
            match &mut self.channel {
                Some(channel) => channel.opener.feed(bytes),
                None => return Some(bytes.to_vec()),
            }
        }
    }

    pub async fn exact(&mut self, n: usize) -> Vec<u8> {
        while self.pending.len() < n {
            let more = self.receive().await.expect("the stream goes on");
            self.pending.extend(more);
        }
        self.pending.drain(..n).collect()
    }

    /// Checks whose desktop this is, and that what is typed comes back.
    pub async fn shows(&mut self, desktop: &str) {
        let greeting = format!("desktop {desktop}\n");
        let shown = self.exact(greeting.len()).await;
        assert_eq!(String::from_utf8_lossy(&shown), greeting);
        let typed: Vec<u8> = (0..100_000u32).map(|i| (i % 253) as u8).collect();
        for chunk in typed.chunks(1000) {
            self.send(chunk).await;
            assert!(self.exact(chunk.len()).await == chunk);
        }
    }
}
