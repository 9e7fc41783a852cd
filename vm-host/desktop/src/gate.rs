//! The gate between viewers' input and the guest: closed until the guest has its identity.
//!
//! ```text
//! closed: input waits in order, bounded ── open(vm) ──► open: what waited is delivered, then everything directly
//! ```
//!
//! A clone that has not got its identity shares its template's keys and random numbers; what a user types must not reach
//! it. It knows nothing of viewers, RFB or why it is opened.

use lucarne_driver::{InputEvent, InputQueue, Vm};
use std::sync::{Arc, Mutex, PoisonError};

/// Events that wait at most. A fork takes about a second, in which people type a few keys and move the pointer (runs of
/// moves count once). Too low and the first words are lost; too high and a stuck guest gets minutes of stale input at
/// once.
const HELD_LIMIT: usize = 256;

enum State {
    Closed(InputQueue),
    Open(Arc<dyn Vm>),
}

impl State {
    fn closed() -> Self {
        Self::Closed(InputQueue::new(HELD_LIMIT))
    }
}

/// The gate of one desktop.
pub(crate) struct InputGate(Mutex<State>);

impl InputGate {
    /// A closed gate.
    pub(crate) fn closed() -> Self {
        Self(Mutex::new(State::closed()))
    }

    /// Delivers an event, or keeps it. Never waits.
    pub(crate) fn send(&self, event: InputEvent) {
        match &mut *self.state() {
            State::Open(vm) => vm.input(event),
            State::Closed(held) => {
                if !held.push(event) {
                    tracing::debug!("input dropped: too much waits for the guest's identity");
                }
            }
        }
    }

    /// Delivers what waited, in order, and everything from now on.
    pub(crate) fn open(&self, vm: Arc<dyn Vm>) {
        let mut state = self.state();
        if let State::Closed(held) = &mut *state {
            while let Some(event) = held.pop() {
                vm.input(event);
            }
        }
        *state = State::Open(vm);
    }

    /// Closes it for good and forgets what waited: the guest has ended.
    pub(crate) fn shut(&self) {
        *self.state() = State::closed();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change of the state is whole at every point where a panic is possible.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let typed =
            [key(30, true), key(30, false), InputEvent::Pointer { x: 1, y: 2, of: (64, 64) }, key(48, true)];
        typed.iter().for_each(|e| gate.send(*e));
        assert!(vm.inputs().is_empty());
        gate.open(vm.clone());
        gate.send(key(48, false));
        assert_eq!(vm.inputs(), [&typed[..], &[key(48, false)]].concat());
    }
}
