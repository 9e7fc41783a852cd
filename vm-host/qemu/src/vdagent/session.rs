//! One connection to the agent in a guest, as a conversation without I/O: who owns the clipboard, and what is said next.
//!
//! ```text
//! the guest copies                            a viewer copied
//!   agent │ ── GRAB(text) ───► │ host           host │ ── GRAB(text) ───► │ agent
//!         │ ◄───── REQUEST ─── │                     │ ◄───── REQUEST ─── │   when a program in the guest pastes
//!         │ ── CLIPBOARD ────► │                     │ ── CLIPBOARD ────► │
//! ```
//!
//! Text only, and of X11's selections only CLIPBOARD. Both sides may talk at once, so each message is taken by who owns
//! the clipboard now; the agent is not trusted to keep any order. It knows nothing of sockets and viewers.

use super::wire::{FramingError, Message, Messages, number, write};
use lucarne_driver::{DisplayArea, MAX_CLIPBOARD};
use std::sync::Arc;

/// Message types (`VD_AGENT_*`).
mod kind {
    pub(super) const MONITORS_CONFIG: u32 = 2;
    pub(super) const CLIPBOARD: u32 = 4;
    pub(super) const ANNOUNCE_CAPABILITIES: u32 = 6;
    pub(super) const GRAB: u32 = 7;
    pub(super) const REQUEST: u32 = 8;
    pub(super) const RELEASE: u32 = 9;
    pub(super) const MAX_CLIPBOARD: u32 = 14;
}

/// Capabilities, as bits of the first word (`VD_AGENT_CAP_*`).
mod cap {
    /// The agent can be told sizes.
    pub(super) const MONITORS_CONFIG: u32 = 1 << 1;
    /// Text is sent when it is asked for.
    pub(super) const BY_DEMAND: u32 = 1 << 5;
    /// Clipboard messages begin with a selection.
    pub(super) const SELECTION: u32 = 1 << 6;
    /// The guest's lines end in CR LF.
    pub(super) const LINES_END_CRLF: u32 = 1 << 9;
    /// The agent can be told how long a text may be.
    pub(super) const MAX_CLIPBOARD: u32 = 1 << 10;
}

/// X11's CLIPBOARD among the selections, with three bytes of padding.
const CLIPBOARD_SELECTION: [u8; 4] = [0; 4];

/// Types of what is in a clipboard (`VD_AGENT_CLIPBOARD_*`).
const NOTHING: u32 = 0;
const UTF8_TEXT: u32 = 1;

/// Displays lie where the message says (`VD_AGENT_CONFIG_MONITORS_FLAG_USE_POS`).
const USE_POSITIONS: u32 = 1;

/// Bytes for the agent that may wait. An agent that asks on without reading would fill the host's memory.
const MAX_WAITING: usize = 4 * MAX_CLIPBOARD;

/// Why a conversation cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    /// It does not speak the protocol.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// It asks and does not read.
    #[error("the agent does not read: {0} bytes wait for it")]
    Waiting(usize),
}

/// What the host learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// What is in the guest's clipboard; `None` when it holds no text any more.
    Content(Option<Arc<str>>),
    /// The agent said something that was not taken; why, without what.
    Refused(String),
}

/// Who put something into the clipboard last.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    /// A program in the guest.
    Guest {
        /// Requests for its text that are not answered yet. A program that copies again cuts off the one before, whose
        /// answer is then that there is nothing; the text comes with the last one.
        awaited: u32,
    },
    /// A viewer, with this text.
    Host(Arc<str>),
}

/// The conversation.
#[derive(Debug)]
pub(crate) struct Session {
    messages: Messages,
    owner: Owner,
    /// The wanted displays; none when there is no wish.
    displays: Vec<DisplayArea>,
    /// The agent's capabilities, once it has said them.
    capabilities: Option<u32>,
    /// For the agent.
    pub(crate) out: Vec<u8>,
}

