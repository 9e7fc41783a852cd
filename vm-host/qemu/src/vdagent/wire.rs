//! The SPICE agent protocol's framing (spice-protocol, `vd_agent.h`; "SPICE agent protocol"), without I/O.
//!
//! ```text
//! chunk:   port u32, size u32, then as many bytes of the stream of messages       (VDIChunkHeader)
//! message: protocol u32, type u32, opaque u64, size u32, then as many bytes       (VDAgentMessage)
//! ```
//!
//! All numbers are little-endian. What a guest says is bounded: of a longer message only its length is kept. It knows
//! nothing of what messages mean.

use lucarne_driver::MAX_CLIPBOARD;

/// The client's port of the agent; the other one is the server's own.
const CLIENT: u32 = 1;

/// The only protocol there is.
const PROTOCOL: u32 = 1;

/// Bytes of a message that one chunk to the agent may hold (`VD_AGENT_MAX_DATA_SIZE`). The agent's own chunks may be longer.
const MAX_CHUNK: usize = 2048;

/// Bytes of a message's data that are kept: the longest text with its selection and type, and with another byte for each
/// end of a line, as some guests write them.
const MAX_DATA: usize = 2 * MAX_CLIPBOARD + 8;

const CHUNK_HEADER: usize = 8;
const MESSAGE_HEADER: usize = 20;

/// A message of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A whole one.
    Whole {
        /// `VD_AGENT_*`.
        kind: u32,
        /// What is in it.
        data: Vec<u8>,
    },
    /// One that is too long to be kept.
    TooLong {
        /// `VD_AGENT_*`.
        kind: u32,
        /// Bytes of its data.
        length: usize,
    },
}

/// Why a stream cannot be understood any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FramingError {
    /// A chunk of nobody's.
    #[error("a chunk is for the port {0}, which does not exist")]
    Port(u32),
    /// Something else than this protocol.
    #[error("a message is of the protocol {0}, which does not exist")]
    Protocol(u32),
}

/// Takes the agent's stream apart; bytes may come in any pieces.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The present chunk's header, as far as it has come.
    chunk: Vec<u8>,
    /// Bytes of the present chunk that are still to come.
    left: usize,
    /// The present chunk is for the client.
    ours: bool,
    /// The present message's header, as far as it has come.
    header: Vec<u8>,
    /// Its data, as far as it has come and is kept.
    data: Vec<u8>,
    /// Bytes of its data that have come.
    come: usize,
}

impl Messages {
    /// Takes bytes from the front of `bytes` up to the end of a message and gives it; `None` when all are taken.
    ///
    /// # Errors
    /// The stream makes no sense; nothing may be fed any more.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, FramingError> {
        while !bytes.is_empty() {
            if self.left == 0 {
                take(bytes, &mut self.chunk, CHUNK_HEADER);
                if self.chunk.len() == CHUNK_HEADER {
                    let port = number(&self.chunk, 0);
                    if !(1..=2).contains(&port) {
                        return Err(FramingError::Port(port));
                    }
                    self.ours = port == CLIENT;
                    self.left = number(&self.chunk, 4) as usize;
                    self.chunk.clear();
                }
                continue;
            }
            let here = bytes.len().min(self.left);
            let (mut part, rest) = bytes.split_at(here);
            if !self.ours {
                self.left -= here;
                *bytes = rest;
                continue;
            }
            let message = self.message(&mut part);
            let taken = here - part.len();
            self.left -= taken;
            *bytes = &bytes[taken..];
            if let Some(message) = message? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// As [`Self::next`], within one chunk.
    fn message(&mut self, part: &mut &[u8]) -> Result<Option<Message>, FramingError> {
        if self.header.len() < MESSAGE_HEADER {
            take(part, &mut self.header, MESSAGE_HEADER);
            if self.header.len() < MESSAGE_HEADER {
                return Ok(None);
            }
            if number(&self.header, 0) != PROTOCOL {
                return Err(FramingError::Protocol(number(&self.header, 0)));
            }
        }
        let length = number(&self.header, 16) as usize;
        let here = part.len().min(length - self.come);
        let (data, rest) = part.split_at(here);
        if length <= MAX_DATA {
            self.data.extend_from_slice(data);
        }
        self.come += here;
        *part = rest;
        if self.come < length {
            return Ok(None);
        }
        let kind = number(&self.header, 4);
        self.header.clear();
        self.come = 0;
        let data = std::mem::take(&mut self.data);
        Ok(Some(if length > MAX_DATA {
            Message::TooLong { kind, length }
        } else {
            Message::Whole { kind, data }
        }))
    }
}

/// Appends a message to the agent.
pub(super) fn write(kind: u32, data: &[u8], out: &mut Vec<u8>) {
    let mut message = Vec::with_capacity(MESSAGE_HEADER + data.len());
    for field in [PROTOCOL, kind, 0, 0, data.len() as u32] {
        message.extend(field.to_le_bytes());
    }
    message.extend_from_slice(data);
    for chunk in message.chunks(MAX_CHUNK) {
        out.extend(CLIENT.to_le_bytes());
        out.extend((chunk.len() as u32).to_le_bytes());
        out.extend_from_slice(chunk);
    }
}

/// The number at byte `at`; missing bytes count as 0.
pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.iter().skip(at).take(4).rev().fold(0, |all, byte| all << 8 | u32::from(*byte))
}

