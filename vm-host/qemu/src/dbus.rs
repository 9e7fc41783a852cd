//! QEMU's D-Bus display, peer to peer (`-display dbus,p2p=yes`; QEMU's `ui/dbus-display1.xml`): registering the
//! listener and asking for another size. Keyboard and mouse are in `input`, sound is in `audio`.

use crate::audio::Audio;
use crate::input::Input;
use crate::leds;
use crate::listener::Listener;
use crate::qmp::{Qmp, QmpError};
use lucarne_driver::{AudioSink, DisplaySink, InputEvent};
use serde_json::json;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use zbus::Connection;
use zbus::connection::Builder;

pub(crate) const CONSOLE: &str = "/org/qemu/Display1/Console_0";

/// How long attaching may take; it takes milliseconds, seconds on a host that is out of processor time.
const ATTACH_LIMIT: Duration = Duration::from_secs(30);

/// Why the display could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum DisplayError {
    /// QMP.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// D-Bus.
    #[error("QEMU's display did not answer")]
    Bus(#[from] zbus::Error),
    /// No answer.
    #[error("QEMU's display did not answer within {} s", ATTACH_LIMIT.as_secs())]
    TimedOut,
    /// A socket pair could not be made.
    #[error("no socket for QEMU's display")]
    Io(#[from] std::io::Error),
}

/// The attached display of one QEMU.
pub(crate) struct Display {
    connection: Connection,
    input: Input,
    listener: tokio::task::JoinHandle<()>,
    lights: tokio::task::JoinHandle<()>,
}

impl Drop for Display {
    fn drop(&mut self) {
        self.listener.abort();
        self.lights.abort();
    }
}

impl Display {
    /// Attaches to the first console: the sink gets a scanout at once, then updates as they happen.
    pub(crate) async fn attach(
        qmp: &Arc<Qmp>,
        sink: Arc<dyn DisplaySink>,
        shared: bool,
    ) -> Result<Self, DisplayError> {
        tokio::time::timeout(ATTACH_LIMIT, Self::attach_unlimited(qmp, sink, shared))
            .await
            .map_err(|_| DisplayError::TimedOut)?
    }

    async fn attach_unlimited(
        qmp: &Arc<Qmp>,
        sink: Arc<dyn DisplaySink>,
        shared: bool,
    ) -> Result<Self, DisplayError> {
        let (ours, theirs) = UnixStream::pair()?;
        qmp.execute_with_fd("getfd", json!({ "fdname": "lucarne-display" }), theirs.as_fd()).await?;
        drop(theirs);
        qmp.execute("add_client", json!({ "protocol": "@dbus-display", "fdname": "lucarne-display" }))
            .await?;
        let connection = Builder::unix_stream(ours).p2p().build().await?;

        // QEMU authenticates to the listener while it handles the call: both sides must run at once.
        let (ours, theirs) = UnixStream::pair()?;
        // On this connection too QEMU is the side that authenticates, although it is the one that calls.
        let serve = Builder::unix_stream(ours).p2p().build_message_stream();
        let theirs = zbus::Fd::from(std::os::fd::OwnedFd::from(theirs));
        let caller = connection.clone();
        let register = tokio::spawn(async move {
            let interface = Some("org.qemu.Display1.Console");
            caller.call_method(None::<&str>, CONSOLE, interface, "RegisterListener", &(theirs,)).await
        });
        let listener = tokio::spawn(Listener::new(sink.clone(), shared).serve(serve.await?));
        register.await.map_err(std::io::Error::other)??;

        let input = Input::start(connection.clone(), qmp.clone());
        let lights = tokio::spawn(leds::follow(connection.clone(), sink));
        Ok(Self { connection, input, listener, lights })
    }

    /// Hands out what the guest plays, for as long as the result lives; never waits.
    pub(crate) fn listen(&self, sink: Arc<dyn AudioSink>) -> Audio {
        Audio::start(self.connection.clone(), sink)
    }

    /// Queues input; never waits.
    pub(crate) fn input(&self, event: InputEvent) {
        self.input.push(event);
    }

    /// Offers the guest a mode of this size.
    pub(crate) async fn resize(&self, width: u32, height: u32) -> Result<(), zbus::Error> {
        // 96 dots per inch, in millimetres, which is what desktops assume when they scale.
        let mm = |pixels: u32| u16::try_from(pixels * 254 / 960).unwrap_or(u16::MAX);
        let body = (mm(width), mm(height), 0i32, 0i32, width, height);
        self.connection
            .call_method(None::<&str>, CONSOLE, Some("org.qemu.Display1.Console"), "SetUIInfo", &body)
            .await
            .map(|_| ())
    }
}
