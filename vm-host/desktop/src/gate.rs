//! The gate between viewers' input and the guest: closed until the guest has its identity.
//!
//! ```text
//! closed: input waits in order, bounded ── open(vm) ──► open: what waited is delivered, then everything directly
//! ```
//!
//! A clone that has not got its identity shares its template's keys and random numbers; what a user types must not reach
//! it. It knows nothing of viewers, RFB or why it is opened.

use lucarne_driver::{InputEvent, Vm};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Events that wait at most. A fork takes about a second, in which people type a few keys and move the pointer (runs of
/// moves count once). Too low and the first words are lost; too high and a stuck guest gets minutes of stale input at
/// once.
const HELD_LIMIT: usize = 256;

enum State {
    Closed {
        held: VecDeque<InputEvent>,
        /// Releases that found the queue full. They are delivered after it, because a press may have been in it.
        releases: Vec<InputEvent>,
    },
    Open(Arc<dyn Vm>),
}

/// The gate of one desktop.
pub(crate) struct InputGate(Mutex<State>);

impl InputGate {
    /// A closed gate.
    pub(crate) fn closed() -> Self {
        Self(Mutex::new(State::Closed { held: VecDeque::new(), releases: Vec::new() }))
    }

    /// Delivers an event, or keeps it. Never waits.
    pub(crate) fn send(&self, event: InputEvent) {
        match &mut *self.state() {
            State::Open(vm) => vm.input(event),
            State::Closed { held, releases } => hold(held, releases, event),
        }
    }

    /// Delivers what waited, in order, and everything from now on.
    pub(crate) fn open(&self, vm: Arc<dyn Vm>) {
        let mut state = self.state();
        if let State::Closed { held, releases } = &mut *state {
            held.drain(..).chain(releases.drain(..)).for_each(|event| vm.input(event));
        }
        *state = State::Open(vm);
    }

    /// Closes it for good and forgets what waited: the guest has ended.
    pub(crate) fn shut(&self) {
        *self.state() = State::Closed { held: VecDeque::new(), releases: Vec::new() };
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change of the state is whole at every point where a panic is possible.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hold(held: &mut VecDeque<InputEvent>, releases: &mut Vec<InputEvent>, event: InputEvent) {
    if let (InputEvent::Pointer { .. }, Some(last @ InputEvent::Pointer { .. })) = (event, held.back_mut()) {
        *last = event;
    } else if held.len() < HELD_LIMIT {
        held.push_back(event);
    } else {
        let release =
            matches!(event, InputEvent::Key { down: false, .. } | InputEvent::Button { down: false, .. });
        // There are fewer keys and buttons than this; a flood of made-up key numbers ends here.
        if release && !releases.contains(&event) && releases.len() < HELD_LIMIT {
            releases.push(event);
        }
        tracing::debug!(?event, "input dropped: too much waits for the guest's identity");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeVm;

    fn key(qnum: u32, down: bool) -> InputEvent {
        InputEvent::Key { qnum, down }
    }

    #[test]
    fn input_waits_until_the_gate_opens_and_keeps_its_order() {
        let (gate, vm) = (InputGate::closed(), FakeVm::new());
        let typed = [key(30, true), key(30, false), InputEvent::Pointer { x: 1, y: 2 }, key(48, true)];
        typed.iter().for_each(|e| gate.send(*e));
        assert!(vm.inputs().is_empty());
        gate.open(vm.clone());
        gate.send(key(48, false));
        assert_eq!(vm.inputs(), [&typed[..], &[key(48, false)]].concat());
    }

    #[test]
    fn a_run_of_pointer_moves_waits_as_its_last() {
        let (gate, vm) = (InputGate::closed(), FakeVm::new());
        (0..10_000).for_each(|x| gate.send(InputEvent::Pointer { x, y: 0 }));
        gate.open(vm.clone());
        assert_eq!(vm.inputs(), [InputEvent::Pointer { x: 9_999, y: 0 }]);
    }

    #[test]
    fn no_key_stays_down_when_more_is_typed_than_waits() {
        let (gate, vm) = (InputGate::closed(), FakeVm::new());
        gate.send(key(42, true));
        for _ in 0..HELD_LIMIT {
            gate.send(key(30, true));
            gate.send(key(30, false));
        }
        gate.send(key(42, false));
        gate.open(vm.clone());
        let inputs = vm.inputs();
        assert!(inputs.len() <= HELD_LIMIT + 2, "{}", inputs.len());
        for qnum in [30, 42] {
            let last =
                inputs.iter().rev().find(|e| matches!(e, InputEvent::Key { qnum: q, .. } if *q == qnum));
            assert_eq!(last, Some(&key(qnum, false)));
        }
    }
}
