//! Somebody who watches what changes: an event stream of the real API.

use super::{Answer, Client, LIMIT, Server};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use lucarne_control::events::Event;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::either::Either;

/// An open stream.
pub struct Watching {
    body: Incoming,
    buffer: String,
    /// What to come back with.
    pub last_id: String,
    connection: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client<'_> {
    /// The same, through another broker.
    pub fn at<'a>(&self, server: &'a Server) -> Client<'a> {
        Client { server, headers: self.headers.clone(), local: self.local }
    }

    /// Watches, with these parameters, and takes the first event, which has to be `hello`.
    pub async fn watch(&self, query: &str) -> Watching {
        let mut watching = self.open(query, None).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
        let first = watching.next().await;
        assert!(matches!(first, Some(Event::Hello { .. })), "{first:?}");
        watching
    }

    /// Watches again, from there; the first event is still to come.
    pub async fn watch_again(&self, query: &str, last_id: &str) -> Watching {
        self.open(query, Some(last_id)).await.unwrap_or_else(|answer| panic!("{}", answer.text()))
    }

    /// Opens a stream, or is refused.
    pub async fn open(&self, query: &str, last_id: Option<&str>) -> Result<Watching, Answer> {
        let stream = match self.local {
            true => {
                let socket = self.server.dir.path().join("run/admin.sock");
                Either::Left(UnixStream::connect(socket).await.unwrap())
            }
            false => Either::Right(self.server.connect().await),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::get(format!("/api/v1/events{query}"));
        let headers = request.headers_mut().unwrap();
        headers.insert("host", self.server.address.to_string().parse().unwrap());
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some(id) = last_id {
            headers.insert("last-event-id", id.parse().unwrap());
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = timeout(LIMIT, sender.send_request(request)).await.unwrap().unwrap();
        let (parts, body) = answer.into_parts();
        if parts.status != 200 {
            let body = body.collect().await.unwrap().to_bytes();
            return Err(Answer { status: parts.status, headers: parts.headers, body });
        }
        assert_eq!(parts.headers["content-type"], "text/event-stream");
        assert_eq!(parts.headers["cache-control"], "no-store");
        Ok(Watching { body, buffer: String::new(), last_id: String::new(), connection })
    }
}

impl Watching {
    /// The next event; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                if let Some(event) = self.take(&block) {
                    return Some(event);
                }
            }
            let frame = timeout(LIMIT, self.body.frame()).await.expect("nothing comes");
            let bytes = frame?.ok()?.into_data().unwrap();
            self.buffer += std::str::from_utf8(&bytes).unwrap();
        }
    }

    fn take(&mut self, block: &str) -> Option<Event> {
        let (mut name, mut event) = (None, None);
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.last_id),
                Some(("event", word)) => name = Some(word.to_owned()),
                Some(("data", data)) => {
                    event =
                        Some(serde_json::from_str::<Event>(data).unwrap_or_else(|e| panic!("{e}: {data}")));
                }
                _ => {}
            }
        }
        assert_eq!(name.as_deref(), event.as_ref().map(Event::name));
        event
    }

    /// Takes events until one fits; gives what it says.
    pub async fn until<T>(&mut self, what: &str, fits: impl Fn(&Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.next().await.unwrap_or_else(|| panic!("{what}: the stream ended"));
                if let Some(found) = fits(&event) {
                    return found;
                }
            }
        };
        timeout(LIMIT, search).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
    }

    /// Takes events until the end; gives them.
    pub async fn rest(&mut self) -> Vec<Event> {
        let search = async {
            let mut rest = Vec::new();
            while let Some(event) = self.next().await {
                rest.push(event);
            }
            rest
        };
        timeout(LIMIT, search).await.unwrap_or_else(|_| panic!("the stream goes on for {LIMIT:?}"))
    }
}
