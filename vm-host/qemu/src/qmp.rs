//! QMP, QEMU's control protocol: JSON lines over a Unix socket (QEMU's `docs/interop/qmp-spec`).
//!
//! One task reads; replies go to whoever waits, in order; events go to a channel. QEMU serves one client at a time on
//! a socket, so a desktop process that was restarted simply connects again.

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc, oneshot};

/// Longest line accepted from QEMU, bytes. `query-named-block-nodes` is the longest real one: of a disk of 120 layers some 8 MiB.
const MAX_LINE: usize = 16 << 20;

/// How long a command may take. Commands that start something long (`migrate`) answer at once; too low and a loaded
/// host fails forks, too high and a hung QEMU is noticed late.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Why a QMP command failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket.
    #[error("no connection to QEMU's control socket")]
    Io(#[from] io::Error),
    /// QEMU closed the connection, which it does when it ends.
    #[error("QEMU closed its control socket during {0}")]
    Closed(String),
    /// QEMU answered with an error.
    #[error("QEMU refused {command}: {desc}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        desc: String,
    },
    /// No answer.
    #[error("QEMU did not answer {0} within {limit} s", limit = COMMAND_LIMIT.as_secs())]
    TimedOut(String),
}

type Waiter = oneshot::Sender<Result<Value, Value>>;

/// A connection in command mode.
pub struct Qmp {
    stream: Arc<UnixStream>,
    /// Taken while a command is written and its waiter queued, so that the two orders agree.
    sending: Mutex<mpsc::UnboundedSender<Waiter>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// An event, such as `SHUTDOWN`, with its data.
#[derive(Clone, Debug)]
pub struct Event {
    /// The name.
    pub name: String,
    /// The data, or null.
    pub data: Value,
}

/// `&UnixStream` reads through `try_read`; this makes it an `AsyncRead` that shares the stream with the writer.
struct SharedStream(Arc<UnixStream>);

impl AsyncRead for SharedStream {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return std::task::Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return std::task::Poll::Ready(Err(e)),
            }
        }
    }
}

impl Qmp {
    /// Connects, reads the greeting and leaves capabilities negotiation.
    ///
    /// # Errors
    /// When the socket is not there or QEMU does not greet.
    pub async fn connect(path: &Path) -> Result<(Self, mpsc::Receiver<Event>), QmpError> {
        let stream = Arc::new(crate::address::connect_when_listening(path).await?);
        let mut lines = BufReader::new(SharedStream(stream.clone()));
        let greeting = read_line(&mut lines).await?;
        if greeting.as_ref().and_then(|g| g.get("QMP")).is_none() {
            return Err(QmpError::Closed("the greeting".into()));
        }
        let (event_tx, event_rx) = mpsc::channel(256);
        let (waiter_tx, waiter_rx) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read_loop(lines, waiter_rx, event_tx));
        let qmp = Self { stream, sending: Mutex::new(waiter_tx), reader };
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok((qmp, event_rx))
    }

    /// Runs a command and gives its `return` value.
    ///
    /// # Errors
    /// QEMU's refusal, or that it is gone.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.send(command, arguments, None).await
    }

    /// Runs a command that takes a file descriptor (`getfd`), which QEMU receives with it.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub async fn execute_with_fd(
        &self,
        command: &str,
        arguments: Value,
        fd: BorrowedFd<'_>,
    ) -> Result<Value, QmpError> {
        self.send(command, arguments, Some(fd)).await
    }

    async fn send(
        &self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let mut message = json!({ "execute": command });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        let (tx, rx) = oneshot::channel();
        {
            let waiters = self.sending.lock().await;
            self.write_all(&line, fd).await?;
            waiters.send(tx).map_err(|_| QmpError::Closed(command.into()))?;
        }
        let answer = tokio::time::timeout(COMMAND_LIMIT, rx)
            .await
            .map_err(|_| QmpError::TimedOut(command.into()))?
            .map_err(|_| QmpError::Closed(command.into()))?;
        answer.map_err(|error| QmpError::Refused {
            command: command.into(),
            desc: error["desc"].as_str().unwrap_or("no reason given").into(),
        })
    }

    async fn write_all(&self, mut bytes: &[u8], mut fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
                if !fds.is_empty() {
                    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
                }
                rustix::net::sendmsg(
                    self.stream.as_fd(),
                    &[IoSlice::new(bytes)],
                    &mut ancillary,
                    SendFlags::NOSIGNAL,
                )
                .map_err(io::Error::from)
            });
            match sent {
                Ok(n) => {
                    bytes = &bytes[n..];
                    fd = None;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Waits until `query-status` says something other than `inmigrate` and gives it.
    ///
    /// # Errors
    /// When the incoming state could not be loaded: QEMU has then ended.
    pub async fn wait_loaded(&self) -> Result<String, QmpError> {
        loop {
            let status = self.execute("query-status", Value::Null).await?;
            let status = status["status"].as_str().unwrap_or_default().to_owned();
            if status != "inmigrate" {
                return Ok(status);
            }
            // There is no event for "incoming finished" in postmigrate state; the answer itself takes a round trip
            // through QEMU's main loop, so this small pause only keeps two processes from spinning.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn read_line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> io::Result<Option<Value>> {
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(None);
        }
        let (take, done) =
            chunk.iter().position(|b| *b == b'\n').map_or((chunk.len(), false), |at| (at + 1, true));
        line.extend_from_slice(&chunk[..take]);
        reader.consume(take);
        if line.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a QMP line is too long"));
        }
        if done {
            return serde_json::from_slice(&line).map(Some).map_err(io::Error::from);
        }
    }
}

async fn read_loop(
    mut lines: BufReader<SharedStream>,
    mut waiters: mpsc::UnboundedReceiver<Waiter>,
    events: mpsc::Sender<Event>,
) {
    while let Ok(Some(mut message)) = read_line(&mut lines).await {
        if let Some(name) = message["event"].as_str() {
            let event = Event { name: name.into(), data: message["data"].take() };
            // A reader that fell 256 events behind loses events rather than stalling commands.
            let _ = events.try_send(event);
            continue;
        }
        let answer = if message.get("error").is_some() {
            Err(message["error"].take())
        } else {
            Ok(message["return"].take())
        };
        // The waiter is queued just after its command is written, under a lock: it is there or about to be.
        match waiters.recv().await {
            Some(waiter) => {
                let _ = waiter.send(answer);
            }
            None => break,
        }
    }
}
