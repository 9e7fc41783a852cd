//! One viewer's keyboard: from RFB's key messages to key numbers, and which of them the viewer holds.
//!
//! Viewers that know QEMU Extended Key Event name the key's place, which works for every layout. The others name only a
//! symbol; then the key of a US keyboard that makes it is pressed, with Shift put right around it where needed. It knows
//! nothing of the viewer's connection or of the guest's layout.
//!
//! Source: rfbproto, "KeyEvent" and "QEMU Extended Key Event Message".

use lucarne_driver::InputEvent;
use lucarne_rfb::keysym;

/// QEMU key numbers are below this; others come from a broken or hostile viewer.
const KEYS: u32 = 0x100;

/// The two Shift keys.
const SHIFTS: [u32; 2] = [0x2a, 0x36];

/// X11's Caps_Lock and Shift_Lock. A symbol already has the viewer's lock in it; locking the guest too would turn it
/// round.
const LOCKS: [u32; 2] = [0xffe5, 0xffe6];

/// What a viewer called a key. A release names the key as its press did, but for the changes told below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Place(u32),
    Symbol(u32),
}

#[derive(Clone, Copy, Debug)]
struct Held {
    name: Name,
    qnum: u32,
}

/// On-screen keyboards and automation name a key's place and the symbol that it makes with Shift, and press no Shift:
/// `|` on the place of the backslash. Where the US keyboard agrees about the place, the symbol counts. Letters are left
/// alone, because Caps Lock makes capitals without Shift too.
fn missing_shift(symbol: u32, place: u32) -> Option<bool> {
    let letter = char::from_u32(symbol).is_some_and(|c| c.is_ascii_alphabetic());
    let key = keysym::lookup(symbol).filter(|key| !letter && key.qnum == place)?;
    key.shift.filter(|shift| *shift)
}

/// The keys that one viewer holds.
#[derive(Debug, Default)]
pub(crate) struct Keyboard {
    held: Vec<Held>,
}

impl Keyboard {
    /// A QEMU Extended Key Event: `keycode` is the key's number, or 0 when the viewer knows only `symbol`.
    pub(crate) fn place(&mut self, down: bool, symbol: u32, keycode: u32, send: &mut dyn FnMut(InputEvent)) {
        if keycode == 0 {
            self.symbol(down, symbol, send);
        } else if keycode >= KEYS {
            tracing::debug!(keycode, "a key number that no keyboard has was ignored");
        } else if down {
            self.press(Name::Place(keycode), keycode, missing_shift(symbol, keycode), send);
        } else if !self.release(|h| h.name == Name::Place(keycode), send) {
            // A viewer names places once it has heard that it may, which can be while a key is down.
            self.release(|h| h.qnum == keycode, send);
        }
    }

    /// A KeyEvent: `symbol` is an X11 keysym.
    pub(crate) fn symbol(&mut self, down: bool, symbol: u32, send: &mut dyn FnMut(InputEvent)) {
        if LOCKS.contains(&symbol) {
            return;
        }
        let Some(key) = keysym::lookup(symbol) else {
            tracing::debug!(symbol, "a symbol that no key of a US keyboard makes was ignored");
            return;
        };
        if down {
            self.press(Name::Symbol(symbol), key.qnum, key.shift, send);
        } else if !self.release(|h| h.name == Name::Symbol(symbol), send) {
            // Shift changed between press and release: 'A' went down and 'a' comes up.
            self.release(|h| h.qnum == key.qnum, send);
        }
    }

    /// Releases what is held: the viewer is gone.
    pub(crate) fn release_all(&mut self, send: &mut dyn FnMut(InputEvent)) {
        while let Some(last) = self.held.last().map(|h| h.name) {
            self.release(|h| h.name == last, send);
        }
    }

    fn holds(&self, qnum: u32) -> bool {
        self.held.iter().any(|h| h.qnum == qnum)
    }

    fn press(&mut self, name: Name, qnum: u32, shift: Option<bool>, send: &mut dyn FnMut(InputEvent)) {
        let repeated = self.held.iter().any(|h| h.name == name);
        // The guest repeats held keys by itself.
        if repeated || self.held.len() >= KEYS as usize {
            return;
        }
        let already_down = self.holds(qnum);
        self.held.push(Held { name, qnum });
        if already_down {
            return;
        }
        let mut key = |qnum, down| send(InputEvent::Key { qnum, down });
        let shifts: Vec<u32> = SHIFTS.into_iter().filter(|s| self.holds(*s)).collect();
        match shift {
            Some(true) if shifts.is_empty() => {
                key(SHIFTS[0], true);
                key(qnum, true);
                key(SHIFTS[0], false);
            }
            Some(false) if !shifts.is_empty() => {
                shifts.iter().for_each(|s| key(*s, false));
                key(qnum, true);
                shifts.iter().for_each(|s| key(*s, true));
            }
            _ => key(qnum, true),
        }
    }

