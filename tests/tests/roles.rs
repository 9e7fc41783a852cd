//! Several viewers of one desktop: real Chromium and VNC viewers, real guests.

#![allow(clippy::unwrap_used)]

use lucarne_rfb::pixel::{PixelReader, PixelWriter};
use lucarne_rfb::{PixelFormat, encodings};
use lucarne_tests::browser::Browser;
use lucarne_tests::http::Client;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::{POOL, Server, password_of};
use lucarne_tests::viewer::{Vnc, keys};
use serde_json::{Value, json};

fn id(connection: &Value) -> &str {
    connection["session"]["id"].as_str().unwrap()
}

/// The viewers of a session, as the command line shows them.
fn viewers(server: &Server, session: &str) -> Vec<Value> {
    let session = server.admin().get(&format!("/api/v1/sessions/{session}"));
    session["viewers"].as_array().unwrap().clone()
}

/// A pool like the first whose sessions may be watched; its template is the first one's.
fn watched_pool(admin: &Client) -> &'static str {
    let pool = admin.get(&format!("/api/v1/pools/{POOL}"));
    let body = json!({ "name": "watched", "image": pool["image"], "machine": pool["machine"],
        "entitled_groups": ["everyone"], "shadow": "with_consent", "shadow_control": true });
    let _ = admin.send("POST", "/api/v1/pools", Some(&body)).json(201);
    "watched"
}

#[test]
fn a_desktop_that_is_opened_elsewhere_says_where_and_is_taken_back_by_one_click() {
    let server = Server::start();
    let user = server.user("anna");
    let profiles = tempfile::tempdir().unwrap();
    let mut office = Browser::start(&profiles.path().join("office"));
    office.sign_in(&server, "anna");
    office.connect();
    let session = server.connect(&user);
    assert_eq!(session["takes_over"][0]["kind"], "browser");
    let session = id(&session).to_owned();

    let mut home = Browser::start(&profiles.path().join("home"));
    home.sign_in(&server, "anna");
    home.connect();
    let ended = office.wait_state("ended");
    assert!(ended.starts_with("It was opened at ") && ended.contains("in a browser at 127.0.0.1"), "{ended}");
    office.screenshot("taken-over");
    assert!(home.words("presence-moved").contains("is here now"));
    home.screenshot("moved");
    assert_eq!(office.order(json!({ "do": "stream" }))["number"], 1, "it does not fight for the desktop");

    office.click("use-here");
    office.wait_state("connected");
    home.wait_state("ended");
    let mut vnc = Vnc::connect(&server, "anna").unwrap();
    assert!(office.words("presence-viewer").contains("in a VNC viewer at 127.0.0.1"));
    office.screenshot("joined");
    assert_eq!(viewers(&server, &session).len(), 2, "a viewer that is willing to share joins");
    office.click("presence-end");
    until("the VNC viewer is ended", LIMIT, || vnc.follow().err());
    office.wait_gone("presence-viewer");
    office.close();
    home.close();
    server.stop();
}

