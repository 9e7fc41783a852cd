//! qemu-guest-agent, over its virtio-serial port (QEMU's `qga/qapi-schema.json`).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest answer accepted from a guest, bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Why the guest agent did not do it.
#[derive(Debug, thiserror::Error)]
pub enum GuestAgentError {
    /// The socket.
    #[error("no connection to the guest agent's port")]
    Io(#[from] io::Error),
    /// It is not running, or too busy.
    #[error("the guest agent did not answer {0} in time")]
    TimedOut(String),
    /// It answered with an error or nonsense.
    #[error("the guest agent refused {command}: {why}")]
    Refused {
        /// The command.
        command: String,
        /// Its words.
        why: String,
    },
}

/// The answers in what an agent says, a line each.
#[derive(Default)]
pub(crate) struct Answers {
    buffer: Vec<u8>,
    /// So many of its bytes hold no end of a line, so that an agent that sends few at a time costs no more than another.
    looked_at: usize,
}

impl Answers {
    /// Takes bytes in any pieces; then call [`Self::next`] until it gives none.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next answer; `None` when more bytes are needed. Lines that are no JSON are passed over.
    ///
    /// # Errors
    /// A line is longer than [`MAX_ANSWER`].
    pub(crate) fn next(&mut self) -> Result<Option<Value>, GuestAgentError> {
        while let Some(end) = self.buffer[self.looked_at..].iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=self.looked_at + end).collect();
            self.looked_at = 0;
            // guest-sync-delimited puts 0xff before its answer.
            let start = line.iter().rposition(|b| *b == 0xff).map_or(0, |at| at + 1);
            if let Ok(value) = serde_json::from_slice(&line[start..]) {
                return Ok(Some(value));
            }
        }
        self.looked_at = self.buffer.len();
        if self.buffer.len() > MAX_ANSWER {
            return Err(GuestAgentError::Refused {
                command: "an earlier command".into(),
                why: format!("its answer is longer than {MAX_ANSWER} bytes"),
            });
        }
        Ok(None)
    }
}

/// A connection to the agent of one guest.
pub(crate) struct GuestAgent {
    stream: UnixStream,
    answers: Answers,
}

impl GuestAgent {
    /// Connects and synchronises: answers to whoever spoke to the agent before are thrown away
    /// (`guest-sync-delimited`). Tries until `limit`.
    pub(crate) async fn connect(socket: &Path, limit: Duration) -> Result<Self, GuestAgentError> {
        let stream = crate::address::connect(socket).await?;
        let mut agent = Self { stream, answers: Answers::default() };
        let deadline = tokio::time::Instant::now() + limit;
        let mut attempt: i64 = i64::from(std::process::id()) << 16;
        loop {
            attempt += 1;
            // 0xff resets the agent's parser if a fragment was left in it.
            let mut line = vec![0xff];
            line.extend(
                json!({ "execute": "guest-sync-delimited", "arguments": { "id": attempt } })
                    .to_string()
                    .into_bytes(),
            );
            line.push(b'\n');
            agent.stream.write_all(&line).await?;
            let until = deadline.min(tokio::time::Instant::now() + Duration::from_secs(2));
            while let Ok(answer) = tokio::time::timeout_at(until, agent.read_answer()).await {
                if answer?["return"].as_i64() == Some(attempt) {
                    return Ok(agent);
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(GuestAgentError::TimedOut("guest-sync-delimited".into()));
            }
        }
    }

    async fn read_answer(&mut self) -> Result<Value, GuestAgentError> {
        loop {
            if let Some(answer) = self.answers.next()? {
                return Ok(answer);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                n => self.answers.push(&chunk[..n]),
            }
        }
    }

    /// Runs a command of the agent.
    pub(crate) async fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, GuestAgentError> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string().into_bytes();
        line.push(b'\n');
        self.stream.write_all(&line).await?;
        let mut answer = tokio::time::timeout(limit, self.read_answer())
            .await
            .map_err(|_| GuestAgentError::TimedOut(command.into()))??;
        if answer.get("error").is_some() {
            return Err(GuestAgentError::Refused {
                command: command.into(),
                why: answer["error"]["desc"].as_str().unwrap_or("no reason given").into(),
            });
        }
        Ok(answer["return"].take())
    }

    /// Runs a shell script in the guest, as root, and gives its standard output.
    ///
    /// # Errors
    /// When it exits with another status than 0: its standard error is in the message.
    pub(crate) async fn shell(&mut self, script: &str, limit: Duration) -> Result<String, GuestAgentError> {
        let deadline = tokio::time::Instant::now() + limit;
        let started = self
            .execute(
                "guest-exec",
                json!({ "path": "/bin/sh", "arg": ["-c", script], "capture-output": true }),
                limit,
            )
            .await?;
        loop {
            let status = self.execute("guest-exec-status", json!({ "pid": started["pid"] }), limit).await?;
            if status["exited"].as_bool() == Some(true) {
                let text = |key: &str| {
                    let bytes = STANDARD.decode(status[key].as_str().unwrap_or_default()).unwrap_or_default();
                    String::from_utf8_lossy(&bytes).into_owned()
                };
                return if status["exitcode"].as_i64() == Some(0) {
                    Ok(text("out-data"))
                } else {
                    Err(GuestAgentError::Refused {
                        command: "a shell script".into(),
                        why: text("err-data").trim().into(),
                    })
                };
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(GuestAgentError::TimedOut("guest-exec".into()));
            }
            // The agent offers no notification when a program ends.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(bytes: &[u8], step: usize) -> Vec<Value> {
        let (mut answers, mut found) = (Answers::default(), Vec::new());
        for piece in bytes.chunks(step) {
            answers.push(piece);
            while let Some(answer) = answers.next().unwrap() {
                found.push(answer);
            }
        }
        found
    }

    #[test]
    fn answers_are_the_same_in_any_pieces_and_what_is_none_is_passed_over() {
        let said = b"{\"return\": 1}\nrubbish\n{\"half\": \xff{\"return\": {}}\n\n[3]\n{\"return\":";
        let expected = [json!({ "return": 1 }), json!({ "return": {} }), json!([3])];
        for step in 1..=said.len() {
            assert_eq!(answers(said, step), expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn an_answer_without_an_end_is_refused_at_the_limit() {
        let mut answers = Answers::default();
        answers.push(&vec![b' '; MAX_ANSWER]);
        assert!(matches!(answers.next(), Ok(None)));
        answers.push(b" ");
        assert!(matches!(answers.next(), Err(GuestAgentError::Refused { .. })));
    }
}
