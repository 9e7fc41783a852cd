//! What people copy on their machine they paste in a real guest, and the other way round, in a VNC viewer and in Chromium.

#![allow(clippy::unwrap_used)]

use lucarne_tests::browser::Browser;
use lucarne_tests::guest::Guest;
use lucarne_tests::poll::{LIMIT, until, urging};
use lucarne_tests::server::Server;
use lucarne_tests::viewer::{Vnc, keys};

/// More than one line, and more than Latin-1.
const OURS: &str = "Grüße, 你好 €\nsecond line";
const THEIRS: &str = "Άλλο, さようなら\nand back";

fn control(viewer: &mut Vnc, letters: &str) {
    for letter in letters.chars() {
        viewer.press(&[keys::CONTROL, u32::from(letter)]).unwrap();
    }
    viewer.follow().unwrap();
}

fn holds(guest: &Guest, file: &str, text: &str) -> bool {
    guest.shell(&format!("cat /home/user/{file}")).as_deref() == Some(text)
}

fn write(guest: &Guest, file: &str, text: &str) {
    guest.must(&format!("printf '%s' '{text}' > /home/user/{file}"));
}

#[test]
fn a_vnc_viewer_and_a_guest_share_what_is_copied_even_after_the_desktop_process_was_killed() {
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let connect = || Vnc::connect(&server, "anna");
    let mut viewer = connect().unwrap();

    guest.edit("pasted");
    viewer.copy(OURS).unwrap();
    // All of it anew each time: a paste in the moment in which the guest hears of the text may miss or spoil it.
    urging("the viewer's text is pasted", LIMIT, |urge| {
        if urge {
            control(&mut viewer, "avs");
        }
        holds(&guest, "pasted", OURS).then_some(())
    });

    write(&guest, "theirs", THEIRS);
    guest.edit("theirs");
    let copies = |viewer: &mut Vnc, text: &str| {
        urging("the guest's text is copied", LIMIT, |urge| {
            if urge {
                control(viewer, "ac");
            }
            viewer.follow().unwrap();
            (viewer.clipboard() == Some(text)).then_some(())
        });
    };
    copies(&mut viewer, THEIRS);

    let killed = server.process(&["lucarne", "--display-fd", connection["desktop"]["id"].as_str().unwrap()]);
    killed.kill();
    let mut viewer = until("a viewer is let in again", LIMIT, || connect().ok());
    write(&guest, "later", "after it");
    guest.edit("later");
    copies(&mut viewer, "after it");
    server.stop();
}

#[test]
fn the_browsers_panel_sends_text_into_a_guest_and_shows_what_was_copied_there() {
    let server = Server::start();
    let anna = server.user("anna");
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(profile.path());
    browser.sign_in(&server, "anna");
    browser.connect();
    let guest = server.guest(&server.connect(&anna));

    guest.edit("pasted");
    browser.copy(OURS);
    urging("the panel's text is pasted", LIMIT, |urge| {
        if urge {
            ["Control+a", "Control+v", "Control+s"].into_iter().for_each(|keys| browser.press(keys));
        }
        holds(&guest, "pasted", OURS).then_some(())
    });

    write(&guest, "theirs", THEIRS);
    guest.edit("theirs");
    urging("the panel shows what was copied", LIMIT, |urge| {
        if urge {
            ["Control+a", "Control+c"].into_iter().for_each(|keys| browser.press(keys));
        }
        (browser.clipboard() == THEIRS).then_some(())
    });
    browser.close();
    server.stop();
}
