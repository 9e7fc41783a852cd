//! Finding a QEMU that can do what Lucarne needs, and telling what is wrong with one that cannot.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest QEMU that is accepted: `org.qemu.Display1.Listener.Unix.Map` came with 9.2.
pub const OLDEST: (u32, u32) = (9, 2);

/// The program's name on every distribution that is supported.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// The processor, through Linux's KVM.
    Kvm,
    /// QEMU's translator, on any machine.
    Tcg,
}

impl Accel {
    /// The word used on command lines and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// A QEMU that has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// The program.
    pub path: PathBuf,
    /// `major.minor.micro`.
    pub version: String,
}

/// Why there is no usable QEMU.
#[derive(Debug, thiserror::Error)]
pub enum QemuMissing {
    /// Not installed.
    #[error(
        "QEMU ({PROGRAM}) was not found in {searched}; install it (`./ops/up` does, or on Debian: apt install \
         qemu-system-x86 qemu-system-modules-opengl)"
    )]
    NotFound {
        /// Where it was looked for.
        searched: String,
    },
    /// It could not be run.
    #[error("QEMU at {path} could not be run")]
    NotRunnable {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Too old.
    #[error(
        "QEMU at {path} is version {version}, and Lucarne needs {}.{} or newer (on Debian 12 take it from \
         bookworm-backports; `./ops/up` does)", OLDEST.0, OLDEST.1
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// What it says it is.
        version: String,
    },
    /// The D-Bus display is a module of its own on Debian.
    #[error(
        "QEMU at {path} has no D-Bus display; install the module (on Debian: apt install qemu-system-modules-opengl)"
    )]
    NoDbusDisplay {
        /// The program.
        path: PathBuf,
    },
}

impl Qemu {
    /// Looks for QEMU on the search path and checks that it serves.
    ///
    /// # Errors
    /// Says what is missing and how to get it.
    pub fn find() -> Result<Self, QemuMissing> {
        let searched = std::env::var("PATH").unwrap_or_default();
        let path = searched
            .split(':')
            .map(|dir| Path::new(dir).join(PROGRAM))
            .find(|p| p.is_file())
            .ok_or(QemuMissing::NotFound { searched })?;
        Self::check(&path)
    }

    /// Checks the program at `path`.
    ///
    /// # Errors
    /// As [`Qemu::find`].
    pub fn check(path: &Path) -> Result<Self, QemuMissing> {
        let run = |args: &[&str]| {
            Command::new(path)
                .args(args)
                .output()
                .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
                .map_err(|source| QemuMissing::NotRunnable { path: path.into(), source })
        };
        let version = parse_version(&run(&["--version"])?);
        let numbers: Vec<u32> = version.split('.').filter_map(|n| n.parse().ok()).collect();
        if numbers.len() < 2 || (numbers[0], numbers[1]) < OLDEST {
            return Err(QemuMissing::TooOld { path: path.into(), version });
        }
        if !run(&["-display", "help"])?.lines().any(|l| l.trim() == "dbus") {
            return Err(QemuMissing::NoDbusDisplay { path: path.into() });
        }
        Ok(Self { path: path.into(), version })
    }
}

/// The number in `QEMU emulator version 10.0.2 (Debian …)`; empty when there is none.
fn parse_version(text: &str) -> String {
    let Some(rest) = text.split("version ").nth(1) else { return String::new() };
    rest.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(version: &str, displays: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PROGRAM);
        let script = format!(
            "#!/bin/sh\ncase $1 in --version) echo 'QEMU emulator version {version} (Debian)';; *) printf '{displays}';; esac\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[test]
    fn an_old_qemu_is_refused_with_its_version() {
        let (_dir, path) = program("7.2.18", "none\\ndbus\\n");
        let error = Qemu::check(&path).unwrap_err().to_string();
        assert!(error.contains("7.2.18") && error.contains("9.2"), "{error}");
    }

    #[test]
    fn a_qemu_without_the_dbus_display_is_refused_with_the_package_to_install() {
        let (_dir, path) = program("10.0.2", "none\\ncurses\\n");
        let error = Qemu::check(&path).unwrap_err().to_string();
        assert!(error.contains("qemu-system-modules-opengl"), "{error}");
    }

    #[test]
    fn a_new_qemu_is_accepted() {
        let (_dir, path) = program("10.0.2", "none\\ndbus\\n");
        assert_eq!(Qemu::check(&path).unwrap().version, "10.0.2");
    }
}
