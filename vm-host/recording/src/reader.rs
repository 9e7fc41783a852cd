//! Reading a file: what it says of itself, whether it is whole, and the screen at any time.

use crate::block::{self, HASH, HEAD, Hash, Head, Kind, MAGIC};
use crate::{Header, VERSION};
use lucarne_rfb::client::{Framebuffer, Viewer, ViewerError};
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

/// Length of the block [`Kind::End`].
const END: u64 = (HEAD + 8 + HASH) as u64;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system's.
    #[error("the recording cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Another file, or one that was cut off before its first screen.
    #[error("this is no recording: {0}")]
    NotOne(&'static str),
    /// It is of a newer version.
    #[error("the recording is of format version {0}, and this program reads up to {VERSION}")]
    Newer(u32),
    /// A block is not what was written.
    #[error("the recording is broken at byte {0}: the block there is not the one that was written")]
    Broken(u64),
    /// What is in a block cannot be drawn.
    #[error("the recording's picture at byte {offset} cannot be drawn")]
    Picture {
        /// Of the block.
        offset: u64,
        /// Why not.
        #[source]
        source: ViewerError,
    },
}

/// A key block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFrame {
    /// Since the recording's begin.
    pub at: Duration,
    /// Where it is in the file, bytes.
    pub offset: u64,
}

/// What a look at every block found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Blocks that are as they were written.
    pub blocks: u64,
    /// Of them key frames.
    pub keys: u64,
    /// Of them updates.
    pub updates: u64,
    /// The time of the last.
    pub duration: Duration,
    /// Bytes up to the end of the last.
    pub bytes: u64,
    /// The file's length; more than `bytes` when it was cut off within a block.
    pub length: u64,
    /// It has its end; else it was cut off, as by a crash or a full disk.
    pub ended: bool,
    /// The last hash of the chain, by which it can be told from any other.
    pub hash: [u8; HASH],
}

/// The screen at a time.
#[derive(Debug)]
pub struct Frame {
    /// Of the last change up to then.
    pub at: Duration,
    /// The screen.
    pub screen: Framebuffer,
}

/// A file that is open for reading.
#[derive(Debug)]
pub struct Recording<R> {
    file: R,
    length: u64,
    header: Header,
    /// Where the header's block ends.
    body: u64,
    keys: Vec<KeyFrame>,
    duration: Duration,
    ended: bool,
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

impl<R: Read + Seek> Recording<R> {
    /// Opens a file, by its index if it has one, else by going through the blocks' heads. Nothing is checked yet but the
    /// header.
    ///
    /// # Errors
    /// It is no recording, or a newer one.
    pub fn open(mut file: R) -> Result<Self, ReadError> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut magic = [0; MAGIC.len()];
        if !read_whole(&mut file, &mut magic)? || magic != *MAGIC {
            return Err(ReadError::NotOne("it begins otherwise"));
        }
        let mut chain = block::first();
        let block = read_block(&mut file, &mut chain)?;
        let Some((head, payload)) = block.filter(|(head, _)| head.is(Kind::Header)) else {
            return Err(ReadError::NotOne("it has no header"));
        };
        let header: Header =
            serde_json::from_slice(&payload).map_err(|_| ReadError::NotOne("its header cannot be read"))?;
        if header.version > VERSION {
            return Err(ReadError::Newer(header.version));
        }
        let body = MAGIC.len() as u64 + head.block();
        let (keys, duration) = (Vec::new(), Duration::ZERO);
        let mut recording = Self { file, length, header, body, keys, duration, ended: false };
        if !recording.read_index()? {
            recording.scan()?;
        }
        Ok(recording)
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The key frames, in order.
    pub fn keys(&self) -> &[KeyFrame] {
        &self.keys
    }

    /// How long it is.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// It has its end.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The head of a block that is all there.
    fn head_at(&mut self, offset: u64) -> Result<Option<Head>, ReadError> {
        let mut head = [0; HEAD];
        self.file.seek(SeekFrom::Start(offset))?;
        let whole = read_whole(&mut self.file, &mut head)?;
        Ok(Head::read(&head).filter(|head| whole && offset + head.block() <= self.length))
    }

    /// Takes the key frames from the index at the end; false without a good one.
    fn read_index(&mut self) -> Result<bool, ReadError> {
        let Some(at) = self.length.checked_sub(END).filter(|at| *at >= self.body) else { return Ok(false) };
        let end = self.head_at(at)?.filter(|head| head.is(Kind::End) && head.length == 8);
        let Some(end) = end else { return Ok(false) };
        let mut offset = [0; 8];
        self.file.read_exact(&mut offset)?;
        let offset = u64::from_be_bytes(offset);
        if offset < self.body || offset >= at {
            return Ok(false);
        }
        let Some(index) = self.head_at(offset)?.filter(|head| head.is(Kind::Index)) else { return Ok(false) };
        let mut payload = vec![0; index.length];
        self.file.read_exact(&mut payload)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let keys = payload.chunks_exact(16);
        let keys = keys.map(|key| KeyFrame { at: micros(number(&key[..8])), offset: number(&key[8..]) });
        self.keys = keys.filter(|key| (self.body..offset).contains(&key.offset)).collect();
        self.keys.sort_by_key(|key| key.offset);
        (self.duration, self.ended) = (micros(end.micros), true);
        Ok(!self.keys.is_empty())
    }

