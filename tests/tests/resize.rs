//! A viewer asks for a size, and the guest's own desktop gets it.

#![allow(clippy::unwrap_used)]

use lucarne_rfb::Rect;
use lucarne_rfb::client::write;
use lucarne_rfb::server::Screen;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::Server;
use lucarne_tests::viewer::Vnc;
use std::time::Instant;

/// Results of SetDesktopSize (rfbproto, "ExtendedDesktopSize Pseudo-encoding").
const INVALID_LAYOUT: u16 = 3;
const FORWARDED: u16 = 4;

fn screen(id: u32, x: u16, width: u16, height: u16) -> Screen {
    Screen { id, rect: Rect::new(x, 0, width, height), flags: 0 }
}

#[test]
fn a_wanted_size_is_the_guests_own_mode_and_a_bad_one_is_refused() {
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let mut viewer = Vnc::connect(&server, "anna").unwrap();

    // More than once: a mode that the guest has made is found again.
    for (width, height) in [(1024, 768), (1600, 900), (1366, 768), (1024, 768)] {
        let status = viewer.ask_for_size(width, height, &[screen(0, 0, width, height)]).unwrap();
        assert_eq!(status, FORWARDED);
        let asked = Instant::now();
        // The guest's agent makes modes whose width divides by eight.
        let width = width / 8 * 8;
        viewer.pump("the new size", |now, _| (now.width(), now.height()) == (width, height)).unwrap();
        let shown = Instant::now();
        let mode = format!("current {width} x {height},");
        guest.wait(&format!("runuser -u user -- env DISPLAY=:0 xrandr | grep '{mode}'"));
        println!(
            "{width}x{height}: in the picture {} ms after the answer, xrandr says so {} ms later",
            (shown - asked).as_millis(),
            shown.elapsed().as_millis()
        );
    }

    let two = [screen(0, 0, 640, 768), screen(1, 600, 680, 768)];
    let five = [0, 1, 2, 3, 4].map(|n| screen(n, 400 * n as u16, 400, 768));
    for (what, width, height, screens) in [
        ("no pixels", 0, 0, vec![screen(0, 0, 0, 0)]),
        ("64k by 64k", 65535, 65535, vec![screen(0, 0, 65535, 65535)]),
        ("no screen", 1280, 768, vec![]),
        ("two screens on each other", 1280, 768, two.to_vec()),
        ("more screens than the guest can have", 2000, 768, five.to_vec()),
        ("a screen beside the desktop", 1280, 768, vec![screen(0, 1, 1280, 768)]),
    ] {
        assert_eq!(viewer.ask_for_size(width, height, &screens).unwrap(), INVALID_LAYOUT, "{what}");
    }
    assert_eq!((viewer.picture().width(), viewer.picture().height()), (1024, 768));
    server.stop();
}

#[test]
fn the_lights_of_the_lock_keys_are_the_guests_for_whoever_looks() {
    // Keysym and XT scancode.
    const CAPS_LOCK: (u32, u32) = (0xffe5, 0x3a);
    const NUM_LOCK: (u32, u32) = (0xff7f, 0x45);
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let mut viewer = Vnc::connect(&server, "anna").unwrap();
    let mut leds = |(keysym, place): (u32, u32), bit: u8| {
        viewer.newest().unwrap();
        let before = viewer.leds().unwrap_or(0);
        let mut out = Vec::new();
        // By its place: a viewer's own lock is in the symbols that it sends.
        for down in [true, false] {
            write::extended_key_event(down, keysym, place, &mut out);
        }
        viewer.send_raw(&out).unwrap();
        let began = Instant::now();
        while viewer.leds().unwrap_or(0) != before ^ bit {
            assert!(began.elapsed() < LIMIT, "{:?} after {before}", viewer.leds());
            viewer.newest().unwrap();
        }
        before ^ bit
    };
    leds(CAPS_LOCK, 4);
    let now = leds(NUM_LOCK, 2);
    assert_eq!(now & 4, 4, "Caps Lock is still on");
    let on = "runuser -u user -- env DISPLAY=:0 xset q | grep -o 'Caps Lock: *on'";
    guest.wait(on);
    let mut newcomer = Vnc::beside(&server, &connection, true).unwrap();
    until("the newcomer knows the lights", LIMIT, || {
        newcomer.newest().unwrap();
        (newcomer.leds() == Some(now)).then_some(())
    });
    server.stop();
}
