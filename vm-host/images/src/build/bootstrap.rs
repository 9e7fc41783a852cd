//! Packages into a root file system, by mmdebstrap(1), with the recipe's files before and its script after them.

use super::{BuildError, report, sources::Sources, strip::ROOT_LABEL};
use crate::{
    Phase, Progress,
    command::{Cancel, Run},
    recipe::{Entry, Recipe},
    store::Staging,
};
use std::{
    fmt::Write,
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// What the builder needs inside the image for a moment: the boot loader's parts.
const OWN_BUILD_PACKAGES: [&str; 1] = ["grub-pc-bin"];

/// Where the customise script leaves the boot loader's parts, relative to the root.
pub(super) const BOOT_PARTS: &str = "lucarne-boot";

/// GRUB modules that the embedded loader contains: reading the disk, finding the root, booting Linux, and a little
/// to look around with when that fails.
const GRUB_MODULES: &str = "biosdisk part_gpt ext2 search search_label linux normal configfile echo test cat ls halt reboot serial terminal";

pub(super) fn run(
    recipe: &Recipe,
    staging: &Staging,
    sources: &Sources,
    log_dir: &Path,
    cancel: &Cancel,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), BuildError> {
    let work = staging.work();
    let io = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| BuildError::Io { what, path, source }
    };
    let overlay = work.join("overlay");
    write_overlay(&overlay, recipe)?;
    let script = work.join("customise");
    write_private(&script, &customise_script(recipe))?;
    let list = work.join("sources.list");
    write_private(&list, &sources.text())?;
    let options = work.join("apt.conf");
    write_private(&options, &apt_options(sources))?;

    fs::create_dir_all(log_dir).map_err(io("make the folder", log_dir))?;
    let log_path = log_dir.join(format!("lucarne-image-{}.log", recipe.name));
    let log = File::create(&log_path).map_err(io("make", &log_path))?;

    let packages: Vec<&str> = recipe
        .packages
        .iter()
        .chain(&recipe.build_packages)
        .map(String::as_str)
        .chain(OWN_BUILD_PACKAGES)
        .collect();
    let mut command = std::process::Command::new("setpriv");
    // Namespaces of its own for processes and mounts: when this process dies, or cancels, unshare dies, with it the
    // namespace's first process, and then all that mmdebstrap started and mounted. A signal to mmdebstrap alone would
    // not do, it waits for its children.
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", propagation()]);
    command.args(["--pid", "--fork", "--kill-child", "mmdebstrap"]);
    // The hooks below are given to a shell by mmdebstrap, which sets $1; paths come by the environment, unparsed.
    command.env("LUCARNE_OVERLAY", &overlay).env("LUCARNE_SCRIPT", &script);
    let mut run = Run::wrapped(command, "mmdebstrap", "mmdebstrap", cancel)
        .args(["--mode=root", "--variant=minbase", "--format=directory", "--verbose"])
        .arg(format!("--include={}", packages.join(",")))
        .arg(prefixed("--aptopt=", &options))
        .args(["--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold"]);
    for path in &recipe.exclude_paths {
        run = run.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    for path in &recipe.include_paths {
        run = run.arg(format!("--dpkgopt=path-include={path}"));
    }
    let run = run
        .arg(r#"--essential-hook=cp -a "$LUCARNE_OVERLAY/." "$1/""#)
        .arg(r#"--customize-hook=chroot "$1" /bin/sh -eu < "$LUCARNE_SCRIPT""#)
        .arg(&recipe.suite)
        .arg(work.join("root"))
        .arg(&list)
        .log(log_path.clone(), log);

    report(progress, Phase::Packages, 2, "reading package lists".into());
    let mut meter = Meter::default();
    run.run_with(&mut |line| {
        if let Some((phase, percent, message)) = meter.line(line) {
            report(progress, phase, percent, message);
        }
    })?;
    // Only a failure is worth keeping.
    fs::remove_file(&log_path).map_err(io("remove", &log_path))
}

/// In a chroot that is no mount point the propagation of `/` cannot be changed; what is left over after a kill is then
/// unmounted when the store is next opened.
fn propagation() -> &'static str {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")) { "private" } else { "unchanged" }
}

fn prefixed(option: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(option);
    text.push(path);
    text
}

fn apt_options(sources: &Sources) -> String {
    let mut text = sources.apt_options.join("\n");
    // netrc files, where apt keeps passwords, are the machine's and are read, not copied.
    text.push_str(
        "\nAPT::Install-Recommends \"false\";\nDir::Etc::netrc \"/etc/apt/auth.conf\";\n\
         Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\nAcquire::Languages \"none\";\n",
    );
    text
}

fn write_private(path: &Path, text: &str) -> Result<(), BuildError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| BuildError::Io { what: "write", path: path.into(), source })
}

