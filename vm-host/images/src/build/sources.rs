//! Where Debian's packages come from: the mirror that this machine already uses, else the project's own.
//!
//! Addresses may carry a mirror's credentials. They go to mmdebstrap in a file that only root reads, never to a
//! command line or a log, and not into the image.

use super::BuildError;
use crate::command::{Cancel, Run};
use std::{collections::BTreeSet, fmt, path::Path};

const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// `sources.list` lines for one suite.
pub(super) struct Sources {
    lines: Vec<String>,
    /// Settings of apt on this machine that reach the same mirrors, in apt.conf(5) syntax.
    pub(super) apt_options: Vec<String>,
}

impl Sources {
    /// The lines, to be written where only root reads.
    pub(super) fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources({} lines)", self.lines.len())
    }
}

/// An archive that apt on this machine knows.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Archive {
    uri: String,
    security: bool,
    keyring: Option<String>,
}

/// Finds the sources for a suite.
pub(super) fn find(suite: &str, cancel: &Cancel) -> Result<Sources, BuildError> {
    let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)";
    let mut known = Vec::new();
    // No apt, or none that answers: a machine that is not Debian's; the public mirror will do.
    let _ = Run::new("apt-get", "apt", cancel)
        .args(["indextargets", "--no-release-info", "--format", format, "Created-By: Packages"])
        .run_raw(&mut |line| known.push(line.to_owned()));
    let archives: BTreeSet<Archive> = known.iter().filter_map(|line| archive(line)).collect();

    let mut settings = Vec::new();
    let _ =
        Run::new("apt-config", "apt", cancel).arg("dump").run_raw(&mut |line| settings.push(line.to_owned()));
    let apt_options = settings.into_iter().filter(|line| is_for_fetching(line)).collect();

    let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists());
    let lines = lines(suite, &archives, keyring).ok_or(BuildError::NoKeyring)?;
    Ok(Sources { lines, apt_options })
}

/// One line of `apt-get indextargets`, when it is of Debian's own archive.
fn archive(line: &str) -> Option<Archive> {
    let mut fields = line.split('|');
    let (uri, release, component) = (fields.next()?, fields.next()?, fields.next()?);
    // apt leaves a field that a source has not as it was written, `$(SIGNED_BY)`.
    let keyring = fields.next().unwrap_or_default();
    if component != "main" || release.contains("backports") {
        return None;
    }
    // Other vendors name their suites after Debian's, but only Debian's archives end so, on every mirror.
    let path = uri.trim_end_matches('/');
    let security = path.ends_with("/debian-security");
    if !security && !path.ends_with("/debian") {
        return None;
    }
    let keyring =
        (keyring.starts_with('/') && !keyring.contains(char::is_whitespace)).then(|| keyring.to_owned());
    Some(Archive { uri: path.to_owned(), security, keyring })
}

/// Settings without which this machine's mirror might not be reachable or be believed.
fn is_for_fetching(line: &str) -> bool {
    const WANTED: [&str; 5] = [
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
        "Acquire::Retries ",
        "Acquire::http::",
        "Acquire::https::",
    ];
    WANTED.iter().any(|name| line.starts_with(name)) && !line.ends_with(" \"\";")
}

/// The lines for a suite; nothing when there is no keyring to check them with.
fn lines(suite: &str, archives: &BTreeSet<Archive>, default_keyring: Option<&str>) -> Option<Vec<String>> {
    let pick = |security: bool| archives.iter().find(|archive| archive.security == security);
    let rolling = matches!(suite, "sid" | "unstable");
    let mut wanted = vec![(suite.to_owned(), pick(false), "http://deb.debian.org/debian")];
    if !rolling {
        wanted.push((format!("{suite}-updates"), pick(false), "http://deb.debian.org/debian"));
        wanted.push((format!("{suite}-security"), pick(true), "http://deb.debian.org/debian-security"));
    }
    wanted
        .into_iter()
        .map(|(suite, archive, public)| {
            let uri = archive.map_or(public, |archive| archive.uri.as_str());
            let keyring = archive.and_then(|archive| archive.keyring.as_deref()).or(default_keyring)?;
            Some(format!("deb [signed-by={keyring}] {uri} {suite} main"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "/usr/share/keyrings/k.gpg";

    fn from(lines_of_apt: &[&str], suite: &str) -> Vec<String> {
        lines(suite, &lines_of_apt.iter().filter_map(|line| archive(line)).collect(), Some(KEY)).unwrap()
    }

    #[test]
    fn the_machines_own_mirror_serves_the_recipes_suite() {
        let got = from(
            &[
                "http://mirror.example/debian/|trixie|main|/k/debian.gpg",
                "http://mirror.example/debian/|trixie-backports|main|/k/debian.gpg",
                "http://mirror.example/debian-security/|trixie-security|main|$(SIGNED_BY)",
                "https://download.vendor.example/linux/debian/|trixie|stable|",
            ],
            "bookworm",
        );
        assert_eq!(
            got,
            [
                "deb [signed-by=/k/debian.gpg] http://mirror.example/debian bookworm main",
                "deb [signed-by=/k/debian.gpg] http://mirror.example/debian bookworm-updates main",
                "deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.example/debian-security bookworm-security main",
            ]
        );
    }

    #[test]
    fn another_distribution_gets_the_public_mirror() {
        let got = from(&["http://archive.ubuntu.example/ubuntu/|noble|main|"], "bookworm");
        assert!(got[0].contains(" http://deb.debian.org/debian bookworm main"), "{got:?}");
        assert!(got[2].contains(" http://deb.debian.org/debian-security bookworm-security main"), "{got:?}");
    }

    #[test]
    fn without_a_keyring_there_are_no_sources() {
        assert_eq!(lines("bookworm", &BTreeSet::new(), None), None);
    }

    #[test]
    fn sources_do_not_print_their_addresses() {
        let lines = vec!["deb http://me:s3cret@mirror.example/debian bookworm main".to_owned()];
        let text = format!("{:?}", Sources { lines, apt_options: Vec::new() });
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn only_settings_for_fetching_are_taken_over() {
        assert!(is_for_fetching("Acquire::http::Proxy \"http://cache.example:3142\";"));
        assert!(!is_for_fetching("Acquire::http::Proxy \"\";"));
        assert!(!is_for_fetching("APT::Install-Recommends \"true\";"));
        assert!(!is_for_fetching("DPkg::Post-Invoke:: \"rm -f x\";"));
    }
}
