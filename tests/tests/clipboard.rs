//! What people copy on their machine they paste in a real guest, and the other way round, in a VNC viewer and in Chromium.

#![allow(clippy::unwrap_used)]

use lucarne_tests::browser::Browser;
use lucarne_tests::guest::Guest;
use lucarne_tests::poll::{LIMIT, until, urging};
use lucarne_tests::server::{POOL, Server};
use lucarne_tests::viewer::{Vnc, keys};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::time::Instant;

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

/// The text is pasted into the editor's file `pasted`, all of it anew each time: a paste in the moment in which the guest hears
/// of a text may miss or spoil it.
fn pasted(guest: &Guest, viewer: &mut Vnc, text: &str) {
    urging("the text is pasted", LIMIT, |urge| {
        if urge {
            control(viewer, "avs");
        }
        holds(guest, "pasted", text).then_some(())
    });
}

/// What is in the guest's editor reaches the viewer.
fn copied(viewer: &mut Vnc, text: &str) {
    urging("the guest's text is copied", LIMIT, |urge| {
        if urge {
            control(viewer, "ac");
        }
        viewer.follow().unwrap();
        (viewer.clipboard() == Some(text)).then_some(())
    });
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
    pasted(&guest, &mut viewer, OURS);

    write(&guest, "theirs", THEIRS);
    guest.edit("theirs");
    copied(&mut viewer, THEIRS);

    let killed = server.process(&["lucarne", "--display-fd", connection["desktop"]["id"].as_str().unwrap()]);
    killed.kill();
    let mut viewer = until("a viewer is let in again", LIMIT, || connect().ok());
    write(&guest, "later", "after it");
    guest.edit("later");
    copied(&mut viewer, "after it");
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

/// The desktop's user connects to a pool like the first whose clipboard has this policy.
fn connect_where(server: &Server, policy: &str) -> (Value, Vnc) {
    let admin = server.admin();
    let like = admin.get(&format!("/api/v1/pools/{POOL}"));
    let pool = json!({ "name": policy, "image": like["image"], "machine": like["machine"], "clipboard": policy,
        "entitled_groups": ["everyone"] });
    let made = admin.send("POST", "/api/v1/pools", Some(&pool)).json(201);
    assert_eq!(made["clipboard"], policy);
    let connection = server.connect_to(&server.user(policy), policy);
    assert_eq!(connection["session"]["clipboard"], policy);
    let viewer = Vnc::beside(server, &connection, false).unwrap();
    (connection, viewer)
}

#[test]
fn a_pool_lets_texts_only_in_or_only_out() {
    let server = Server::start();
    let (connection, mut viewer) = connect_where(&server, "to_desktop");
    let guest = server.guest(&connection);
    write(&guest, "theirs", THEIRS);
    guest.edit("theirs");
    control(&mut viewer, "ac");
    guest.edit("pasted");
    viewer.copy(OURS).unwrap();
    pasted(&guest, &mut viewer, OURS);
    // On its way to the guest it was behind what the guest had copied before.
    viewer.follow().unwrap();
    assert_eq!(viewer.clipboard(), None);

    let (connection, mut viewer) = connect_where(&server, "from_desktop");
    let guest = server.guest(&connection);
    write(&guest, "theirs", THEIRS);
    guest.edit("theirs");
    copied(&mut viewer, THEIRS);
    viewer.copy(OURS).unwrap();
    viewer.follow().unwrap();
    guest.edit("pasted");
    pasted(&guest, &mut viewer, THEIRS);
    server.stop();
}

/// A text of exactly so many bytes: lines of many scripts, with what takes more than one code point to show.
fn long_text(bytes: usize) -> String {
    let line = "Grüße, Ελληνικά, русский, עברית, العربية, देवनागरी, ไทย, 你好, こんにちは, 한국어, \
                🦊👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇪🇺, 𝒜𝔅ℂ 𠀀𪛖, e\u{301}, \t\"'\\$`\n";
    let mut text = line.repeat(bytes / line.len());
    text.push_str(&"x".repeat(bytes - text.len()));
    text
}

/// Does something that takes a guest long, and asks what comes of it; again when nothing does, because a guest that is just
/// hearing of a text may miss it.
fn patiently<T>(what: &str, mut act: impl FnMut(), mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..4 {
        act();
        let began = Instant::now();
        while began.elapsed() < LIMIT / 4 {
            if let Some(answer) = ask() {
                return answer;
            }
        }
    }
    panic!("not within {} s: {what}", LIMIT.as_secs());
}

#[test]
fn a_megabyte_of_many_scripts_goes_both_ways_byte_for_byte_and_more_is_refused_with_a_ring() {
    const MEGABYTE: usize = 1 << 20;
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let viewer = RefCell::new(Vnc::connect(&server, "anna").unwrap());
    let follow = || viewer.borrow_mut().follow().unwrap();
    // On the wire each line ends in CR LF, and a zero ends it all.
    let lines = long_text(MEGABYTE).matches('\n').count();
    let ours = long_text(MEGABYTE - lines - 1);

    guest.put("/home/user/expected", ours.as_bytes());
    guest.edit("pasted");
    let began = Instant::now();
    viewer.borrow_mut().copy(&ours).unwrap();
    follow();
    // The editor may end the last line.
    let same = format!("head -c {} /home/user/pasted | cmp -s /home/user/expected -", ours.len());
    patiently(
        "the viewer's text is pasted",
        || control(&mut viewer.borrow_mut(), "avs"),
        || {
            follow();
            guest.shell(&same)
        },
    );
    println!("{} bytes copied by the viewer are saved in the guest in {:?}", ours.len(), began.elapsed());

    let theirs: String = ours.chars().rev().collect();
    guest.put("/home/user/theirs", theirs.as_bytes());
    guest.edit("theirs");
    let began = Instant::now();
    patiently(
        "the guest's text is copied",
        || control(&mut viewer.borrow_mut(), "ac"),
        || {
            follow();
            (viewer.borrow().clipboard() == Some(theirs.as_str())).then_some(())
        },
    );
    println!("{} bytes copied in the guest are the viewer's in {:?}", theirs.len(), began.elapsed());

    let mut viewer = viewer.into_inner();
    assert_eq!(viewer.bells(), 0);
    viewer.copy(&long_text(MEGABYTE + 1)).unwrap();
    until("the server rings", LIMIT, || {
        viewer.follow().unwrap();
        (viewer.bells() == 1).then_some(())
    });
    server.stop();
}
