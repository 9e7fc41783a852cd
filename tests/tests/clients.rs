//! Other people's viewers show exactly the screen of a real guest, type into it, share its clipboard, and follow its size.
//! What each of them was seen to use is in docs/clients.md.

#![allow(clippy::unwrap_used)]

use lucarne_tests::guest::Guest;
use lucarne_tests::poll::{LIMIT, until, urging};
use lucarne_tests::screen::Screen;
use lucarne_tests::server::Server;
use lucarne_tests::stock::Stock;
use lucarne_tests::viewer::Vnc;
use serde_json::Value;

/// Capitals, symbols with and without Shift.
const TYPED: &str = "From a Viewer: {1 + 2} = \"3\"; a|b";

/// More than one line, and no more than Latin-1.
const LATIN: &str = "Grüße à tous\nsecond line";

/// More than Latin-1.
const MORE: &str = "Άλλο, 你好 € 🦊\nsecond line";

/// A viewer before a guest, and our own that sees what the guest shows.
struct Trial {
    server: Server,
    connection: Value,
    guest: Guest,
    beside: Vnc,
    screen: Screen,
    viewer: Stock,
}

impl Trial {
    fn of(start: impl FnOnce(&Screen, &Server) -> Stock) -> Self {
        let server = Server::start();
        let connection = server.connect(&server.user("anna"));
        let guest = server.guest(&connection);
        let beside = Vnc::beside(&server, &connection, true).unwrap();
        let screen = Screen::start();
        let viewer = start(&screen, &server);
        Self { server, connection, guest, beside, screen, viewer }
    }

    /// Waits until the viewer shows every pixel of the guest's screen; gives the place of the first.
    fn shows(&mut self, what: &str) -> (usize, usize) {
        self.screen.hide_pointer();
        until(&format!("the viewer shows exactly {what}"), LIMIT, || {
            self.screen.find(self.beside.newest().unwrap())
        })
    }

    /// The picture, then what is typed into the guest's editor, then the picture with it.
    fn shows_and_types(&mut self) {
        let (x, y) = self.shows("the desktop");
        self.screen.focus(&self.viewer.window);
        // Where there is nothing but the background; some viewers want the pointer inside.
        self.screen.click((x + 1000, y + 50));
        self.guest.edit("typed");
        self.screen.type_text(TYPED);
        self.screen.key("ctrl+s");
        until("the text is in the guest's file", LIMIT, || self.holds("typed", TYPED).then_some(()));
        self.shows("the text");
        self.screen.click((x + 1000, y + 50));
    }

    fn holds(&self, file: &str, text: &str) -> bool {
        self.guest.shell(&format!("cat /home/user/{file}")).as_deref() == Some(text)
    }

    /// A text from the viewer's machine into the guest, and one back.
    fn copies(&self, text: &str) {
        self.guest.edit("pasted");
        self.screen.copy(text);
        urging("the viewer's text is pasted", LIMIT, |urge| {
            if urge {
                ["ctrl+a", "ctrl+v", "ctrl+s"].into_iter().for_each(|keys| self.screen.key(keys));
            }
            self.holds("pasted", text).then_some(())
        });
        let back = format!("{text}, and back");
        self.guest.must(&format!("printf '%s' '{back}' > /home/user/theirs"));
        self.guest.edit("theirs");
        urging("the guest's text is on the viewer's machine", LIMIT, |urge| {
            if urge {
                ["ctrl+a", "ctrl+c"].into_iter().for_each(|keys| self.screen.key(keys));
            }
            (self.screen.copied()? == back).then_some(())
        });
    }

    /// The guest gets another size by itself.
    fn follows(&mut self) {
        self.guest.must("runuser -u user -- env DISPLAY=:0 xrandr --output Virtual-1 --mode 1024x768");
        self.beside
            .pump("the guest's new size", |now, _| (now.width(), now.height()) == (1024, 768))
            .unwrap();
        self.shows("the desktop in its new size");
    }

    fn end(self) {
        let id = self.connection["desktop"]["id"].as_str().unwrap();
        let log = std::fs::read_to_string(self.server.desktop_dir(id).join("desktop.log")).unwrap();
        // There with RUST_LOG=lucarne_desktop=debug.
        log.lines()
            .filter(|line| line.contains("what a viewer understands"))
            .for_each(|line| println!("{line}"));
        drop(self.viewer);
        self.server.stop();
    }
}

#[test]
fn tigervnc_over_tls_with_the_servers_certificate() {
    let mut trial = Trial::of(|screen, server| {
        Stock::tigervnc(screen, server, "anna", "X509Plain", &["-RemoteResize=0"])
    });
    trial.shows_and_types();
    trial.copies(MORE);
    trial.follows();
    trial.end();
}

#[test]
fn tigervnc_over_anonymous_tls_asks_for_a_size() {
    let mut trial = Trial::of(|screen, server| {
        Stock::tigervnc(screen, server, "anna", "TLSPlain", &["-RemoteResize=1", "-DesktopSize=1104x704"])
    });
    trial.beside.pump("the viewer's size", |now, _| (now.width(), now.height()) == (1104, 704)).unwrap();
    trial.shows_and_types();
    trial.end();
}

#[test]
fn gtk_vncs_gvncviewer_over_tls_with_the_servers_certificate() {
    // It shares no clipboard.
    let mut trial = Trial::of(|screen, server| Stock::gvncviewer(screen, server, "anna"));
    trial.shows_and_types();
    trial.follows();
    trial.end();
}

#[test]
fn libvncclients_remmina_over_tls_with_the_servers_certificate() {
    let mut trial = Trial::of(|screen, server| Stock::remmina(screen, server, "anna"));
    trial.shows_and_types();
    trial.copies(LATIN);
    trial.follows();
    trial.end();
}
