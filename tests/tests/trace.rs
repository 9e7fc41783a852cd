//! What a key costs is told stage by stage, of a real guest.

#![allow(clippy::unwrap_used)]

use lucarne_control::trace::{InputKind, Stage, Trace};
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::{Server, lucarne};
use lucarne_tests::viewer::{Vnc, keys};

fn printed(words: &[&str]) -> String {
    let output = lucarne(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_key_that_is_typed_into_a_guest_is_traced_from_the_viewer_to_its_present() {
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let session = connection["session"]["id"].as_str().unwrap();
    let mut viewer = Vnc::connect(&server, "anna").unwrap();
    viewer.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).unwrap();
    guest.wait_terminal();
    let told = until("each key's present is known", LIMIT, || {
        viewer.type_text("k").unwrap();
        viewer.pump("the key is drawn", |_, updates| updates > 0).unwrap();
        let json = printed(&["session", "trace", session, "--last", "256", "--output", "json"]);
        let told: Trace = serde_json::from_str(&json).unwrap();
        let keys = |stage| told.viewers[0].stages.iter().any(|s| s.stage == stage && s.count >= 3);
        keys(Stage::InputToPresent).then_some(told)
    });
    let seen = &told.viewers[0];
    assert_eq!(seen.session.map(|id| id.to_string()).as_deref(), Some(session));
    assert_eq!(seen.stages.iter().map(|s| s.stage).collect::<Vec<_>>(), Stage::ALL, "a stage is missing");
    assert!(seen.link.answers && seen.link.window >= 16 << 10, "{:?}", seen.link);
    let key = seen.recent.iter().rfind(|u| u.input == Some(InputKind::Key) && u.present_ms.is_some());
    let key = key.unwrap();
    let times =
        [key.input_ms, key.guest_ms, key.compare_ms, key.wait_ms, Some(key.encode_ms), Some(key.send_ms)];
    let sum: f64 = times.into_iter().chain([key.present_ms]).map(Option::unwrap).sum();
    assert!((sum - key.total_ms).abs() < 0.1 && key.guest_ms.unwrap() > 0.0, "{key:?}");
    assert_eq!(told.connections.len(), 1, "one viewer is connected");
    assert!(told.connections[0].peer.starts_with("127.0.0.1:"), "{:?}", told.connections);
    let table = printed(&["session", "trace", session]);
    for title in Stage::ALL.map(Stage::title) {
        assert!(table.lines().any(|line| line.starts_with(title)), "no {title:?} in {table}");
    }
    assert!(table.contains("TCP to 127.0.0.1:"), "{table}");
    eprintln!("{table}");
    drop(viewer);
    server.stop();
}
