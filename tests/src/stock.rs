//! Other people's viewers with a window, from the distribution, on a screen of the tests' own.

use crate::poll::{LIMIT, until};
use crate::screen::Screen;
use crate::server::{Server, password_of};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A running viewer that shows the user's desktop. Dropped it is killed.
pub struct Stock {
    process: Child,
    /// Its window, for xdotool.
    pub window: String,
}

impl Stock {
    /// TigerVNC with this VeNCrypt sub-type, and further options.
    ///
    /// # Panics
    /// It is missing or shows no desktop.
    #[must_use]
    pub fn tigervnc(screen: &Screen, server: &Server, user: &str, security: &str, options: &[&str]) -> Self {
        let mut viewer = Command::new("xtigervncviewer");
        viewer.args(["-SecurityTypes", security, "-ReconnectOnError=0"]).args(options);
        viewer.arg(format!("-X509CA={}", server.cert().display()));
        viewer.arg(format!("localhost::{}", server.vnc.port()));
        viewer.env("VNC_USERNAME", user).env("VNC_PASSWORD", password_of(user));
        let mut viewer = Self::start(screen, viewer);
        viewer.window(screen, server, " - TigerVNC$");
        viewer
    }

    /// gvncviewer, of gtk-vnc, with X509Plain. It looks for the server's certificate in root's home folder, so it gets to
    /// see another one there.
    ///
    /// # Panics
    /// It is missing or shows no desktop.
    #[must_use]
    pub fn gvncviewer(screen: &Screen, server: &Server, user: &str) -> Self {
        let ca = screen.home().join(".pki/CA");
        fs::create_dir_all(&ca).expect("a folder for the certificate");
        fs::copy(server.cert(), ca.join("cacert.pem")).expect("the certificate can be copied");
        let mut viewer = Command::new("unshare");
        viewer.args(["--mount", "sh", "-c", "mount --bind \"$HOME\" ~root && exec gvncviewer \"$0\""]);
        // It adds 5900 to what follows the colon.
        viewer.arg(format!("127.0.0.1:{}", i32::from(server.vnc.port()) - 5900));
        let mut viewer = Self::start(screen, viewer);
        viewer.window(screen, server, "Authentication required");
        screen.focus(&viewer.window);
        screen.type_text(user);
        screen.key("Tab");
        screen.type_text(&password_of(user));
        // Over Cancel to OK.
        for key in ["Tab", "Tab", "Return"] {
            screen.key(key);
        }
        viewer.window(screen, server, " - GVncViewer$");
        viewer
    }

    /// Remmina, whose VNC is libvncclient's, with X509Plain.
    ///
    /// # Panics
    /// It is missing or shows no desktop.
    #[must_use]
    pub fn remmina(screen: &Screen, server: &Server, user: &str) -> Self {
        let profile = screen.home().join("lucarne.remmina");
        let lines = [
            "[remmina]",
            "name=lucarne",
            "protocol=VNC",
            &format!("server={}", server.vnc),
            &format!("username={user}"),
            &format!("cacert={}", server.cert().display()),
            "quality=9",
            "colordepth=32",
            // Else it wants a pointer that is drawn into the picture.
            "showcursor=0",
            "viewmode=1",
            "window_width=1500",
            "window_height=1100",
        ];
        fs::write(&profile, lines.join("\n")).expect("the profile can be written");
        // It keeps passwords encrypted, with a key of its own settings.
        let mut settings = Command::new("remmina");
        settings.arg("--update-profile").arg(&profile).arg("--set-option");
        settings.arg(format!("password={}", password_of(user)));
        let mut settings = Self::start(screen, settings);
        let kept = settings.process.wait().expect("it can be waited for");
        assert!(kept.success(), "remmina --update-profile: {kept}");
        let mut viewer = Command::new("remmina");
        viewer.arg("-c").arg(profile);
        let mut viewer = Self::start(screen, viewer);
        viewer.window(screen, server, "^lucarne$");
        viewer
    }

    fn start(screen: &Screen, mut viewer: Command) -> Self {
        viewer.env("HOME", screen.home()).env("DISPLAY", screen.name()).stdin(Stdio::null());
        for (variable, folder) in
            [("XDG_CONFIG_HOME", ".config"), ("XDG_DATA_HOME", ".local/share"), ("XDG_CACHE_HOME", ".cache")]
        {
            viewer.env(variable, screen.home().join(folder));
        }
        let process = viewer.process_group(0).spawn();
        let process = process.unwrap_or_else(|e| panic!("{:?}: {e}; use ops/test", viewer.get_program()));
        Self { process, window: String::new() }
    }

    /// Waits until it has a window with such a title.
    fn window(&mut self, screen: &Screen, server: &Server, title: &str) {
        let found = until(&format!("a viewer's window {title:?}"), LIMIT, || {
            let ended = self.process.try_wait().expect("a viewer can be waited for");
            assert!(ended.is_none(), "a viewer ended: {ended:?}; {}", server.logs());
            screen.xdotool(&["search", "--onlyvisible", "--name", title])
        });
        found.lines().next().unwrap_or_default().clone_into(&mut self.window);
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}
