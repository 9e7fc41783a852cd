//! A viewer's stream in the encrypted messages of the RSA-AES types, as an `AsyncRead` and `AsyncWrite` like TLS's.
//!
//! What is not genuine ends the stream with an error. An end between two messages is an end: unlike TLS these types have
//! no farewell, so a stream that is cut there looks complete. RFB does not rely on it.

use lucarne_rfb::security::eax::{Channel, MAX_SEALED, OVERHEAD};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once: two messages as long as viewers send them.
const BUFFER: usize = 2 * (MAX_SEALED + OVERHEAD);

/// The stream around another.
#[derive(Debug)]
pub(super) struct AesStream<S> {
    inner: S,
    channel: Channel,
    /// Decrypted, and from where on it was not yet given to the reader.
    opened: Vec<u8>,
    given: usize,
    /// Encrypted, and from where on it was not yet taken by `inner`.
    sealed: Vec<u8>,
    sent: usize,
}

impl<S> AesStream<S> {
    /// What the channel holds already is read first.
    pub(super) fn new(inner: S, channel: Channel) -> Self {
        Self { inner, channel, opened: Vec::new(), given: 0, sealed: Vec::new(), sent: 0 }
    }
}

impl<S: AsyncWrite + Unpin> AesStream<S> {
    /// Hands on what is encrypted.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.sealed.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.sealed[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.sealed.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AesStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let waiting = &this.opened[this.given..];
            if !waiting.is_empty() || buf.remaining() == 0 {
                let n = waiting.len().min(buf.remaining());
                buf.put_slice(&waiting[..n]);
                this.given += n;
                return Poll::Ready(Ok(()));
            }
            this.opened.clear();
            this.given = 0;
            let opened = this.channel.opener.open(&mut this.opened);
            // A message may be empty; then the next one is looked at.
            if opened.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
                continue;
            }
            let mut bytes = [MaybeUninit::uninit(); BUFFER];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut bytes))?;
            match bytes.filled() {
                [] if this.channel.opener.pending() > 0 => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                [] => return Poll::Ready(Ok(())),
                filled => this.channel.opener.feed(filled),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AesStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // One message at a time, so that a slow viewer slows the desktop and nothing piles up here.
        ready!(this.drain(cx))?;
        let n = buf.len().min(MAX_SEALED);
        this.channel.sealer.seal(&buf[..n], &mut this.sealed);
        match this.drain(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            // It is ours now: the next write, or the flush, sends its rest.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_rfb::security::eax::{Key, MAX_MESSAGE, Opener, Sealer};
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const UP: Key = Key::Aes128([1; 16]);
    const DOWN: Key = Key::Aes128([2; 16]);

    fn channel(to: &Key, from: &Key) -> Channel {
        Channel { sealer: Sealer::new(to), opener: Opener::new(from, MAX_MESSAGE) }
    }

    /// Two ends over a pipe that holds `room` bytes.
    fn pair(room: usize) -> (AesStream<DuplexStream>, AesStream<DuplexStream>) {
        let (a, b) = tokio::io::duplex(room);
        (AesStream::new(a, channel(&UP, &DOWN)), AesStream::new(b, channel(&DOWN, &UP)))
    }

    #[tokio::test]
    async fn everything_arrives_through_pipes_of_any_size() {
        let text: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        for room in [1, 7, 8192, 1 << 20] {
            let (mut a, mut b) = pair(room);
            let sent = text.clone();
            let sending = tokio::spawn(async move {
                a.write_all(&sent).await.unwrap();
                a.shutdown().await.unwrap();
            });
            let mut got = Vec::new();
            b.read_to_end(&mut got).await.unwrap();
            sending.await.unwrap();
            assert!(got == text, "through {room} bytes");
        }
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back() {
        let (mut a, mut b) = pair(1024);
        let mut taken = 0;
        loop {
            let written = poll_fn(|cx| Poll::Ready(Pin::new(&mut a).poll_write(cx, &[7; 4096]))).await;
            let Poll::Ready(n) = written else { break };
            taken += n.unwrap();
            assert!(taken <= 4096, "one message waits, and no more are taken");
        }
        let mut got = vec![0; taken];
        let reading = tokio::spawn(async move {
            b.read_exact(&mut got).await.unwrap();
            got
        });
        a.flush().await.unwrap();
        assert!(reading.await.unwrap().iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn what_the_channel_holds_already_is_read_first() {
        let mut early = channel(&DOWN, &UP);
        let mut wire = Vec::new();
        Sealer::new(&UP).seal(b"early", &mut wire);
        early.opener.feed(&wire);
        let (_a, b) = tokio::io::duplex(1);
        let mut text = [0; 5];
        AesStream::new(b, early).read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"early");
    }

    #[tokio::test]
    async fn a_spoiled_message_and_a_cut_one_are_errors_and_an_end_between_two_is_none() {
        let mut wire = Vec::new();
        Sealer::new(&UP).seal(b"genuine", &mut wire);
        let read = async |wire: &[u8]| {
            let (mut a, b) = tokio::io::duplex(1024);
            a.write_all(wire).await.unwrap();
            drop(a);
            let mut text = Vec::new();
            let ended = AesStream::new(b, channel(&DOWN, &UP)).read_to_end(&mut text).await;
            (text, ended.map_err(|e| e.kind()))
        };
        assert_eq!(read(&wire).await, (b"genuine".to_vec(), Ok(7)));
        assert_eq!(read(&wire[..9]).await, (vec![], Err(io::ErrorKind::UnexpectedEof)));
        wire[2] ^= 1;
        assert_eq!(read(&wire).await, (vec![], Err(io::ErrorKind::InvalidData)));
    }
}
