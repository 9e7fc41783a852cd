//! A scripted agent behind a real Unix socket.

use super::wire::{Message, Messages, write};
use super::*;
use std::sync::Mutex;
use tokio::net::{UnixListener, UnixStream};

const LIMIT: Duration = Duration::from_secs(30);
const TEXT: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];

#[derive(Default)]
struct Seen(Mutex<Vec<Option<Arc<str>>>>);

impl ClipboardSink for Seen {
    fn clipboard(&self, text: Option<Arc<str>>) {
        self.0.lock().unwrap().push(text);
    }
}

/// The agent's end of a connection.
struct Agent {
    stream: UnixStream,
    messages: Messages,
    rest: Vec<u8>,
}

impl Agent {
    /// Takes a connection and says what it can.
    async fn accept(listener: &UnixListener) -> Self {
        let (stream, _) =
            tokio::time::timeout(LIMIT, listener.accept()).await.expect("a client comes").unwrap();
        let mut agent = Self { stream, messages: Messages::default(), rest: Vec::new() };
        assert_eq!(agent.hear().await, (6, vec![1, 0, 0, 0, 0x60, 0, 0, 0]));
        agent.say(6, &[0, 0, 0, 0, 0x60, 0, 0, 0]).await;
        agent
    }

    async fn say(&mut self, kind: u32, data: &[u8]) {
        let mut out = Vec::new();
        write(kind, data, &mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    async fn hear(&mut self) -> (u32, Vec<u8>) {
        loop {
            let mut rest = &self.rest[..];
            let message = self.messages.next(&mut rest).unwrap();
            self.rest = rest.to_vec();
            if let Some(Message::Whole { kind, data }) = message {
                return (kind, data);
            }
            let read = self.stream.read_buf(&mut self.rest);
            let n = tokio::time::timeout(LIMIT, read).await.expect("the client speaks").unwrap();
            assert_ne!(n, 0, "the client has gone");
        }
    }
}

fn no_wish() -> watch::Receiver<Vec<DisplayArea>> {
    watch::channel(Vec::new()).1
}

fn bind() -> (tempfile::TempDir, UnixListener, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vdagent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (dir, listener, path)
}

#[tokio::test]
async fn a_guests_text_reaches_the_sink_and_a_viewers_the_guest() {
    let (_dir, listener, path) = bind();
    let seen = Arc::new(Seen::default());
    let clipboard = Clipboard::start(path, seen.clone(), no_wish());
    let mut agent = Agent::accept(&listener).await;
    agent.say(7, &TEXT).await;
    assert_eq!(agent.hear().await, (8, TEXT.to_vec()));
    agent.say(4, &[&TEXT[..], "你好".as_bytes()].concat()).await;
    let deadline = tokio::time::Instant::now() + LIMIT;
    while *seen.0.lock().unwrap() != [Some("你好".into())] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", seen.0.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    clipboard.offer("back".into());
    assert_eq!(agent.hear().await, (7, TEXT.to_vec()));
    agent.say(8, &TEXT).await;
    assert_eq!(agent.hear().await, (4, [&TEXT[..], b"back"].concat()));
}

#[tokio::test]
async fn a_text_is_offered_again_on_the_next_connection_unless_the_guest_has_copied_since() {
    let (_dir, listener, path) = bind();
    let clipboard = Clipboard::start(path, Arc::new(Seen::default()), no_wish());
    clipboard.offer("kept".into());
    let mut agent = Agent::accept(&listener).await;
    assert_eq!(agent.hear().await, (7, TEXT.to_vec()));
    drop(agent);
    let mut agent = Agent::accept(&listener).await;
    assert_eq!(agent.hear().await, (7, TEXT.to_vec()), "offered again");
    agent.say(7, &TEXT).await;
    assert_eq!(agent.hear().await, (8, TEXT.to_vec()));
    drop(agent);
    let mut agent = Agent::accept(&listener).await;
    clipboard.offer("new".into());
    assert_eq!(agent.hear().await, (7, TEXT.to_vec()));
    agent.say(8, &TEXT).await;
    assert_eq!(agent.hear().await, (4, [&TEXT[..], b"new"].concat()), "the first thing that was offered");
}

#[tokio::test]
async fn an_agent_that_talks_nonsense_is_left_and_tried_again() {
    let (_dir, listener, path) = bind();
    let _clipboard = Clipboard::start(path, Arc::new(Seen::default()), no_wish());
    let mut agent = Agent::accept(&listener).await;
    agent.stream.write_all(b"nonsense").await.unwrap();
    Agent::accept(&listener).await;
}

#[tokio::test]
async fn it_ends_with_qemu() {
    let (_dir, listener, path) = bind();
    let mut clipboard = Clipboard::start(path, Arc::new(Seen::default()), no_wish());
    let agent = Agent::accept(&listener).await;
    drop(listener);
    drop(agent);
    tokio::time::timeout(LIMIT, &mut clipboard.task).await.expect("it ends").unwrap();
}
