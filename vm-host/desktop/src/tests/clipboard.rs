//! Text that is copied in the guest or by a viewer: who gets it, and in which words of RFB.

use super::viewing::ready;
use super::{Client, Host, within};
use crate::testing::{Canvas, eventually};
use lucarne_control::link::Purpose;
use lucarne_driver::InputEvent;
use lucarne_rfb::Rect;
use lucarne_rfb::client::{ServerEvent, write};
use lucarne_rfb::clipboard::{Clipboard, MAX_TEXT};
use lucarne_rfb::encodings as enc;
use lucarne_rfb::server::Screen;

const EXTENDED: [i32; 2] = [enc::RAW, enc::EXTENDED_CLIPBOARD];

async fn started() -> Host {
    ready(&Canvas::new(64, 64)).await
}

/// A viewer that knows the extended clipboard and wants texts unasked up to so many bytes.
async fn extended(host: &Host, unasked: u32) -> Client {
    let mut client = host.view(false).await;
    client.set_encodings(&EXTENDED).await;
    assert_eq!(heard(&mut client).await, Clipboard::Caps { text: Some(MAX_TEXT as u32) });
    say(&mut client, Clipboard::Caps { text: Some(unasked) }).await;
    settle(&mut client).await;
    client
}

async fn say(client: &mut Client, message: Clipboard) {
    client.send(|out| write::clipboard(&message, out)).await;
}

async fn heard(client: &mut Client) -> Clipboard {
    client.wait(|e| if let ServerEvent::Clipboard(c) = e { Some(c) } else { None }).await
}

/// Waits until the server has handled everything that the client said; it hears of no clipboard meanwhile.
async fn settle(client: &mut Client) {
    client.send(|out| write::fence(1 << 31, b"settled", out)).await;
    client
        .wait(|e| match e {
            ServerEvent::Fence { payload, .. } => (payload == b"settled").then_some(()),
            ServerEvent::Clipboard(_) | ServerEvent::CutText(_) => panic!("{e:?}"),
            _ => None,
        })
        .await;
}

