//! One viewer's pointer: from RFB's state of buttons to the presses and releases that a guest understands.
//!
//! Source: rfbproto, "PointerEvent" and "ExtendedMouseButtons". It knows nothing of the viewer's connection.

use lucarne_driver::{Button, InputEvent};

/// Buttons by their bit; 5 and 6, the wheel to the sides, exist in no driver.
const BUTTONS: [(u16, Button); 7] = [
    (0, Button::Left),
    (1, Button::Middle),
    (2, Button::Right),
    (3, Button::WheelUp),
    (4, Button::WheelDown),
    (7, Button::Side),
    (8, Button::Extra),
];

/// The buttons that one viewer holds.
#[derive(Debug, Default)]
pub(crate) struct Pointer {
    buttons: u16,
    position: Option<(u16, u16)>,
}

impl Pointer {
    /// The pointer is at `x`, `y` with these buttons held. The position is cut to the picture's `size`.
    pub(crate) fn moved(
        &mut self,
        buttons: u16,
        (x, y): (u16, u16),
        size: (u32, u32),
        send: &mut dyn FnMut(InputEvent),
    ) {
        if self.position != Some((x, y)) {
            self.position = Some((x, y));
            let (x, y) =
                (u32::from(x).min(size.0.saturating_sub(1)), u32::from(y).min(size.1.saturating_sub(1)));
            send(InputEvent::Pointer { x, y, of: (size.0.max(1), size.1.max(1)) });
        }
        self.press(buttons, send);
    }

    /// Releases what is held: the viewer is gone.
    pub(crate) fn release_all(&mut self, send: &mut dyn FnMut(InputEvent)) {
        self.press(0, send);
    }

    fn press(&mut self, buttons: u16, send: &mut dyn FnMut(InputEvent)) {
        let changed = self.buttons ^ buttons;
        self.buttons = buttons;
        for (bit, button) in BUTTONS.into_iter().filter(|(bit, _)| changed >> bit & 1 == 1) {
            send(InputEvent::Button { button, down: buttons >> bit & 1 == 1 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(act: impl FnOnce(&mut Pointer, &mut dyn FnMut(InputEvent))) -> Vec<InputEvent> {
        let mut seen = Vec::new();
        act(&mut Pointer::default(), &mut |e| seen.push(e));
        seen
    }

    fn button(button: Button, down: bool) -> InputEvent {
        InputEvent::Button { button, down }
    }

    #[test]
    fn a_held_button_is_pressed_once_at_its_new_place() {
        let seen = events(|p, send| {
            p.moved(1, (5, 6), (100, 100), send);
            p.moved(1, (7, 6), (100, 100), send);
            p.moved(0, (7, 6), (100, 100), send);
        });
        assert_eq!(
            seen,
            [
                InputEvent::Pointer { x: 5, y: 6, of: (100, 100) },
                button(Button::Left, true),
                InputEvent::Pointer { x: 7, y: 6, of: (100, 100) },
                button(Button::Left, false),
            ]
        );
    }

    #[test]
    fn a_position_outside_the_picture_is_cut_to_its_edge() {
        let seen = events(|p, send| p.moved(0, (u16::MAX, 3), (640, 480), send));
        assert_eq!(seen, [InputEvent::Pointer { x: 639, y: 3, of: (640, 480) }]);
    }

    #[test]
    fn wheel_and_side_buttons_have_their_own_bits_and_unknown_ones_do_nothing() {
        let seen = events(|p, send| {
            p.moved(0b1_1111_1000, (0, 0), (1, 1), send);
            p.release_all(send);
        });
        let all = [Button::WheelUp, Button::WheelDown, Button::Side, Button::Extra];
        let expected: Vec<_> =
            all.iter().map(|b| button(*b, true)).chain(all.iter().map(|b| button(*b, false))).collect();
        assert_eq!(seen[1..], expected);
    }
}