    /// Releases the first key that fits; says whether one did.
    fn release(&mut self, fits: impl Fn(&Held) -> bool, send: &mut dyn FnMut(InputEvent)) -> bool {
        let Some(at) = self.held.iter().position(fits) else { return false };
        let qnum = self.held.remove(at).qnum;
        if !self.holds(qnum) {
            send(InputEvent::Key { qnum, down: false });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(act: impl FnOnce(&mut Keyboard, &mut dyn FnMut(InputEvent))) -> Vec<(u32, bool)> {
        let mut seen = Vec::new();
        act(&mut Keyboard::default(), &mut |event| match event {
            InputEvent::Key { qnum, down } => seen.push((qnum, down)),
            other => panic!("{other:?} is no key"),
        });
        seen
    }

    const A: u32 = 0x1e;
    const SHIFT: u32 = 0x2a;

    #[test]
    fn a_place_is_sent_as_it_is_and_repeats_are_left_to_the_guest() {
        let seen = typed(|k, send| {
            k.place(true, 0xe4, 0x28, send);
            k.place(true, 0xe4, 0x28, send);
            k.place(false, 0xe4, 0x28, send);
            k.place(false, 0xe4, 0x28, send);
        });
        assert_eq!(seen, [(0x28, true), (0x28, false)]);
    }

    #[test]
    fn a_capital_letter_without_shift_gets_one_for_its_press() {
        let seen = typed(|k, send| {
            k.symbol(true, 'A'.into(), send);
            k.symbol(false, 'A'.into(), send);
        });
        assert_eq!(seen, [(SHIFT, true), (A, true), (SHIFT, false), (A, false)]);
    }

    #[test]
    fn a_symbol_that_needs_shift_gets_one_even_when_its_place_is_named() {
        const BACKSLASH: u32 = 0x2b;
        let seen = typed(|k, send| {
            k.place(true, '|'.into(), BACKSLASH, send);
            k.place(false, '|'.into(), BACKSLASH, send);
        });
        assert_eq!(seen, [(SHIFT, true), (BACKSLASH, true), (SHIFT, false), (BACKSLASH, false)]);
        let capital_by_caps_lock = typed(|k, send| k.place(true, 'A'.into(), A, send));
        assert_eq!(capital_by_caps_lock, [(A, true)]);
    }

    #[test]
    fn a_small_letter_with_shift_held_is_typed_without_it() {
        let seen = typed(|k, send| {
            k.symbol(true, 0xffe1, send);
            k.symbol(true, 'a'.into(), send);
        });
        assert_eq!(seen, [(SHIFT, true), (SHIFT, false), (A, true), (SHIFT, true)]);
    }

    #[test]
    fn a_key_whose_symbol_changed_while_it_was_held_is_released() {
        let seen = typed(|k, send| {
            k.symbol(true, 0xffe1, send);
            k.symbol(true, 'A'.into(), send);
            k.symbol(false, 0xffe1, send);
            k.symbol(false, 'a'.into(), send);
        });
        assert_eq!(seen, [(SHIFT, true), (A, true), (SHIFT, false), (A, false)]);
    }

    #[test]
    fn a_key_that_was_pressed_by_its_symbol_is_released_by_its_place() {
        let control = 0x1d;
        let seen = typed(|k, send| {
            k.symbol(true, 0xffe3, send);
            k.place(false, 0xffe3, control, send);
            k.release_all(send);
        });
        assert_eq!(seen, [(control, true), (control, false)]);
    }

    #[test]
    fn caps_lock_of_a_viewer_that_sends_symbols_stays_with_the_viewer() {
        assert_eq!(typed(|k, send| k.symbol(true, 0xffe5, send)), []);
        assert_eq!(typed(|k, send| k.place(true, 0xffe5, 0x3a, send)), [(0x3a, true)]);
    }

    #[test]
    fn everything_held_is_released_once_in_reverse() {
        let seen = typed(|k, send| {
            k.place(true, 0, 0x1d, send);
            k.symbol(true, 'a'.into(), send);
            k.place(true, 0, A, send);
            k.release_all(send);
            k.release_all(send);
        });
        assert_eq!(seen, [(0x1d, true), (A, true), (A, false), (0x1d, false)]);
    }

    #[test]
    fn impossible_keys_do_nothing() {
        let seen = typed(|k, send| {
            k.place(true, 0, 0x100, send);
            k.place(true, 0, u32::MAX, send);
            k.symbol(true, 0x0fff_ffff, send);
            k.place(true, 0x0fff_ffff, 0, send);
        });
        assert_eq!(seen, []);
    }
}