/// Moves bytes until `to` has `length` of them.
fn take(from: &mut &[u8], to: &mut Vec<u8>, length: usize) {
    let (taken, rest) = from.split_at(from.len().min(length - to.len()));
    to.extend_from_slice(taken);
    *from = rest;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in `stream`, fed in pieces of `step` bytes.
    fn read(stream: &[u8], step: usize) -> Result<Vec<Message>, FramingError> {
        let mut messages = Messages::default();
        let mut found = Vec::new();
        for mut piece in stream.chunks(step) {
            while let Some(message) = messages.next(&mut piece)? {
                found.push(message);
            }
        }
        Ok(found)
    }

    #[test]
    fn messages_are_the_same_in_any_chunking() {
        let long: Vec<u8> = (0..5000).map(|n| n as u8).collect();
        let mut stream = Vec::new();
        write(6, &[1, 2, 3], &mut stream);
        write(4, &long, &mut stream);
        write(9, &[], &mut stream);
        // Another port's chunk between the client's says nothing to it.
        stream.extend([2, 0, 0, 0, 3, 0, 0, 0, 9, 9, 9]);
        write(7, &[0; 8], &mut stream);
        let whole = |kind, data: &[u8]| Message::Whole { kind, data: data.to_vec() };
        let expected = [whole(6, &[1, 2, 3]), whole(4, &long), whole(9, &[]), whole(7, &[0; 8])];
        for step in [1, 7, 28, 2048, 2056, usize::MAX] {
            assert_eq!(read(&stream, step).unwrap(), expected, "pieces of {step}");
        }
    }

    #[test]
    fn what_goes_to_the_agent_is_in_chunks_that_it_takes() {
        let mut stream = Vec::new();
        write(4, &[7; 5000], &mut stream);
        let mut sizes = Vec::new();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            assert_eq!(number(rest, 0), 1);
            sizes.push(number(rest, 4) as usize);
            rest = &rest[8 + number(rest, 4) as usize..];
        }
        assert_eq!(sizes, [2048, 2048, 5000 + 20 - 2 * 2048]);
    }

    #[test]
    fn a_message_beyond_the_limit_is_told_without_being_kept() {
        let length = MAX_DATA + 1;
        let mut stream = Vec::new();
        write(4, &vec![1; length], &mut stream);
        write(9, &[5], &mut stream);
        let mut messages = Messages::default();
        let mut rest = &stream[..];
        assert_eq!(messages.next(&mut rest).unwrap(), Some(Message::TooLong { kind: 4, length }));
        assert_eq!(messages.data.capacity(), 0);
        assert_eq!(messages.next(&mut rest).unwrap(), Some(Message::Whole { kind: 9, data: vec![5] }));
    }

    #[test]
    fn a_stream_of_something_else_is_an_error() {
        let nonsense = b"GET / HTTP/1.1\r\n";
        assert_eq!(read(nonsense, 3), Err(FramingError::Port(u32::from_le_bytes(*b"GET "))));
        let mut other = Vec::new();
        write(4, &[], &mut other);
        other[8] = 2;
        assert_eq!(read(&other, 5), Err(FramingError::Protocol(2)));
    }

    #[test]
    fn a_missing_number_is_zero() {
        assert_eq!((number(&[1], 0), number(&[1], 4), number(&[0, 1, 2, 0, 9], 0)), (1, 0, 0x0002_0100));
    }
}
