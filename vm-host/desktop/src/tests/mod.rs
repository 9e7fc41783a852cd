//! The whole process but its driver: a fake guest behind the `Vm` trait, real Unix sockets, and RFB's own client side.

mod audio;
mod clipboard;
mod displays;
#[cfg(feature = "h264")]
mod film;
mod flow;
mod life;
mod links;
mod persistent;
mod recording;
mod trace;
mod viewing;

use crate::config::{DesktopConfig, Done, files};
use crate::control::{Command, Status};
use crate::run::{Sockets, serve};
use crate::testing::{FakeLauncher, FakeVm, PATIENCE, config, eventually};
use lucarne_control::desktop::Phase;
use lucarne_control::link::{Open, Opened, Purpose};
use lucarne_driver::DisplaySink;
use lucarne_rfb::Rect;
use lucarne_rfb::client::{Codecs, H264Frames, Handshake, HandshakeEvent, ServerEvent, Viewer, Want, write};
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A desktop process in this process.
struct Host {
    dir: tempfile::TempDir,
    config: DesktopConfig,
    launcher: Arc<FakeLauncher>,
    task: tokio::task::JoinHandle<Result<(), crate::DesktopError>>,
}

impl Host {
    /// Starts one whose guest is forked.
    fn start() -> Self {
        Self::start_with(FakeLauncher::new(), Done::default())
    }

    fn start_with(launcher: FakeLauncher, done: Done) -> Self {
        Self::start_as(launcher, done, config())
    }

    fn start_as(launcher: FakeLauncher, done: Done, config: DesktopConfig) -> Self {
        Self::start_of(launcher, done, config, None)
    }

    fn start_of(launcher: FakeLauncher, done: Done, config: DesktopConfig, recording: Option<File>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bind = |name| UnixListener::bind(dir.path().join(name)).unwrap();
        let sockets = Sockets::new(bind(files::DISPLAY_SOCKET), bind(files::CONTROL_SOCKET));
        let sockets = recording.into_iter().fold(sockets, Sockets::with_recording);
        let launcher = Arc::new(launcher);
        let task = {
            let (dir, config, launcher) = (PathBuf::from(dir.path()), config.clone(), launcher.clone());
            tokio::spawn(async move { serve(dir, config, done, sockets, launcher.as_ref()).await })
        };
        Self { dir, config, launcher, task }
    }

    fn vm(&self) -> &Arc<FakeVm> {
        &self.launcher.vm
    }

    /// Where the driver puts frames, once the guest is forked or adopted.
    async fn sink(&self) -> Arc<dyn DisplaySink> {
        eventually("the guest's start", || self.launcher.sink.lock().unwrap().is_some()).await;
        self.launcher.sink.lock().unwrap().clone().unwrap()
    }

    fn open(&self, purpose: Purpose) -> Open {
        Open { desktop: self.config.desktop, generation: self.config.generation, session: None, purpose }
    }

    /// Connects as a gateway does and gives the answer.
    async fn connect(&self, open: &Open) -> (UnixStream, Opened) {
        let mut line = serde_json::to_vec(open).unwrap();
        line.push(b'\n');
        self.connect_raw(&line).await
    }

    async fn connect_raw(&self, line: &[u8]) -> (UnixStream, Opened) {
        let mut stream = UnixStream::connect(self.dir.path().join(files::DISPLAY_SOCKET)).await.unwrap();
        stream.write_all(line).await.unwrap();
        let answer = read_answer(&mut stream).await;
        (stream, answer)
    }

    async fn agent(&self) -> Agent {
        let stream = UnixStream::connect(self.dir.path().join(files::CONTROL_SOCKET)).await.unwrap();
        Agent(BufReader::new(stream))
    }

    /// Connects a viewer and goes up to ServerInit.
    async fn view(&self, view_only: bool) -> Client {
        self.view_as(Purpose::View { view_only, shadow: false }).await
    }

    async fn view_as(&self, purpose: Purpose) -> Client {
        let (stream, opened) = self.connect(&self.open(purpose)).await;
        assert_eq!(opened, Opened::Ok);
        Client::start(stream).await
    }

    /// Stops it as an agent does and waits until the process would exit.
    async fn stop(self) {
        let mut agent = self.agent().await;
        agent.stop().await;
        agent.wait(|s| s.phase == Phase::Stopped).await;
        within(self.task).await.unwrap().unwrap();
    }
}

/// Reads the answer to an `Open` line, and nothing of what follows it.
async fn read_answer(stream: &mut UnixStream) -> Opened {
    let mut answer = Vec::new();
    loop {
        match within(stream.read_u8()).await.unwrap() {
            b'\n' => return serde_json::from_slice(&answer).unwrap(),
            byte => answer.push(byte),
        }
    }
}

