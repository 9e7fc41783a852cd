//! QEMU's D-Bus display, peer to peer (`-display dbus,p2p=yes`; QEMU's `ui/dbus-display1.xml`): registering a listener for
//! each console that is in use, and telling the guest what displays it has. Keyboard and mouse are in `input`, sound is in `audio`.

use crate::audio::Audio;
use crate::consoles::Consoles;
use crate::input::Input;
use crate::leds;
use crate::listener::Listener;
use crate::qmp::{Qmp, QmpError};
use lucarne_driver::{AudioSink, DisplayArea, DisplaySink, InputEvent, MAX_DISPLAYS};
use serde_json::json;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use zbus::connection::Builder;
use zbus::{Connection, Variant};

/// The console that keyboard, mouse and lights are asked of; they are the same at each.
pub(crate) const CONSOLE: &str = "/org/qemu/Display1/Console_0";

const VM: &str = "/org/qemu/Display1/VM";

/// The path of a console.
fn path(console: usize) -> String {
    format!("/org/qemu/Display1/Console_{console}")
}

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
    sink: Arc<dyn DisplaySink>,
    consoles: Arc<Consoles>,
    /// Consoles that the display device has.
    count: usize,
    input: Input,
    /// Of the first consoles.
    listeners: Mutex<Vec<JoinHandle<()>>>,
    lights: JoinHandle<()>,
}

impl Drop for Display {
    fn drop(&mut self) {
        self.listeners.get_mut().drain(..).for_each(|listener| listener.abort());
        self.lights.abort();
    }
}

/// How many consoles are listened to from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// The first: nobody can have asked the guest for more.
    First,
    /// All that there are: some may be in use.
    All,
}

impl Display {
    /// Attaches: the sink gets the picture of each console that is listened to at once, then updates as they happen.
    pub(crate) async fn attach(
        qmp: &Arc<Qmp>,
        sink: Arc<dyn DisplaySink>,
        listen: Listen,
    ) -> Result<Self, DisplayError> {
        tokio::time::timeout(ATTACH_LIMIT, Self::attach_unlimited(qmp, sink, listen))
            .await
            .map_err(|_| DisplayError::TimedOut)?
    }

    async fn attach_unlimited(
        qmp: &Arc<Qmp>,
        sink: Arc<dyn DisplaySink>,
        listen: Listen,
    ) -> Result<Self, DisplayError> {
        let (ours, theirs) = UnixStream::pair()?;
        qmp.execute_with_fd("getfd", json!({ "fdname": "lucarne-display" }), theirs.as_fd()).await?;
        drop(theirs);
        qmp.execute("add_client", json!({ "protocol": "@dbus-display", "fdname": "lucarne-display" }))
            .await?;
        let connection = Builder::unix_stream(ours).p2p().build().await?;
        let consoles = Arc::<Consoles>::default();
        let mut listeners = vec![register(&connection, &sink, &consoles, 0).await?];
        let count = count(&connection).await?;
        if listen == Listen::All {
            for console in 1..count {
                listeners.push(register(&connection, &sink, &consoles, console).await?);
            }
        }
        let input = Input::start(connection.clone(), qmp.clone(), consoles.clone());
        let lights = tokio::spawn(leds::follow(connection.clone(), sink.clone()));
        let listeners = Mutex::new(listeners);
        Ok(Self { connection, sink, consoles, count, input, listeners, lights })
    }

    /// How many displays the guest can have.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Hands out what the guest plays, for as long as the result lives; never waits.
    pub(crate) fn listen(&self, sink: Arc<dyn AudioSink>) -> Audio {
        Audio::start(self.connection.clone(), sink)
    }

    /// Queues input; never waits.
    pub(crate) fn input(&self, event: InputEvent) {
        self.input.push(event);
    }

    /// Tells the guest that it has these displays, of at most as many as there are, and no others.
    pub(crate) async fn arrange(&self, displays: &[DisplayArea]) -> Result<(), DisplayError> {
        let mut listeners = self.listeners.lock().await;
        for console in listeners.len()..displays.len() {
            listeners.push(register(&self.connection, &self.sink, &self.consoles, console).await?);
        }
        // What was never listened to was never on.
        for console in 0..listeners.len() {
            self.tell(console, displays.get(console)).await?;
        }
        Ok(())
    }

    /// Tells the guest that a display is connected and how large it is, or that it is not.
    async fn tell(&self, console: usize, display: Option<&DisplayArea>) -> Result<(), zbus::Error> {
        // 96 dots per inch, in millimetres, which is what desktops assume when they scale.
        let mm = |pixels: u32| u16::try_from(pixels * 254 / 960).unwrap_or(u16::MAX);
        let offset = |pixels: u32| i32::try_from(pixels).unwrap_or(i32::MAX);
        let body = display.map_or((0, 0, 0, 0, 0, 0), |d| {
            (mm(d.width), mm(d.height), offset(d.x), offset(d.y), d.width, d.height)
        });
        let interface = Some("org.qemu.Display1.Console");
        self.connection
            .call_method(None::<&str>, path(console), interface, "SetUIInfo", &body)
            .await
            .map(|_| ())
    }
}

/// Consoles of the display device, at least one.
async fn count(connection: &Connection) -> Result<usize, zbus::Error> {
    let interface = Some("org.freedesktop.DBus.Properties");
    let answer = connection
        .call_method(None::<&str>, VM, interface, "Get", &("org.qemu.Display1.VM", "ConsoleIDs"))
        .await?;
    let ids = answer.body().deserialize::<Variant>()?.downcast::<Vec<u32>>();
    // They are numbered from 0.
    Ok(ids.map_or(1, |ids| ids.len()).clamp(1, MAX_DISPLAYS))
}

/// Begins to listen to a console, whose sink gets a scanout at once.
async fn register(
    connection: &Connection,
    sink: &Arc<dyn DisplaySink>,
    consoles: &Arc<Consoles>,
    console: usize,
) -> Result<JoinHandle<()>, DisplayError> {
    // QEMU authenticates to the listener while it handles the call: both sides must run at once.
    let (ours, theirs) = UnixStream::pair()?;
    // On this connection too QEMU is the side that authenticates, although it is the one that calls.
    let serve = Builder::unix_stream(ours).p2p().build_message_stream();
    let theirs = zbus::Fd::from(std::os::fd::OwnedFd::from(theirs));
    let caller = connection.clone();
    let call = tokio::spawn(async move {
        let interface = Some("org.qemu.Display1.Console");
        caller.call_method(None::<&str>, path(console), interface, "RegisterListener", &(theirs,)).await
    });
    let listener = Listener::new(sink.clone(), (console, consoles.clone()), true);
    let listener = tokio::spawn(listener.serve(serve.await?));
    call.await.map_err(std::io::Error::other)??;
    Ok(listener)
}
