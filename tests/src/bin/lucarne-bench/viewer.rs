//! A viewer as a browser is one: RFB in a WebSocket on TLS. It decodes what it gets and knows when the whole screen has
//! been drawn.

use crate::http::Pinned;
use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use lucarne_rfb::Rect;
use lucarne_rfb::client::{Handshake, HandshakeEvent, ServerEvent, Viewer as Decoder, Want, write};
use lucarne_rfb::encodings as enc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// What is asked for, most preferred first. No JPEG quality: the picture comes without loss, which is the most work.
const ENCODINGS: [i32; 7] = [
    enc::TIGHT,
    enc::ZRLE,
    enc::COPY_RECT,
    enc::RAW,
    enc::LAST_RECT,
    enc::CURSOR_WITH_ALPHA,
    enc::EXTENDED_DESKTOP_SIZE,
];

/// The keysym of the left Shift key, which does nothing by itself.
const SHIFT: u32 = 0xffe1;

/// A connected viewer.
pub struct Viewer {
    ws: WebSocketStream<TlsStream<TcpStream>>,
    decoder: Decoder,
}

impl Viewer {
    /// Redeems a ticket and goes through RFB's handshake.
    pub async fn open(server: &Pinned, path: &str, ticket: &str) -> Result<Self> {
        let mut request = format!("wss://{}{path}", server.address).into_client_request()?;
        let protocols = format!("binary, lucarne.ticket.{ticket}");
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse()?);
        let (ws, _) = tokio_tungstenite::client_async(request, server.connect().await?)
            .await
            .context("the stream was refused")?;
        let mut viewer = Self { ws, decoder: Decoder::new(None) };
        let mut shake = Handshake::new(Want::None);
        loop {
            let mut out = Vec::new();
            let event = shake.poll(&mut out)?;
            if event == Some(HandshakeEvent::Secured) {
                write::client_init(true, &mut out);
            }
            viewer.send(out).await?;
            if event.is_some() {
                viewer.decoder.feed(&shake.take_rest())?;
                return Ok(viewer);
            }
            shake.feed(&viewer.receive().await?)?;
        }
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        if !bytes.is_empty() {
            self.ws.send(Message::binary(bytes)).await?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.ws.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes.into()),
                Some(Ok(Message::Close(frame))) => bail!("the server closed the stream: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the stream ended"),
            }
        }
    }

    async fn event(&mut self) -> Result<ServerEvent> {
        loop {
            if let Some(event) = self.decoder.next_event()? {
                return Ok(event);
            }
            let bytes = self.receive().await?;
            self.decoder.feed(&bytes)?;
        }
    }

    /// Asks for the whole screen and returns once every pixel of it has been drawn.
    pub async fn first_frame(&mut self) -> Result<()> {
        let mut drawn = Coverage::default();
        loop {
            match self.event().await? {
                ServerEvent::Init(init) => {
                    drawn = Coverage::new(init.width, init.height);
                    let mut out = Vec::new();
                    write::set_encodings(&ENCODINGS, &mut out);
                    write::framebuffer_update_request(false, drawn.rect(), &mut out);
                    self.send(out).await?;
                }
                ServerEvent::Resized { width, height, status: 0, .. }
                    if (width, height) != (drawn.width, drawn.height) =>
                {
                    drawn = Coverage::new(width, height);
                }
                ServerEvent::Drawn { rect, .. } => drawn.add(rect),
                ServerEvent::Updated { .. } if drawn.is_whole() => break,
                ServerEvent::Updated { .. } => {
                    let mut out = Vec::new();
                    write::framebuffer_update_request(true, drawn.rect(), &mut out);
                    self.send(out).await?;
                }
                _ => {}
            }
        }
        let pixels = self.decoder.framebuffer().pixels();
        ensure!(pixels.iter().any(|p| *p != pixels[0]), "the first frame shows nothing but one colour");
        Ok(())
    }

    /// Presses a key and lets it go.
    pub async fn key(&mut self) -> Result<()> {
        let mut out = Vec::new();
        write::key_event(true, SHIFT, &mut out);
        write::key_event(false, SHIFT, &mut out);
        self.send(out).await
    }

    /// Stays connected, as someone who looks on, until the stream is closed.
    pub async fn look_on(mut self) {
        loop {
            let mut out = Vec::new();
            write::framebuffer_update_request(true, self.decoder.framebuffer().rect(), &mut out);
            if self.send(out).await.is_err() {
                return;
            }
            loop {
                match self.event().await {
                    Ok(ServerEvent::Updated { .. }) => break,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        }
    }
}

/// Which pixels have been drawn.
#[derive(Default)]
struct Coverage {
    width: u16,
    height: u16,
    drawn: Vec<bool>,
    left: usize,
}

impl Coverage {
    fn new(width: u16, height: u16) -> Self {
        let left = usize::from(width) * usize::from(height);
        Self { width, height, drawn: vec![false; left], left }
    }

    fn rect(&self) -> Rect {
        Rect::new(0, 0, self.width, self.height)
    }

    fn add(&mut self, rect: Rect) {
        let right = rect.x.saturating_add(rect.w).min(self.width);
        for y in rect.y..rect.y.saturating_add(rect.h).min(self.height) {
            let row = usize::from(y) * usize::from(self.width);
            for x in rect.x..right {
                let pixel = &mut self.drawn[row + usize::from(x)];
                self.left -= usize::from(!*pixel);
                *pixel = true;
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.left == 0 && !self.drawn.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_whole_when_its_last_pixel_is_drawn() {
        let mut drawn = Coverage::new(4, 3);
        drawn.add(Rect::new(0, 0, 4, 2));
        drawn.add(Rect::new(0, 1, 3, 2));
        drawn.add(Rect::new(2, 2, 1, 9));
        assert!(!drawn.is_whole());
        drawn.add(Rect::new(3, 2, 60_000, 60_000));
        assert!(drawn.is_whole());
        assert!(!Coverage::new(0, 0).is_whole());
    }
}
