//! From X11 keysyms to places on a US keyboard, for viewers that do not send extended key events.
//!
//! A place is QEMU's "qnum": the XT (set 1) scancode, with bit 7 set for those that have an `e0` before them (rfbproto,
//! "QEMU Extended Key Event Message"; keysym values from X11's `keysymdef.h` and `XF86keysym.h`). Knows nothing of what
//! layout the guest uses: it has to be US for the characters to come out.

/// A key of a US keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// XT scancode, extended ones with bit 7 set.
    pub qnum: u32,
    /// Whether Shift must be down for the character; `None` where it makes no difference to what was meant.
    pub shift: Option<bool>,
}

/// Shift, left.
pub const SHIFT_LEFT: u32 = 0x2a;
/// Shift, right.
pub const SHIFT_RIGHT: u32 = 0x36;

/// The key for a keysym; `None` when a US keyboard has none.
///
/// Both X11's own keysyms of ASCII and their Unicode form (`0x01000000` + code point) are known.
#[must_use]
pub fn lookup(keysym: u32) -> Option<Key> {
    let keysym = match keysym {
        0x0100_0020..=0x0100_007e => keysym - 0x0100_0000,
        other => other,
    };
    if let Ok(c @ 0x20..=0x7e) = u8::try_from(keysym) {
        return character(c);
    }
    let at = KEYS.binary_search_by_key(&keysym, |&(sym, _)| sym).ok()?;
    Some(Key { qnum: KEYS[at].1, shift: None })
}

/// The rows of characters from their first scancode on: without and with Shift.
const ROWS: [(u32, &[u8], &[u8]); 4] = [
    (0x02, b"1234567890-=", b"!@#$%^&*()_+"),
    (0x10, b"qwertyuiop[]", b"QWERTYUIOP{}"),
    (0x1e, b"asdfghjkl;'`", b"ASDFGHJKL:\"~"),
    (0x2b, b"\\zxcvbnm,./", b"|ZXCVBNM<>?"),
];

fn character(c: u8) -> Option<Key> {
    if c == b' ' {
        return Some(Key { qnum: 0x39, shift: None });
    }
    ROWS.iter().find_map(|&(first, plain, shifted)| {
        let in_row = |row: &[u8], shift| {
            let i = row.iter().position(|&k| k == c)? as u32;
            Some(Key { qnum: first + i, shift: Some(shift) })
        };
        in_row(plain, false).or_else(|| in_row(shifted, true))
    })
}