impl Session {
    /// Begins one, with a text that is to be offered as soon as an agent listens.
    pub(crate) fn new(offer: Option<Arc<str>>) -> Self {
        let owner = offer.map_or(Owner::Nobody, Owner::Host);
        let messages = Messages::default();
        let mut session = Self { messages, owner, displays: Vec::new(), capabilities: None, out: Vec::new() };
        // Asks for the agent's own, which also tells it that whoever spoke to it before has gone.
        session.announce(true);
        session
    }

    /// A viewer's text is the clipboard's content from now on.
    pub(super) fn offer(&mut self, text: Arc<str>) {
        self.owner = Owner::Host(text);
        self.grab();
    }

    /// The desktop is to have these displays.
    pub(super) fn arrange(&mut self, displays: Vec<DisplayArea>) {
        self.displays = displays;
        self.say_displays();
    }

    /// The viewer's text that is the clipboard's content.
    pub(super) fn offered(&self) -> Option<Arc<str>> {
        if let Owner::Host(text) = &self.owner { Some(text.clone()) } else { None }
    }

    /// Takes what the agent says, in any pieces, and gives what the host learns from it.
    ///
    /// # Errors
    /// The conversation is over.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, SessionError> {
        let mut events = Vec::new();
        while let Some(message) = self.messages.next(&mut bytes)? {
            match message {
                Message::Whole { kind, data } => self.handle(kind, &data, &mut events),
                Message::TooLong { kind, length } => {
                    events.push(Event::Refused(format!("a message of {length} bytes is too long")));
                    if kind == kind::CLIPBOARD {
                        self.no_text(&mut events);
                    }
                }
            }
            if self.out.len() > MAX_WAITING {
                return Err(SessionError::Waiting(self.out.len()));
            }
        }
        Ok(events)
    }

    fn handle(&mut self, kind: u32, data: &[u8], events: &mut Vec<Event>) {
        if kind == kind::ANNOUNCE_CAPABILITIES {
            self.capabilities = Some(number(data, 4));
            if number(data, 0) != 0 {
                // It has just started and knows nothing of what was said before.
                self.announce(false);
            }
            if self.has(cap::MAX_CLIPBOARD) {
                self.say(kind::MAX_CLIPBOARD, &[&(MAX_CLIPBOARD as u32).to_le_bytes()]);
            }
            self.grab();
            self.say_displays();
            return;
        }
        // Everything else is about a selection. The primary one is what a mouse has marked: nobody else's business.
        let data = if self.has(cap::SELECTION) {
            let Some(data) = data.strip_prefix(&CLIPBOARD_SELECTION) else { return };
            data
        } else {
            data
        };
        match kind {
            kind::GRAB => self.grabbed(data, events),
            kind::CLIPBOARD => self.content(number(data, 0), data.get(4..).unwrap_or_default(), events),
            kind::REQUEST => self.answer(number(data, 0)),
            kind::RELEASE => self.no_text(events),
            _ => {}
        }
    }

    /// The guest copied something.
    fn grabbed(&mut self, types: &[u8], events: &mut Vec<Event>) {
        let before = if let Owner::Guest { awaited } = self.owner { awaited } else { 0 };
        self.owner = Owner::Guest { awaited: before.saturating_add(1) };
        if types.chunks_exact(4).any(|t| number(t, 0) == UTF8_TEXT) {
            self.say_of_clipboard(kind::REQUEST, UTF8_TEXT, &[]);
        } else {
            // A picture, say: whatever text was there before is not any more.
            self.no_text(events);
        }
    }

    /// The guest's text came.
    fn content(&mut self, kind: u32, data: &[u8], events: &mut Vec<Event>) {
        let Owner::Guest { awaited } = &mut self.owner else {
            // A viewer has copied something since.
            return;
        };
        let Some(left) = awaited.checked_sub(1) else {
            // Nobody has asked for it.
            return;
        };
        *awaited = left;
        if kind != UTF8_TEXT {
            if left == 0 {
                self.no_text(events);
            }
            return;
        }
        let Ok(text) = std::str::from_utf8(data) else {
            events.push(Event::Refused("its text is not UTF-8".into()));
            return self.no_text(events);
        };
        let text = text.trim_end_matches('\0').replace("\r\n", "\n");
        if text.len() > MAX_CLIPBOARD {
            events.push(Event::Refused(format!("its text of {} bytes is too long", text.len())));
            return self.no_text(events);
        }
        events.push(Event::Content(Some(text.into())));
    }

    /// The guest's clipboard holds no text any more, if it was the guest's.
    fn no_text(&mut self, events: &mut Vec<Event>) {
        if matches!(self.owner, Owner::Guest { .. }) {
            self.owner = Owner::Nobody;
            events.push(Event::Content(None));
        }
    }

    /// A program in the guest pastes.
    fn answer(&mut self, kind: u32) {
        match &self.owner {
            Owner::Host(text) if kind == UTF8_TEXT => {
                let text = if self.has(cap::LINES_END_CRLF) {
                    text.replace('\n', "\r\n").into()
                } else {
                    text.clone()
                };
                self.say_of_clipboard(kind::CLIPBOARD, UTF8_TEXT, text.as_bytes());
            }
            // It waits for an answer, whatever it asked for.
            _ => self.say_of_clipboard(kind::CLIPBOARD, NOTHING, &[]),
        }
    }

    /// Says that the clipboard's content is here, if it is and an agent listens.
    fn grab(&mut self) {
        if matches!(self.owner, Owner::Host(_)) && self.has(cap::BY_DEMAND) {
            self.say_of_clipboard(kind::GRAB, UTF8_TEXT, &[]);
        }
    }

    /// Says the wanted displays, if there are any and an agent listens (`VDAgentMonitorsConfig`).
    fn say_displays(&mut self) {
        if self.displays.is_empty() || !self.has(cap::MONITORS_CONFIG) {
            return;
        }
        let count = self.displays.len() as u32;
        let flags = if count > 1 { USE_POSITIONS } else { 0 };
        let mut fields = vec![count, flags];
        for DisplayArea { x, y, width, height } in &self.displays {
            let depth = 32;
            fields.extend([*height, *width, depth, *x, *y]);
        }
        let bytes: Vec<u8> = fields.into_iter().flat_map(u32::to_le_bytes).collect();
        self.say(kind::MONITORS_CONFIG, &[&bytes]);
    }

    fn announce(&mut self, request: bool) {
        let capabilities = cap::BY_DEMAND | cap::SELECTION;
        self.say(
            kind::ANNOUNCE_CAPABILITIES,
            &[&u32::from(request).to_le_bytes(), &capabilities.to_le_bytes()],
        );
    }

    fn say_of_clipboard(&mut self, kind: u32, content: u32, data: &[u8]) {
        let selection: &[u8] = if self.has(cap::SELECTION) { &CLIPBOARD_SELECTION } else { &[] };
        self.say(kind, &[selection, &content.to_le_bytes(), data]);
    }

    fn say(&mut self, kind: u32, data: &[&[u8]]) {
        write(kind, &data.concat(), &mut self.out);
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities.is_some_and(|all| all & capability != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another program's half of the conversation.
    fn agent(messages: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        messages.iter().for_each(|(kind, data)| write(*kind, data, &mut out));
        out
    }

    /// What the session has said since it was last asked.
    fn said(session: &mut Session) -> Vec<(u32, Vec<u8>)> {
        let bytes = std::mem::take(&mut session.out);
        let (mut messages, mut rest, mut found) = (Messages::default(), &bytes[..], Vec::new());
        while let Some(message) = messages.next(&mut rest).unwrap() {
            let Message::Whole { kind, data } = message else { panic!("{message:?}") };
            found.push((kind, data));
        }
        found
    }

    /// What spice-vdagent 0.22 announces, asked or asking.
    fn capabilities(request: u8) -> Vec<u8> {
        vec![request, 0, 0, 0, 0xe7, 0x8d, 0x03, 0]
    }

    fn clipboard(kind: u8, text: &str) -> Vec<u8> {
        [&[0, 0, 0, 0, kind, 0, 0, 0], text.as_bytes()].concat()
    }

    const TEXT: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];

    /// A session with an agent that listens.
    fn joined(offer: Option<&str>) -> Session {
        let mut session = Session::new(offer.map(Arc::from));
        assert_eq!(said(&mut session), [(6, vec![1, 0, 0, 0, 0x60, 0, 0, 0])]);
        assert_eq!(session.feed(&agent(&[(6, &capabilities(0))])), Ok(vec![]));
        session
    }

    fn content(text: &str) -> Event {
        Event::Content(Some(text.into()))
    }

    #[test]
    fn what_the_guest_copies_is_asked_for_and_told() {
        let mut session = joined(None);
        said(&mut session);
        assert_eq!(session.feed(&agent(&[(7, &TEXT)])), Ok(vec![]));
        assert_eq!(said(&mut session), [(8, TEXT.to_vec())]);
        let events = session.feed(&agent(&[(4, &clipboard(1, "Grüße\r\n你好\0"))])).unwrap();
        assert_eq!(events, [content("Grüße\n你好")]);
        assert_eq!(session.feed(&agent(&[(9, &[0; 4])])), Ok(vec![Event::Content(None)]));
    }

    #[test]
    fn a_viewers_text_is_offered_and_given_when_a_program_pastes() {
        let mut session = joined(None);
        said(&mut session);
        session.offer("zwei\nZeilen 你".into());
        assert_eq!(said(&mut session), [(7, TEXT.to_vec())]);
        session.feed(&agent(&[(8, &TEXT)])).unwrap();
        assert_eq!(said(&mut session), [(4, clipboard(1, "zwei\nZeilen 你"))]);
    }

    #[test]
    fn a_text_from_before_is_offered_once_an_agent_listens_and_again_when_it_restarts() {
        let mut session = joined(Some("early"));
        assert!(said(&mut session).contains(&(7, TEXT.to_vec())));
        session.feed(&agent(&[(6, &capabilities(1))])).unwrap();
        let said = said(&mut session);
        assert_eq!(said.first(), Some(&(6, vec![0, 0, 0, 0, 0x60, 0, 0, 0])), "its question is answered");
        assert_eq!(said.last(), Some(&(7, TEXT.to_vec())));
    }

    #[test]
    fn wanted_displays_are_said_once_an_agent_listens_and_again_when_it_restarts() {
        let mut session = Session::new(None);
        let area = |x, width| DisplayArea { x, y: 0, width, height: 768 };
        session.arrange(vec![area(0, 1366)]);
        said(&mut session);
        let wanted = |session: &mut Session| {
            said(session).into_iter().find(|(kind, _)| *kind == 2).map(|(_, data)| data)
        };
        let size = [1, 0, 768, 1366, 32, 0, 0].map(u32::to_le_bytes).concat();
        session.feed(&agent(&[(6, &capabilities(0))])).unwrap();
        assert_eq!(wanted(&mut session), Some(size.clone()));
        session.feed(&agent(&[(6, &capabilities(1))])).unwrap();
        assert_eq!(wanted(&mut session), Some(size));
        session.arrange(vec![area(0, 1024), area(1024, 800)]);
        let two = [2, 1, 768, 1024, 32, 0, 0, 768, 800, 32, 1024, 0].map(u32::to_le_bytes).concat();
        assert_eq!(wanted(&mut session), Some(two));
    }

    #[test]
    fn a_guest_that_copies_again_before_its_text_came_is_understood() {
        let mut session = joined(None);
        session.feed(&agent(&[(7, &TEXT), (7, &TEXT)])).unwrap();
        assert_eq!(session.feed(&agent(&[(4, &clipboard(0, ""))])), Ok(vec![]), "the first was cut off");
        assert_eq!(session.feed(&agent(&[(4, &clipboard(1, "second"))])), Ok(vec![content("second")]));
        session.feed(&agent(&[(7, &TEXT), (7, &TEXT)])).unwrap();
        let answers = agent(&[(4, &clipboard(1, "third")), (4, &clipboard(0, ""))]);
        assert_eq!(session.feed(&answers), Ok(vec![content("third"), Event::Content(None)]));
    }

    #[test]
    fn a_text_that_was_overtaken_by_a_viewers_is_not_told() {
        let mut session = joined(None);
        session.feed(&agent(&[(7, &TEXT)])).unwrap();
        session.offer("newer".into());
        assert_eq!(session.feed(&agent(&[(4, &clipboard(1, "older"))])), Ok(vec![]));
        assert_eq!(session.feed(&agent(&[(9, &[0; 4])])), Ok(vec![]), "the guest's claim is long over");
        assert_eq!(session.offered().as_deref(), Some("newer"));
    }

    #[test]
    fn a_guest_that_copies_after_a_viewer_owns_the_clipboard() {
        let mut session = joined(Some("older"));
        session.feed(&agent(&[(7, &TEXT)])).unwrap();
        assert_eq!(session.offered(), None);
        said(&mut session);
        session.feed(&agent(&[(8, &TEXT)])).unwrap();
        assert_eq!(said(&mut session), [(4, clipboard(0, ""))], "there is nothing to give any more");
    }

    #[test]
    fn a_picture_in_the_guests_clipboard_is_no_text() {
        let mut session = joined(None);
        let picture = [0, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(session.feed(&agent(&[(7, &picture)])), Ok(vec![Event::Content(None)]));
    }

    #[test]
    fn text_that_nobody_asked_for_is_dropped() {
        let mut session = joined(None);
        assert_eq!(session.feed(&agent(&[(4, &clipboard(1, "pushed"))])), Ok(vec![]));
        let primary = [1, 0, 0, 0, 1, 0, 0, 0];
        said(&mut session);
        assert_eq!(session.feed(&agent(&[(7, &primary)])), Ok(vec![]));
        assert_eq!(said(&mut session), [], "what a mouse has marked is not copied");
    }

    #[test]
    fn text_beyond_the_limit_is_refused_without_its_content() {
        for length in [MAX_CLIPBOARD + 1, 2 * MAX_CLIPBOARD + 1] {
            let mut session = joined(None);
            session.feed(&agent(&[(7, &TEXT)])).unwrap();
            let events = session.feed(&agent(&[(4, &clipboard(1, &"x".repeat(length)))])).unwrap();
            assert_eq!(events.len(), 2);
            assert!(matches!(&events[0], Event::Refused(why) if !why.contains("xx")), "{:?}", events[0]);
            assert_eq!(events[1], Event::Content(None));
        }
        let mut session = joined(None);
        let longest = "x".repeat(MAX_CLIPBOARD);
        let events = session.feed(&agent(&[(7, &TEXT), (4, &clipboard(1, &longest))]));
        assert_eq!(events, Ok(vec![content(&longest)]));
    }

    #[test]
    fn an_agent_that_asks_without_reading_ends_the_conversation() {
        let mut session = joined(Some(&"x".repeat(MAX_CLIPBOARD)));
        let question = agent(&[(8, &TEXT)]);
        let end = (0..10).find_map(|_| session.feed(&question).err());
        assert!(matches!(end, Some(SessionError::Waiting(_))), "{end:?}");
    }

    #[test]
    fn an_agent_that_writes_crlf_gets_it_too() {
        let mut session = Session::new(Some("a\nb".into()));
        session.feed(&agent(&[(6, &[0, 0, 0, 0, 0x60, 2, 0, 0]), (8, &TEXT)])).unwrap();
        assert_eq!(said(&mut session).pop(), Some((4, clipboard(1, "a\r\nb"))));
    }
}
