//! Server-sent events as they come (WHATWG HTML, section 9.2.6), of what our server uses: UTF-8, and lines that end in a line feed.

/// The longest event, bytes: one of a pool with all its entitlements is far below.
const LONGEST: usize = 8 << 20;

/// An event that is longer than any is.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an event is longer than {LONGEST} bytes")
    }
}

impl std::error::Error for TooLong {}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    data: String,
    /// The last event's id, to come back with; empty before the first.
    pub last_id: String,
}

impl Reader {
    /// Reads on after the event of that id.
    pub fn after(last_id: &str) -> Self {
        Self { last_id: last_id.to_owned(), ..Self::default() }
    }

    /// Takes bytes; gives the data of each event that ends with them.
    ///
    /// # Errors
    /// [`TooLong`]; nothing can be read after it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + self.data.len() + part.len() > LONGEST {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                let line = std::mem::take(&mut self.line);
                events.extend(self.ended(&String::from_utf8_lossy(&line)));
            }
        }
        Ok(events)
    }

    /// Takes a line; gives the data of the event that ends with it.
    fn ended(&mut self, line: &str) -> Option<String> {
        if line.is_empty() {
            self.data.pop();
            return Some(std::mem::take(&mut self.data)).filter(|data| !data.is_empty());
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                self.data += value;
                self.data.push('\n');
            }
            "id" => value.clone_into(&mut self.last_id),
            // Comments, which have no name; the event's name, which is in its data too; and when to come back.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"event: hello\nid: a-1\ndata: {\"kind\":\"hello\"}\n\n: \nid: a-7\n\nid: a-9\ndata:one\ndata: two\n\ndata: half";

    #[test]
    fn events_are_read_in_any_chunking_and_comments_are_none() {
        for size in 1..STREAM.len() {
            let mut reader = Reader::default();
            let events: Vec<_> = STREAM.chunks(size).flat_map(|chunk| reader.take(chunk).unwrap()).collect();
            assert_eq!(events, ["{\"kind\":\"hello\"}", "one\ntwo"], "{size}");
            assert_eq!(reader.last_id, "a-9");
        }
    }

    #[test]
    fn an_id_without_an_event_is_what_to_come_back_with() {
        let mut reader = Reader::default();
        assert_eq!(reader.take(b": \nid: a-7\n\n"), Ok(vec![]));
        assert_eq!(reader.last_id, "a-7");
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_for_ever() {
        let mut reader = Reader::default();
        assert!((0..=LONGEST >> 10).any(|_| reader.take(&[b'a'; 1 << 10]) == Err(TooLong)));
    }
}
