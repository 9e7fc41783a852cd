//! A viewer asks for two displays, and the guest's own desktop has them.

#![allow(clippy::unwrap_used)]

use lucarne_rfb::Rect;
use lucarne_rfb::client::write;
use lucarne_rfb::server::Screen;
use lucarne_tests::guest::Guest;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::screen::Screen as Monitors;
use lucarne_tests::server::Server;
use lucarne_tests::stock::Stock;
use lucarne_tests::viewer::Vnc;

/// SetDesktopSize is passed on to the guest (rfbproto, "ExtendedDesktopSize Pseudo-encoding").
const FORWARDED: u16 = 4;

/// As the guest's user at its screen.
fn user(command: &str) -> String {
    format!("runuser -u user -- env DISPLAY=:0 {command}")
}

fn screen(id: u32, x: u16, y: u16, width: u16, height: u16) -> Screen {
    Screen { id, rect: Rect::new(x, y, width, height), flags: 0 }
}

fn ask(viewer: &mut Vnc, (width, height): (u16, u16), screens: &[Screen]) {
    assert_eq!(viewer.ask_for_size(width, height, screens).unwrap(), FORWARDED);
    viewer.pump("the new layout", |now, _| (now.width(), now.height()) == (width, height)).unwrap();
}

/// Waits until xrandr shows these outputs, as it writes them.
fn wait_outputs(guest: &Guest, outputs: &[&str]) {
    let count = outputs.len();
    let all: Vec<String> = outputs
        .iter()
        .map(|o| format!("grep -qE \"connected (primary )?{}\"", o.replace('+', "\\+")))
        .collect();
    let xrandr = user("xrandr --listmonitors");
    let checks: Vec<String> =
        all.iter().map(|grep| format!("{} | {grep}", user("xrandr --current"))).collect();
    guest.wait(&format!("{} && {xrandr} | grep 'Monitors: {count}'", checks.join(" && ")));
}

#[test]
fn two_displays_are_asked_for_used_rearranged_and_given_back() {
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let mut viewer = Vnc::connect(&server, "anna").unwrap();

    ask(&mut viewer, (2080, 768), &[screen(0, 0, 0, 1280, 720), screen(1, 1280, 0, 800, 768)]);
    wait_outputs(&guest, &["1280x720+0+0", "800x768+1280+0"]);

    // The pointer goes to the pixel that it is sent to, on either.
    for (x, y) in [(1900, 700), (5, 6), (1281, 0), (2079, 767)] {
        let mut out = Vec::new();
        write::pointer_event(0, x, y, &mut out);
        viewer.send_raw(&out).unwrap();
        guest.wait(&format!("{} | grep 'x:{x} y:{y} '", user("xdotool getmouselocation")));
    }

    // A window on the second display is where it is in the picture.
    guest.must(&format!(
        "{} >/dev/null 2>&1 &",
        user("setsid xfce4-terminal --geometry=40x10+1500+200 --title=second --color-bg=#c02040")
    ));
    guest.wait(&user("xdotool search --onlyvisible --name '^second$'"));
    let wait_window = |viewer: &mut Vnc| {
        until("the window on the second display", LIMIT, || {
            let picture = viewer.newest().unwrap();
            let red = (1280..2080).filter(|x| picture.pixel(*x, 300) == Some(0x00c0_2040)).count();
            (red > 100).then_some(())
        });
    };
    wait_window(&mut viewer);

    // A process that takes over knows what the guest has.
    let id = connection["desktop"]["id"].as_str().unwrap();
    let killed = server.process(&["lucarne", "--display-fd", id]);
    killed.kill();
    let mut viewer = until("a viewer is let in", LIMIT, || Vnc::connect(&server, "anna").ok());
    viewer.pump("both displays", |now, _| (now.width(), now.height()) == (2080, 768)).unwrap();
    wait_window(&mut viewer);
    assert_ne!(server.process(&["lucarne", "--display-fd", id]).pid, killed.pid);

    // One above the other.
    ask(&mut viewer, (1280, 1400), &[screen(0, 0, 600, 1280, 800), screen(1, 0, 0, 800, 600)]);
    wait_outputs(&guest, &["1280x800+0+600", "800x600+0+0"]);

    // As a user of the guest has it, who is told by no viewer.
    guest.must(&user("xrandr --output Virtual-1 --pos 800x0 --output Virtual-2 --pos 0x0"));
    viewer.pump("the guest's own layout", |now, _| (now.width(), now.height()) == (2080, 800)).unwrap();

    ask(&mut viewer, (1024, 768), &[screen(0, 0, 0, 1024, 768)]);
    wait_outputs(&guest, &["1024x768+0+0"]);
    server.stop();
}

#[test]
fn tigervnc_on_two_monitors_makes_the_guest_have_two_displays() {
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let monitors = Monitors::with_two_monitors();
    let options = ["-FullScreen", "-FullScreenMode=all", "-RemoteResize=1"];
    let viewer = Stock::tigervnc(&monitors, &server, "anna", "X509Plain", &options);
    wait_outputs(&guest, &["1280x800+0+0", "1024x768+1280+0"]);
    // What is clicked on the second monitor is on the second display.
    monitors.focus(&viewer.window);
    monitors.click((2000, 300));
    guest.wait(&format!("{} | grep 'x:2000 y:300 '", user("xdotool getmouselocation")));
    drop(viewer);
    server.stop();
}