/// Keys without a character of their own, by keysym.
const KEYS: [(u32, u32); 121] = [
    (0xfe03, 0xb8),      // ISO_Level3_Shift
    (0xfe20, 0x0f),      // ISO_Left_Tab
    (0xff08, 0x0e),      // BackSpace
    (0xff09, 0x0f),      // Tab
    (0xff0a, 0x1c),      // Linefeed
    (0xff0d, 0x1c),      // Return
    (0xff13, 0xc6),      // Pause
    (0xff14, 0x46),      // Scroll_Lock
    (0xff15, 0x54),      // Sys_Req
    (0xff1b, 0x01),      // Escape
    (0xff22, 0x7b),      // Muhenkan
    (0xff23, 0x79),      // Henkan_Mode
    (0xff27, 0x70),      // Hiragana_Katakana
    (0xff31, 0x72),      // Hangul
    (0xff34, 0x71),      // Hangul_Hanja
    (0xff50, 0xc7),      // Home
    (0xff51, 0xcb),      // Left
    (0xff52, 0xc8),      // Up
    (0xff53, 0xcd),      // Right
    (0xff54, 0xd0),      // Down
    (0xff55, 0xc9),      // Page_Up
    (0xff56, 0xd1),      // Page_Down
    (0xff57, 0xcf),      // End
    (0xff58, 0xc7),      // Begin
    (0xff61, 0x54),      // Print
    (0xff63, 0xd2),      // Insert
    (0xff67, 0xdd),      // Menu
    (0xff6b, 0xc6),      // Break
    (0xff7e, 0xb8),      // Mode_switch
    (0xff7f, 0x45),      // Num_Lock
    (0xff80, 0x39),      // KP_Space
    (0xff89, 0x0f),      // KP_Tab
    (0xff8d, 0x9c),      // KP_Enter
    (0xff95, 0x47),      // KP_Home
    (0xff96, 0x4b),      // KP_Left
    (0xff97, 0x48),      // KP_Up
    (0xff98, 0x4d),      // KP_Right
    (0xff99, 0x50),      // KP_Down
    (0xff9a, 0x49),      // KP_Page_Up
    (0xff9b, 0x51),      // KP_Page_Down
    (0xff9c, 0x4f),      // KP_End
    (0xff9d, 0x4c),      // KP_Begin
    (0xff9e, 0x52),      // KP_Insert
    (0xff9f, 0x53),      // KP_Delete
    (0xffaa, 0x37),      // KP_Multiply
    (0xffab, 0x4e),      // KP_Add
    (0xffac, 0x7e),      // KP_Separator
    (0xffad, 0x4a),      // KP_Subtract
    (0xffae, 0x53),      // KP_Decimal
    (0xffaf, 0xb5),      // KP_Divide
    (0xffb0, 0x52),      // KP_0
    (0xffb1, 0x4f),      // KP_1
    (0xffb2, 0x50),      // KP_2
    (0xffb3, 0x51),      // KP_3
    (0xffb4, 0x4b),      // KP_4
    (0xffb5, 0x4c),      // KP_5
    (0xffb6, 0x4d),      // KP_6
    (0xffb7, 0x47),      // KP_7
    (0xffb8, 0x48),      // KP_8
    (0xffb9, 0x49),      // KP_9
    (0xffbd, 0x59),      // KP_Equal
    (0xffbe, 0x3b),      // F1
    (0xffbf, 0x3c),      // F2
    (0xffc0, 0x3d),      // F3
    (0xffc1, 0x3e),      // F4
    (0xffc2, 0x3f),      // F5
    (0xffc3, 0x40),      // F6
    (0xffc4, 0x41),      // F7
    (0xffc5, 0x42),      // F8
    (0xffc6, 0x43),      // F9
    (0xffc7, 0x44),      // F10
    (0xffc8, 0x57),      // F11
    (0xffc9, 0x58),      // F12
    (0xffca, 0x5d),      // F13
    (0xffcb, 0x5e),      // F14
    (0xffcc, 0x5f),      // F15
    (0xffcd, 0x55),      // F16
    (0xffce, 0x83),      // F17
    (0xffcf, 0xf7),      // F18
    (0xffd0, 0x84),      // F19
    (0xffd1, 0x5a),      // F20
    (0xffd2, 0x74),      // F21
    (0xffd3, 0xf9),      // F22
    (0xffd4, 0x6d),      // F23
    (0xffd5, 0x6f),      // F24
    (0xffe1, 0x2a),      // Shift_L
    (0xffe2, 0x36),      // Shift_R
    (0xffe3, 0x1d),      // Control_L
    (0xffe4, 0x9d),      // Control_R
    (0xffe5, 0x3a),      // Caps_Lock
    (0xffe6, 0x3a),      // Shift_Lock
    (0xffe7, 0x38),      // Meta_L: Alt
    (0xffe8, 0xb8),      // Meta_R: Alt
    (0xffe9, 0x38),      // Alt_L
    (0xffea, 0xb8),      // Alt_R
    (0xffeb, 0xdb),      // Super_L
    (0xffec, 0xdc),      // Super_R
    (0xffed, 0xdb),      // Hyper_L: Super
    (0xffee, 0xdc),      // Hyper_R: Super
    (0xffff, 0xd3),      // Delete
    (0x1008_ff11, 0xae), // XF86AudioLowerVolume
    (0x1008_ff12, 0xa0), // XF86AudioMute
    (0x1008_ff13, 0xb0), // XF86AudioRaiseVolume
    (0x1008_ff14, 0xa2), // XF86AudioPlay
    (0x1008_ff15, 0xa4), // XF86AudioStop
    (0x1008_ff16, 0x90), // XF86AudioPrev
    (0x1008_ff17, 0x99), // XF86AudioNext
    (0x1008_ff18, 0xb2), // XF86HomePage
    (0x1008_ff19, 0xec), // XF86Mail
    (0x1008_ff1b, 0xe5), // XF86Search
    (0x1008_ff1d, 0xa1), // XF86Calculator
    (0x1008_ff26, 0xea), // XF86Back
    (0x1008_ff27, 0xe9), // XF86Forward
    (0x1008_ff28, 0xe8), // XF86Stop
    (0x1008_ff29, 0xe7), // XF86Refresh
    (0x1008_ff2a, 0xde), // XF86PowerOff
    (0x1008_ff2b, 0xe3), // XF86WakeUp
    (0x1008_ff2f, 0xdf), // XF86Sleep
    (0x1008_ff30, 0xe6), // XF86Favorites
    (0x1008_ff32, 0xed), // XF86AudioMedia
    (0x1008_ff33, 0xeb), // XF86MyComputer
];

#[cfg(test)]
mod tests {
    use super::*;

    fn qnum(keysym: u32) -> Option<u32> {
        lookup(keysym).map(|k| k.qnum)
    }

    #[test]
    fn every_ascii_character_has_a_key_and_the_right_shift() {
        for c in 0x20..0x7f {
            let key = lookup(c).unwrap_or_else(|| panic!("{:?} has no key", char::from(c as u8)));
            let c = c as u8;
            if c.is_ascii_uppercase() || b"!@#$%^&*()_+{}:\"~|<>?".contains(&c) {
                assert_eq!(key.shift, Some(true), "{:?}", char::from(c));
                assert!(key.qnum < 0x80);
            } else if c != b' ' {
                assert_eq!(key.shift, Some(false), "{:?}", char::from(c));
            }
            assert_eq!(lookup(0x0100_0000 + u32::from(c)), Some(key), "the Unicode form");
        }
    }

    #[test]
    fn upper_and_lower_case_are_one_key() {
        for c in 'a'..='z' {
            assert_eq!(qnum(c.into()), qnum(c.to_ascii_uppercase().into()));
        }
    }

    #[test]
    fn known_keys_are_where_keyboards_have_them() {
        let known = [
            ('a' as u32, 0x1e),
            ('0' as u32, 0x0b),
            ('\\' as u32, 0x2b),
            ('/' as u32, 0x35),
            (0xff0d, 0x1c),
            (0xff1b, 0x01),
            (0xff53, 0xcd),
            (0xff51, 0xcb),
            (0xff8d, 0x9c),
            (0xffff, 0xd3),
            (0xffe3, 0x1d),
            (0xffe4, 0x9d),
            (0xffeb, 0xdb),
            (0xfe03, 0xb8),
            (0xffc9, 0x58),
            (0xff13, 0xc6),
            (0xff61, 0x54),
        ];
        for (keysym, expected) in known {
            assert_eq!(qnum(keysym), Some(expected), "{keysym:#x}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_unknown_keysyms_have_no_key() {
        assert!(KEYS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for unknown in [0, 0x7f, 0xe9, 0x0100_20ac, 0xff00, u32::MAX] {
            assert_eq!(lookup(unknown), None, "{unknown:#x}");
        }
    }
}