/// Lays the recipe's files out as they will stand in the image; the umask plays no part.
fn write_overlay(overlay: &Path, recipe: &Recipe) -> Result<(), BuildError> {
    let io = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| BuildError::Io { what, path, source }
    };
    make_folders(overlay, Path::new(""))?;
    for (at, entry) in &recipe.files {
        make_folders(overlay, at.parent().unwrap_or(Path::new("")))?;
        let path = overlay.join(at);
        match entry {
            Entry::Link { target } => symlink(target, &path).map_err(io("link", &path))?,
            Entry::File { content, mode } => {
                fs::write(&path, content).map_err(io("write", &path))?;
                fs::set_permissions(&path, Permissions::from_mode(*mode))
                    .map_err(io("set the mode of", &path))?;
            }
        }
    }
    Ok(())
}

fn make_folders(overlay: &Path, at: &Path) -> Result<(), BuildError> {
    let mut path = PathBuf::from(overlay);
    for part in std::iter::once(Path::new("")).chain(at.iter().map(Path::new)) {
        path.push(part);
        match fs::create_dir(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(BuildError::Io { what: "make the folder", path, source });
            }
            _ => {}
        }
        fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(|source| BuildError::Io {
            what: "set the mode of",
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// What runs inside the image once its packages are there. Every word from the recipe was checked when it was read,
/// or is quoted here.
fn customise_script(recipe: &Recipe) -> String {
    let mut text =
        String::from("export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive\nusermod --lock root\n");
    let mut line = |args: std::fmt::Arguments| {
        // Writing to a String cannot fail.
        let _ = text.write_fmt(format_args!("{args}\n"));
    };
    if let Some(user) = &recipe.user {
        line(format_args!(
            "useradd --create-home --shell /bin/bash --comment {} {}",
            quoted(&user.full_name),
            user.name
        ));
        line(format_args!("usermod --lock {}", user.name));
        for group in &user.groups {
            line(format_args!("usermod --append --groups {group} {}", user.name));
        }
    }
    if !recipe.mask.is_empty() {
        let units: Vec<_> = recipe.mask.iter().map(|unit| quoted(unit)).collect();
        line(format_args!("systemctl mask --quiet {}", units.join(" ")));
    }
    if !recipe.enable.is_empty() {
        let units: Vec<_> = recipe.enable.iter().map(|unit| quoted(unit)).collect();
        line(format_args!("systemctl enable --quiet {}", units.join(" ")));
    }
    // A subshell, so that what it sets ends with it; the colon, because an empty one is a syntax error.
    line(format_args!("(\n:\n{}\n)", recipe.customise));
    // The loader first finds the root by its label, so it works whichever disk the firmware calls the first.
    line(format_args!("mkdir --mode=700 /{BOOT_PARTS}"));
    line(format_args!(
        "printf '%s\\n' 'search --no-floppy --label --set=root {ROOT_LABEL}' 'set prefix=($root)/boot/grub' > /{BOOT_PARTS}/early.cfg"
    ));
    line(format_args!(
        "grub-mkimage --format=i386-pc --output=/{BOOT_PARTS}/core.img --prefix='(hd0,gpt2)/boot/grub' --config=/{BOOT_PARTS}/early.cfg {GRUB_MODULES}"
    ));
    line(format_args!("cp /usr/lib/grub/i386-pc/boot.img /{BOOT_PARTS}/boot.img"));
    let build_only: Vec<&str> =
        recipe.build_packages.iter().map(String::as_str).chain(OWN_BUILD_PACKAGES).collect();
    line(format_args!("apt-get purge --quiet --yes --auto-remove {}", build_only.join(" ")));
    text
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Turns mmdebstrap's and dpkg's output into a share of the work: 3 to 70 percent of the build.
#[derive(Default)]
struct Meter {
    packages: u32,
    seen: u32,
    percent: u8,
}

impl Meter {
    fn line(&mut self, line: &str) -> Option<(Phase, u8, String)> {
        let (percent, message) = if line.starts_with("I: running apt-get update") {
            (3, "reading package lists".to_owned())
        } else if line.starts_with("I: downloading packages") {
            (6, "downloading the base system".to_owned())
        } else if line.starts_with("I: installing essential packages") {
            (9, "installing the base system".to_owned())
        } else if line.starts_with("I: installing remaining packages") {
            (14, "downloading packages".to_owned())
        } else if line.contains(" newly installed, ") {
            let count = line.split(", ").find_map(|part| part.trim().strip_suffix(" newly installed"));
            // The base system is announced too, with fewer packages than the rest; the last announcement counts.
            self.packages = count.and_then(|count| count.parse().ok()).unwrap_or(0);
            self.seen = 0;
            return None;
        } else if line.starts_with("I: running --customize-hook") {
            (67, "configuring".to_owned())
        } else if let Some(rest) =
            line.strip_prefix("Unpacking ").or_else(|| line.strip_prefix("Setting up "))
        {
            self.seen += 1;
            // Each package is unpacked once and set up once.
            let share = (50 * self.seen).checked_div(2 * self.packages).unwrap_or(0).min(50);
            let name = rest.split([' ', ':']).next().unwrap_or_default();
            let verb = if line.starts_with('U') { "unpacking" } else { "setting up" };
            (if self.percent < 14 { 9 } else { 16 + share as u8 }, format!("{verb} {name}"))
        } else {
            return None;
        };
        self.percent = self.percent.max(percent);
        let phase = if self.percent >= 67 { Phase::Configure } else { Phase::Packages };
        Some((phase, self.percent, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(extra: &str) -> Recipe {
        let text = format!(
            "name = \"x\"\nsuite = \"bookworm\"\ndisk_size = \"2 GiB\"\npackages = [\"systemd\"]\n{extra}"
        );
        Recipe::parse(Path::new("/nowhere/x.toml"), &text).unwrap()
    }

    #[test]
    fn progress_rises_from_line_to_line_and_names_the_package() {
        let mut meter = Meter::default();
        let mut last = 0;
        let mut feed = |line: &str| {
            let (_, percent, message) = meter.line(line)?;
            assert!(percent >= last, "{line}: {percent} after {last}");
            last = percent;
            Some((percent, message))
        };
        feed("I: running apt-get update...");
        feed("Unpacking dash (0.5) ...");
        feed("I: installing remaining packages inside the chroot...");
        feed("0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.");
        assert_eq!(feed("Unpacking libx11-6:amd64 (2:1.8) ..."), Some((28, "unpacking libx11-6".into())));
        feed("Unpacking xorg (1) ...");
        feed("Setting up libx11-6:amd64 (2:1.8) ...");
        assert_eq!(feed("Setting up xorg (1) ..."), Some((66, "setting up xorg".into())));
        assert_eq!(feed("I: running --customize-hook in shell"), Some((67, "configuring".into())));
        assert_eq!(feed("Processing triggers for libc-bin"), None);
    }

    #[test]
    fn the_script_quotes_what_people_wrote() {
        let script = customise_script(&recipe("[user]\nname = \"ann\"\nfull_name = \"Ann O'Hara; reboot\""));
        assert!(script.contains(r"--comment 'Ann O'\''Hara; reboot' ann"), "{script}");
        let checked = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(checked.success());
    }

    #[test]
    fn the_overlay_has_the_recipes_modes_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let files = "[[file]]\npath = \"/etc/a/b\"\ncontent = \"x\"\nmode = \"0640\"";
        write_overlay(&folder.path().join("o"), &recipe(files)).unwrap();
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("o"), mode("o/etc/a"), mode("o/etc/a/b")), (0o755, 0o755, 0o640));
    }
}