#[test]
fn an_administrator_watches_with_consent_and_the_user_sees_it_and_ends_it() {
    let server = Server::start();
    let pool = watched_pool(&server.admin());
    let user = server.user("anna");
    let boss = json!({ "name": "boss", "password": password_of("boss"), "role": "administrator" });
    let _ = server.admin().send("POST", "/api/v1/users", Some(&boss)).json(201);
    let connection = server.connect_to(&user, pool);
    let guest = server.guest(&connection);
    let session = id(&connection).to_owned();

    let profiles = tempfile::tempdir().unwrap();
    let mut boss = Browser::start(&profiles.path().join("boss"));
    boss.sign_in(&server, "boss");
    boss.open(&server, &session, "shadow");
    let nobody = boss.wait_state("ended");
    assert!(nobody.contains("no browser open"), "{nobody}");

    let mut anna = Browser::start(&profiles.path().join("anna"));
    anna.sign_in(&server, "anna");
    anna.open(&server, &session, "");
    anna.wait_state("connected");
    boss.click("use-here");
    assert!(anna.words("consent").contains("boss asks to see your desktop"));
    anna.screenshot("consent");
    anna.click("consent-deny");
    assert!(boss.wait_state("ended").contains("did not allow it"));
    anna.wait_gone("consent");

    boss.open(&server, &session, "control");
    assert!(anna.words("consent").contains("keyboard and mouse"));
    anna.click("consent-allow");
    boss.wait_state("connected");
    assert!(anna.words("presence-shadow").contains("boss watches this desktop and may type"));
    assert!(boss.words("presence-own").contains("anna"));
    // Opened and typed by the administrator, for the user; a key that is held when it ends comes up.
    boss.press("Control+Alt+t");
    guest.wait_terminal();
    boss.type_text("touch /home/user/from-boss\n");
    guest.wait("test -e /home/user/from-boss");
    until("both see the same", LIMIT, || (anna.pixels() == boss.pixels()).then_some(()));
    anna.screenshot("shadowed");
    boss.screenshot("shadow");
    boss.order(json!({ "do": "hold", "key": "Shift" }));
    anna.click("presence-end");
    assert!(boss.wait_state("ended").contains("nna ended this viewer"));
    anna.wait_gone("presence-shadow");
    anna.type_text("touch /home/user/from-anna\n");
    guest.wait("test -e /home/user/from-anna");
    assert_eq!(viewers(&server, &session).len(), 1);

    let log = server.admin().get("/api/v1/audit?limit=500");
    let log = log["items"].as_array().unwrap().iter();
    let steps: Vec<_> = log.filter_map(|e| e["action"].as_str()?.strip_prefix("shadow.")).collect();
    assert_eq!(steps, ["asked", "denied", "asked", "denied", "asked", "allowed", "began", "ended"]);
    anna.close();
    boss.close();
    server.stop();
}

#[test]
fn viewers_with_encodings_of_their_own_see_the_same_and_who_only_looks_types_nothing() {
    let server = Server::start();
    let user = server.user("anna");
    let connection = server.connect(&user);
    let (guest, session) = (server.guest(&connection), id(&connection).to_owned());
    let tight = [encodings::TIGHT, encodings::COPY_RECT];
    let mut full = Vnc::connect_with(&server, "anna", PixelFormat::BGRX, &tight).unwrap();
    let mut small = Vnc::connect_with(&server, "anna", PixelFormat::BGR233, &[]).unwrap();
    let profiles = tempfile::tempdir().unwrap();
    let mut looking = Browser::start(&profiles.path().join("looking"));
    looking.sign_in(&server, "anna");
    looking.open(&server, &session, "view");
    looking.wait_state("connected");
    assert_eq!(looking.words("presence-own"), "View only");
    looking.screenshot("view-only");
    let roles: Vec<_> = viewers(&server, &session).into_iter().map(|v| v["role"].clone()).collect();
    assert_eq!(roles, ["owner", "owner", "view_only"]);

    full.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).unwrap();
    guest.wait_terminal();
    looking.type_text("touch /home/user/from-who-looks\n");
    small.type_text("touch /home/user/from-small\n").unwrap();
    guest.wait("test -e /home/user/from-small");
    assert_eq!(guest.shell("ls /home/user/from-who-looks"), None);

    let (writer, reader) = (PixelWriter::new(PixelFormat::BGR233), PixelReader::new(PixelFormat::BGR233));
    until("both have the same picture", LIMIT, || {
        full.follow_and_ask().unwrap();
        small.follow_and_ask().unwrap();
        let coarse = full.picture().pixels().iter().map(|p| reader.rgb(writer.value(*p)));
        coarse.eq(small.picture().pixels().iter().copied()).then_some(())
    });
    let colours: std::collections::HashSet<u32> = full.picture().pixels().iter().copied().collect();
    assert!(colours.len() > 16, "there is something to see: {} colours", colours.len());
    looking.close();
    server.stop();
}
