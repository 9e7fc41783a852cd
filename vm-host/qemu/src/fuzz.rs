//! What the fuzz targets in `tests/fuzz` reach of parsers that are private otherwise. For nobody else.

use crate::device_state;
use crate::guest_agent::Answers;
use crate::guest_state::{self, Start};
use crate::listener::Listener;
use crate::vdagent::session::Session;
use lucarne_driver::DisplaySink;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A conversation with the agent for the clipboard, which says `pieces` after a viewer offered a text: what the host learns,
/// how it ends if it does, and what the agent is told.
pub fn vdagent<'a>(
    offered: Option<&str>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<String>, Vec<u8>) {
    let mut session = Session::new(offered.map(Arc::from));
    let mut events = Vec::new();
    for piece in pieces {
        match session.feed(piece) {
            Ok(learnt) => events.extend(learnt.iter().map(|event| format!("{event:?}"))),
            // Which events come with an error depends on the pieces, as does what is said after it.
            Err(error) => return (Vec::new(), Some(error.to_string()), Vec::new()),
        }
    }
    (events, None, session.out)
}

/// The answers in what the guest agent says, and why it is not listened to any more.
pub fn guest_agent<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
    let (mut answers, mut found) = (Answers::default(), Vec::new());
    for piece in pieces {
        answers.push(piece);
        loop {
            match answers.next() {
                Ok(Some(answer)) => found.push(answer.to_string()),
                Ok(None) => break,
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }
    (found, None)
}

/// Mends a device state: whether it had to be, or why it cannot be.
///
/// # Errors
/// What is wrong with it.
pub fn device_state(state: &mut Vec<u8>) -> Result<bool, String> {
    device_state::mend(state).map_err(|error| error.to_string())
}

/// What is kept of a guest's state, of a machine with so much memory that began as zero.
///
/// # Errors
/// What is wrong with it.
pub fn guest_state(state: &[u8], size: u64) -> Result<Vec<u8>, String> {
    let (mut kept, start) = (Vec::new(), Start { size, template: None });
    let done = guest_state::keep(state, &mut kept, &start).map_err(|error| error.to_string())?;
    assert_eq!(done.bytes, kept.len() as u64);
    Ok(kept)
}

/// The receiving end of QEMU's display, by its calls; each says whether it was taken.
pub struct Display(Listener);

impl Display {
    /// Frames go to the sink.
    pub fn new(sink: Arc<dyn DisplaySink>) -> Self {
        Self(Listener::new(sink, (0, Arc::default()), true))
    }

    /// `ScanoutMap`: offset, width, height, stride, format.
    pub fn scanout_map(&mut self, fd: &OwnedFd, [offset, width, height, stride, format]: [u32; 5]) -> bool {
        self.0.scanout_map(fd, offset, width, height, stride, format).is_ok()
    }

    /// `UpdateMap`: x, y, width, height.
    pub fn update_map(&mut self, [x, y, width, height]: [i32; 4]) {
        self.0.update_map(x, y, width, height);
    }

    /// `Scanout`: width, height, stride, format.
    pub fn scanout(&mut self, [width, height, stride, format]: [u32; 4], data: Vec<u8>) -> bool {
        self.0.scanout_data(width, height, stride, format, data).is_ok()
    }

    /// `Update`: x, y, width, height; stride, format.
    pub fn update(&mut self, [x, y, w, h]: [i32; 4], [stride, format]: [u32; 2], data: &[u8]) -> bool {
        self.0.update_data((x, y, w, h), stride, format, data).is_ok()
    }

    /// `CursorDefine`: width, height, hot x, hot y.
    pub fn cursor_define(&mut self, [width, height, x, y]: [i32; 4], argb: Vec<u8>) -> bool {
        self.0.cursor_define(width, height, x, y, argb).is_ok()
    }
}