    /// Finds the key frames by going through the blocks' heads.
    fn scan(&mut self) -> Result<(), ReadError> {
        let mut offset = self.body;
        self.keys.clear();
        (self.duration, self.ended) = (Duration::ZERO, false);
        while let Some(head) = self.head_at(offset)? {
            if head.is(Kind::Key) {
                self.keys.push(KeyFrame { at: micros(head.micros), offset });
            }
            (self.duration, self.ended) = (micros(head.micros), head.is(Kind::End));
            offset += head.block();
        }
        Ok(())
    }

    /// Reads everything and checks the chain.
    ///
    /// # Errors
    /// A block that is whole is not the one that was written. A file that was cut off is no error.
    pub fn check(&mut self) -> Result<Checked, ReadError> {
        let (mut chain, mut duration, mut bytes) = (block::first(), Duration::ZERO, MAGIC.len() as u64);
        let (mut blocks, mut keys, mut updates, mut ended) = (0, 0, 0, false);
        while let Some(head) = self.head_at(bytes)? {
            self.file.seek(SeekFrom::Start(bytes))?;
            let read = read_block(&mut self.file, &mut chain)?;
            if read.is_none() || ended || micros(head.micros) < duration {
                return Err(ReadError::Broken(bytes));
            }
            blocks += 1;
            keys += u64::from(head.is(Kind::Key));
            updates += u64::from(head.is(Kind::Update));
            (ended, duration) = (head.is(Kind::End), micros(head.micros));
            bytes += head.block();
        }
        // What is too short for the block that it begins was cut off; anything else was not written so.
        if bytes < self.length && (ended || self.ended || !self.is_cut(bytes)?) {
            return Err(ReadError::Broken(bytes));
        }
        Ok(Checked { blocks, keys, updates, duration, bytes, length: self.length, ended, hash: chain })
    }

    /// What is at `offset` is the begin of a block that a writer could have been writing.
    fn is_cut(&mut self, offset: u64) -> Result<bool, ReadError> {
        let mut head = [0; HEAD];
        self.file.seek(SeekFrom::Start(offset))?;
        Ok(!read_whole(&mut self.file, &mut head)? || Head::read(&head).is_some())
    }

    /// The screen at a time: the key frame before it is found by the index, and what follows is drawn up to then. A time
    /// before the first screen gives the first, one after the end the last. Each block's place in the chain is checked from
    /// the key frame on.
    ///
    /// # Errors
    /// There is no screen, or it is broken.
    pub fn frame(&mut self, at: Duration) -> Result<Frame, ReadError> {
        let before = self.keys.partition_point(|key| key.at <= at).saturating_sub(1);
        let key =
            *self.keys.get(before).ok_or(ReadError::NotOne("it was cut off before its first screen"))?;
        let mut chain: Hash = [0; HASH];
        self.file.seek(SeekFrom::Start(key.offset - HASH as u64))?;
        self.file.read_exact(&mut chain)?;
        let mut viewer = Viewer::new(None);
        let (mut offset, mut shown) = (key.offset, key.at);
        while let Some(head) = self.head_at(offset)? {
            if offset != key.offset && (micros(head.micros) > at || head.is(Kind::Key)) {
                break;
            }
            self.file.seek(SeekFrom::Start(offset))?;
            let block = read_block(&mut self.file, &mut chain)?;
            let (_, payload) = block.ok_or(ReadError::Broken(offset))?;
            if head.is(Kind::Key) || head.is(Kind::Update) {
                let picture = |source| ReadError::Picture { offset, source };
                viewer.feed(&payload).map_err(picture)?;
                while viewer.next_event().map_err(picture)?.is_some() {}
                shown = micros(head.micros);
            }
            offset += head.block();
        }
        Ok(Frame { at: shown, screen: viewer.framebuffer().clone() })
    }
}

/// Fills `buffer`; false when the file ends before.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Reads a block and moves the chain on; none where there is no whole one, or another than was written.
fn read_block(file: &mut impl Read, chain: &mut Hash) -> Result<Option<(Head, Vec<u8>)>, ReadError> {
    let (mut bytes, mut hash) = ([0; HEAD], [0; HASH]);
    if !read_whole(file, &mut bytes)? {
        return Ok(None);
    }
    let Some(head) = Head::read(&bytes) else { return Ok(None) };
    // Not more memory than there are bytes, whatever the length says.
    let mut payload = Vec::new();
    file.take(head.length as u64).read_to_end(&mut payload)?;
    if payload.len() < head.length || !read_whole(file, &mut hash)? {
        return Ok(None);
    }
    let next = block::next(chain, &bytes, &payload);
    if next != hash {
        return Ok(None);
    }
    *chain = next;
    Ok(Some((head, payload)))
}