async fn offered(host: &Host, text: &str) {
    eventually("the guest has it", || host.vm().offered().iter().any(|t| t == text)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_text_is_announced_and_provided_when_asked_for() {
    let host = started().await;
    let mut client = extended(&host, 0).await;
    assert!(host.vm().copy(Some("Grüße\n你好")));
    assert_eq!(heard(&mut client).await, Clipboard::Notify { text: true });
    say(&mut client, Clipboard::Request).await;
    assert_eq!(heard(&mut client).await, Clipboard::Provide("Grüße\n你好".into()));
    say(&mut client, Clipboard::Peek).await;
    assert_eq!(heard(&mut client).await, Clipboard::Notify { text: true });
    host.vm().copy(None);
    assert_eq!(heard(&mut client).await, Clipboard::Notify { text: false });
    say(&mut client, Clipboard::Request).await;
    assert_eq!(heard(&mut client).await, Clipboard::Notify { text: false }, "there is nothing to provide");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_text_is_provided_at_once_to_a_viewer_that_wants_that() {
    let host = started().await;
    let mut client = extended(&host, 8).await;
    // On the wire a line ends in two bytes and the text in a zero.
    host.vm().copy(Some("12345\n"));
    assert_eq!(heard(&mut client).await, Clipboard::Provide("12345\n".into()));
    host.vm().copy(Some("123456\n"));
    assert_eq!(heard(&mut client).await, Clipboard::Notify { text: true });
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_the_old_kind_gets_latin1() {
    let host = started().await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW]).await;
    host.vm().copy(Some("Grüße 你\n"));
    let text = client.wait(|e| if let ServerEvent::CutText(t) = e { Some(t) } else { None }).await;
    assert_eq!(text, "Grüße ?\n");
    client.send(|out| write::cut_text("zurück\r\n", out)).await;
    offered(&host, "zurück\n").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewers_text_reaches_the_guest_and_the_other_viewers() {
    let host = started().await;
    let mut one = extended(&host, 0).await;
    let mut other = extended(&host, 1000).await;
    say(&mut one, Clipboard::Notify { text: true }).await;
    assert_eq!(heard(&mut one).await, Clipboard::Request);
    say(&mut one, Clipboard::Provide("你好\nÄ".into())).await;
    offered(&host, "你好\nÄ").await;
    assert_eq!(heard(&mut other).await, Clipboard::Provide("你好\nÄ".into()));
    settle(&mut one).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_comes_later_hears_of_the_present_text() {
    let host = started().await;
    host.vm().copy(Some("older"));
    host.vm().copy(Some("there before"));
    let mut client = host.view(false).await;
    client.set_encodings(&EXTENDED).await;
    assert!(matches!(heard(&mut client).await, Clipboard::Caps { .. }));
    assert_eq!(heard(&mut client).await, Clipboard::Notify { text: true });
    say(&mut client, Clipboard::Request).await;
    assert_eq!(heard(&mut client).await, Clipboard::Provide("there before".into()));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_may_only_look_neither_hears_nor_copies() {
    let host = started().await;
    let mut watcher = host.view(true).await;
    watcher.set_encodings(&EXTENDED).await;
    host.vm().copy(Some("a password"));
    say(&mut watcher, Clipboard::Request).await;
    say(&mut watcher, Clipboard::Provide("from the watcher".into())).await;
    watcher.send(|out| write::cut_text("from the watcher", out)).await;
    settle(&mut watcher).await;
    assert_eq!(host.vm().offered(), Vec::<String>::new());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_with_control_types_and_takes_no_part_in_the_clipboard() {
    let host = started().await;
    let mut shadow = host.view_as(Purpose::View { view_only: false, shadow: true }).await;
    shadow.set_encodings(&[&EXTENDED[..], &[enc::EXTENDED_DESKTOP_SIZE]].concat()).await;
    host.vm().copy(Some("a password"));
    say(&mut shadow, Clipboard::Request).await;
    say(&mut shadow, Clipboard::Provide("from the shadow".into())).await;
    let screen = Screen { id: 0, rect: Rect::new(0, 0, 800, 600), flags: 0 };
    shadow.send(|out| write::set_desktop_size(800, 600, &[screen], out)).await;
    shadow.key(true, 0x1e).await;
    settle(&mut shadow).await;
    assert_eq!(host.vm().offered(), Vec::<String>::new());
    assert!(!host.vm().log().iter().any(|l| l.starts_with("arrange")));
    drop(shadow);
    host.agent().await.wait(|s| s.viewers == 0).await;
    let seen = host.vm().inputs();
    assert_eq!(seen, [true, false].map(|down| InputEvent::Key { qnum: 0x1e, down }), "and it lets go");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_before_the_identity_waits_for_it() {
    let host = Host::start();
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let mut client = extended(&host, 0).await;
    say(&mut client, Clipboard::Provide("early".into())).await;
    settle(&mut client).await;
    assert!(!host.vm().copy(Some("a twin's")), "a guest without an identity is not listened to");
    assert_eq!(host.vm().offered(), Vec::<String>::new());
    host.vm().answer_identity(Ok(()));
    offered(&host, "early").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_too_long_is_dropped_and_the_viewer_stays() {
    let host = started().await;
    let mut client = extended(&host, 0).await;
    say(&mut client, Clipboard::Provide("x".repeat(MAX_TEXT + 1))).await;
    // As UTF-8 it is twice as long as on the wire.
    client.send(|out| write::cut_text(&"ü".repeat(MAX_TEXT - 1), out)).await;
    say(&mut client, Clipboard::Provide("short".into())).await;
    offered(&host, "short").await;
    assert_eq!(host.vm().offered(), ["short"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_asks_on_and_reads_nothing_holds_up_nobody() {
    let host = started().await;
    let mut greedy = extended(&host, 0).await;
    host.vm().copy(Some(&"long text ".repeat(50_000)));
    for _ in 0..200 {
        say(&mut greedy, Clipboard::Request).await;
    }
    let mut other = extended_later(&host).await;
    host.vm().copy(Some("for all"));
    loop {
        if within(heard(&mut other)).await == Clipboard::Provide("for all".into()) {
            break;
        }
    }
    host.stop().await;
}

/// As [`extended`] while there is text already.
async fn extended_later(host: &Host) -> Client {
    let mut client = host.view(false).await;
    client.set_encodings(&EXTENDED).await;
    assert!(matches!(heard(&mut client).await, Clipboard::Caps { .. }));
    assert_eq!(heard(&mut client).await, Clipboard::Notify { text: true });
    say(&mut client, Clipboard::Caps { text: Some(1000) }).await;
    client.send(|out| write::fence(1 << 31, b"known", out)).await;
    client
        .wait(|e| matches!(e, ServerEvent::Fence { payload, .. } if payload == b"known").then_some(()))
        .await;
    client
}
