//! What users do to a guest, and how it waits for one that does not keep up.

use std::collections::VecDeque;

/// Something that a user did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// A key, by its QEMU key number (XT set 1 scan code; extended keys have bit 7 set).
    Key {
        /// The number.
        qnum: u32,
        /// Pressed, or released.
        down: bool,
    },
    /// The pointer is at this pixel of the guest's desktop.
    Pointer {
        /// Pixels from the left.
        x: u32,
        /// Pixels from the top.
        y: u32,
        /// The desktop's width and height, all of its displays together, pixels: at least 1.
        of: (u32, u32),
    },
    /// A pointer's button.
    Button {
        /// Which.
        button: Button,
        /// Pressed, or released.
        down: bool,
    },
}

/// A pointer's button or a step of its wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// Left.
    Left,
    /// Middle.
    Middle,
    /// Right.
    Right,
    /// One step of the wheel, away from the user.
    WheelUp,
    /// One step of the wheel, towards the user.
    WheelDown,
    /// The first side button ("back").
    Side,
    /// The second side button ("forward").
    Extra,
}

impl InputEvent {
    /// Without it a key or button would stay down.
    fn is_release(self) -> bool {
        matches!(self, Self::Key { down: false, .. } | Self::Button { down: false, .. })
    }
}

/// Input in the order in which it is to be delivered, bounded.
///
/// A run of pointer moves waits as its last. When it is full, presses are dropped and releases are not: a release whose
/// press was dropped does nothing, a press without a release repeats for ever.
#[derive(Debug)]
pub struct InputQueue {
    waiting: VecDeque<InputEvent>,
    /// Releases that found it full, each once. They come after everything else, because a press may be in there.
    releases: VecDeque<InputEvent>,
    limit: usize,
}

impl InputQueue {
    /// An empty queue for `limit` events and as many releases of different keys and buttons.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { waiting: VecDeque::new(), releases: VecDeque::new(), limit }
    }

    /// Adds an event; says whether it, or one that stands for it, will be delivered.
    pub fn push(&mut self, event: InputEvent) -> bool {
        let full = self.waiting.len() >= self.limit || !self.releases.is_empty();
        match (event, self.waiting.back_mut()) {
            (InputEvent::Pointer { .. }, Some(last @ InputEvent::Pointer { .. })) => *last = event,
            _ if !full => self.waiting.push_back(event),
            // There are fewer keys and buttons than the limit; a flood of made-up key numbers ends here.
            _ if event.is_release() && self.releases.len() < self.limit => {
                if !self.releases.contains(&event) {
                    self.releases.push_back(event);
                }
            }
            _ => return false,
        }
        true
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<InputEvent> {
        self.waiting.pop_front().or_else(|| self.releases.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(qnum: u32, down: bool) -> InputEvent {
        InputEvent::Key { qnum, down }
    }

    fn drain(queue: &mut InputQueue) -> Vec<InputEvent> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn order_is_kept() {
        let mut queue = InputQueue::new(8);
        let typed =
            [key(30, true), key(30, false), InputEvent::Pointer { x: 1, y: 2, of: (64, 64) }, key(48, true)];
        assert!(typed.iter().all(|event| queue.push(*event)));
        assert_eq!(drain(&mut queue), typed);
    }

    #[test]
    fn a_run_of_pointer_moves_waits_as_its_last() {
        let mut queue = InputQueue::new(8);
        assert!((0..10_000).all(|x| queue.push(InputEvent::Pointer { x, y: 0, of: (10_000, 1) })));
        assert_eq!(drain(&mut queue), [InputEvent::Pointer { x: 9_999, y: 0, of: (10_000, 1) }]);
    }

    #[test]
    fn no_key_stays_down_when_more_is_typed_than_waits() {
        let mut queue = InputQueue::new(16);
        queue.push(key(42, true));
        for _ in 0..100 {
            queue.push(key(30, true));
            queue.push(key(30, false));
        }
        queue.push(key(42, false));
        let got = drain(&mut queue);
        assert!(got.len() <= 16 + 2, "{}", got.len());
        for qnum in [30, 42] {
            let last = got.iter().rev().find(|e| matches!(e, InputEvent::Key { qnum: q, .. } if *q == qnum));
            assert_eq!(last, Some(&key(qnum, false)));
        }
    }

    #[test]
    fn nothing_overtakes_a_release_that_waits() {
        let mut queue = InputQueue::new(2);
        assert!(queue.push(key(42, true)) && queue.push(key(30, true)) && queue.push(key(42, false)));
        assert_eq!(queue.pop(), Some(key(42, true)));
        assert!(!queue.push(key(42, true)), "its release is still to come");
        assert_eq!(drain(&mut queue), [key(30, true), key(42, false)]);
    }

    #[test]
    fn made_up_releases_are_bounded() {
        let mut queue = InputQueue::new(4);
        let kept = (0..1000).filter(|qnum| queue.push(key(*qnum, false))).count();
        assert_eq!(kept, 8);
    }
}