/// A host agent's connection.
struct Agent(BufReader<UnixStream>);

impl Agent {
    async fn status(&mut self) -> Status {
        let mut line = String::new();
        let n = within(self.0.read_line(&mut line)).await.unwrap();
        assert_ne!(n, 0, "the desktop process closed the control socket");
        serde_json::from_str(&line).unwrap()
    }

    /// Reads until a status fits.
    async fn wait(&mut self, fits: impl Fn(&Status) -> bool) -> Status {
        loop {
            let status = self.status().await;
            if fits(&status) {
                return status;
            }
        }
    }

    async fn stop(&mut self) {
        self.say(Command::Stop).await;
    }

    async fn say(&mut self, command: Command) {
        let mut line = serde_json::to_vec(&command).unwrap();
        line.push(b'\n');
        self.0.get_mut().write_all(&line).await.unwrap();
    }
}

/// A viewer's end of a connection.
struct Client {
    stream: UnixStream,
    viewer: Viewer,
}

impl Client {
    async fn start(mut stream: UnixStream) -> Self {
        let mut handshake = Handshake::new(Want::None);
        let mut out = Vec::new();
        loop {
            let mut chunk = [0; 64];
            let n = within(stream.read(&mut chunk)).await.unwrap();
            assert_ne!(n, 0, "the server closed during the handshake");
            handshake.feed(&chunk[..n]).unwrap();
            let event = handshake.poll(&mut out).unwrap();
            stream.write_all(&out).await.unwrap();
            out.clear();
            if event == Some(HandshakeEvent::Secured) {
                break;
            }
        }
        write::client_init(true, &mut out);
        stream.write_all(&out).await.unwrap();
        let jpeg = Box::new(|bytes: &[u8], width: u16, height: u16| {
            let image = turbojpeg::decompress(bytes, turbojpeg::PixelFormat::BGRX).ok()?;
            assert_eq!((image.width, image.height), (width.into(), height.into()));
            Some(image.pixels.chunks_exact(4).map(|p| u32::from_le_bytes([p[0], p[1], p[2], 0])).collect())
        });
        // Decoders of video are tested where the encoder is; this one sees grey.
        let h264 = Box::new(|f: H264Frames<'_>| Some(vec![0x0080_8080; f.rect.area() as usize]));
        let mut viewer =
            Viewer::with_codecs(Codecs { jpeg: Some(jpeg), h264: Some(h264), ..Codecs::default() });
        viewer.feed(&handshake.take_rest()).unwrap();
        let mut client = Self { stream, viewer };
        assert!(matches!(client.event().await, ServerEvent::Init(_)));
        client
    }

    async fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    async fn set_encodings(&mut self, encodings: &[i32]) {
        self.send(|out| write::set_encodings(encodings, out)).await;
    }

    /// Asks for an update of the whole framebuffer.
    async fn request(&mut self, incremental: bool) {
        let whole = Rect::new(0, 0, u16::MAX, u16::MAX);
        self.send(|out| write::framebuffer_update_request(incremental, whole, out)).await;
    }

    async fn event(&mut self) -> ServerEvent {
        within(self.try_event()).await.expect("the server closed the connection")
    }

    /// The next event; none when the server has closed.
    async fn try_event(&mut self) -> Option<ServerEvent> {
        loop {
            // One at a time: what follows an event may have to be read differently because of it.
            if let Some(event) = self.viewer.next_event().unwrap() {
                return Some(event);
            }
            let mut chunk = vec![0; 64 << 10];
            let n = self.stream.read(&mut chunk).await.unwrap_or(0);
            if n == 0 {
                return None;
            }
            self.viewer.feed(&chunk[..n]).unwrap();
        }
    }

    /// Reads events until one fits, and gives it.
    async fn wait<T>(&mut self, fits: impl Fn(ServerEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = fits(self.event().await) {
                return found;
            }
        }
    }

    async fn wait_updated(&mut self) {
        self.wait(|e| matches!(e, ServerEvent::Updated { .. }).then_some(())).await;
    }

    /// Asks for what changed until the picture is this.
    async fn wait_picture(&mut self, pixels: &[u32]) {
        while self.viewer.framebuffer().pixels() != pixels {
            self.request(true).await;
            self.wait_updated().await;
        }
    }

    async fn key(&mut self, down: bool, keycode: u32) {
        self.send(|out| write::extended_key_event(down, 0, keycode, out)).await;
    }
}

/// What must happen, or the test fails.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("waited in vain")
}
