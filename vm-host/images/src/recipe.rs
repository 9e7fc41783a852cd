//! Recipes: the readable TOML description of a golden image, and the hash that says whether one was built before.
//!
//! Knows nothing of how an image is built; it reads files and judges them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

/// Largest file that a recipe may bring into an image, bytes. Too low and a large asset has to come as a package; too
/// high and a stray disk image in an overlay fills memory.
const LARGEST_FILE: u64 = 64 << 20;

/// Bounds of the virtual disk, bytes: below, Debian with a kernel does not fit; above, nobody means it.
const DISK_SIZES: std::ops::RangeInclusive<u64> = (2 << 30)..=(2 << 40);

/// Why a recipe was refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// A file of the recipe could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, a key is unknown or missing, or a value has the wrong type.
    #[error("{} is not a valid recipe: {message}", path.display())]
    Syntax {
        /// The recipe.
        path: PathBuf,
        /// Line, key and what is allowed, from the parser.
        message: String,
    },
    /// A value is well-formed but not allowed.
    #[error("{}: key `{key}`: {message}", path.display())]
    Value {
        /// The recipe.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong and what is allowed.
        message: String,
    },
}

/// A recipe as written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default = "date")]
    version: String,
    #[serde(default)]
    description: String,
    suite: String,
    disk_size: String,
    #[serde(default = "desktop")]
    hostname: String,
    #[serde(default)]
    guest_agent: bool,
    #[serde(default)]
    overlays: Vec<String>,
    packages: Vec<String>,
    #[serde(default)]
    build_packages: Vec<String>,
    #[serde(default)]
    exclude_paths: Vec<String>,
    #[serde(default)]
    include_paths: Vec<String>,
    #[serde(default)]
    enable: Vec<String>,
    #[serde(default)]
    mask: Vec<String>,
    #[serde(default)]
    kernel_arguments: String,
    #[serde(default)]
    customise: String,
    user: Option<User>,
    #[serde(default)]
    file: Vec<WrittenFile>,
}

fn date() -> String {
    "date".into()
}

fn desktop() -> String {
    "desktop".into()
}

/// The ordinary user of the image; no password opens the account.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Name for people.
    #[serde(default)]
    pub full_name: String,
    /// Further groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// One `[[file]]`: either `content` or `source`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    path: String,
    content: Option<String>,
    source: Option<String>,
    mode: Option<String>,
}

/// What stands at a path that the recipe brings into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it points, as seen inside the image.
        target: PathBuf,
    },
}

/// A recipe, read completely: nothing is taken from its folder after this.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The image's name.
    pub name: String,
    /// A fixed version; `None` makes it the day of the build.
    pub version: Option<String>,
    /// One line for people.
    pub description: String,
    /// Debian suite, such as `bookworm`.
    pub suite: String,
    /// Size of the disk that the guest sees, bytes.
    pub disk_size: u64,
    /// The hostname until a clone gets its own.
    pub hostname: String,
    /// The image contains `qemu-guest-agent`.
    pub guest_agent: bool,
    /// Packages to install, without recommendations.
    pub packages: Vec<String>,
    /// Packages to install while the image is made.
    pub build_packages: Vec<String>,
    /// Patterns of paths that `dpkg` does not unpack.
    pub exclude_paths: Vec<String>,
    /// Patterns taken back from `exclude_paths`.
    pub include_paths: Vec<String>,
    /// systemd units to enable.
    pub enable: Vec<String>,
    /// systemd units to mask.
    pub mask: Vec<String>,
    /// Kernel command line after `root=`.
    pub kernel_arguments: String,
    /// Shell script, run as root inside the image.
    pub customise: String,
    /// The ordinary user.
    pub user: Option<User>,
    /// Files to add, by their path relative to the image's root.
    pub files: BTreeMap<PathBuf, Entry>,
    hash: String,
}

impl Recipe {
    /// Reads a recipe and every file that it names.
    ///
    /// # Errors
    /// [`RecipeError`] names the file, the key and what is allowed.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let text =
            fs::read_to_string(path).map_err(|source| RecipeError::Read { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    /// Parses the text of a recipe; `path` is named in errors and is what overlays and sources are relative to.
    ///
    /// # Errors
    /// [`RecipeError`] names the file, the key and what is allowed.
    pub fn parse(path: &Path, text: &str) -> Result<Self, RecipeError> {
        let written: Written = toml::from_str(text).map_err(|error| RecipeError::Syntax {
            path: path.into(),
            message: error.to_string().trim().into(),
        })?;
        let bad = |key: &'static str, message: String| RecipeError::Value { path: path.into(), key, message };

        if !is_word(&written.name) {
            return Err(bad("name", want("lower-case letters, digits, `-` and `.`", &written.name)));
        }
        if !is_word(&written.version) {
            return Err(bad(
                "version",
                want("`date`, or lower-case letters, digits, `-` and `.`", &written.version),
            ));
        }
        if !is_word(&written.suite) {
            return Err(bad("suite", want("a Debian suite such as `bookworm`", &written.suite)));
        }
        if !is_word(&written.hostname) || written.hostname.len() > 63 || written.hostname.contains('.') {
            return Err(bad(
                "hostname",
                want("at most 63 lower-case letters, digits and `-`", &written.hostname),
            ));
        }
        let disk_size = parse_size(&written.disk_size)
            .ok_or_else(|| bad("disk_size", want("a number and MiB, GiB or TiB", &written.disk_size)))?;
        if !DISK_SIZES.contains(&disk_size) {
            return Err(bad("disk_size", want("from 2 GiB to 2 TiB", &written.disk_size)));
        }
        if written.packages.is_empty() {
            return Err(bad("packages", "at least a kernel and an init system are needed".into()));
        }
        for (key, list) in [("packages", &written.packages), ("build_packages", &written.build_packages)] {
            if let Some(wrong) = list.iter().find(|name| !is_package(name)) {
                return Err(bad(key, want("names of Debian packages", wrong)));
            }
        }
        for (key, list) in [("enable", &written.enable), ("mask", &written.mask)] {
            if let Some(wrong) = list.iter().find(|name| !is_unit(name)) {
                return Err(bad(key, want("names of systemd units such as `ssh.service`", wrong)));
            }
        }
        for (key, list) in
            [("exclude_paths", &written.exclude_paths), ("include_paths", &written.include_paths)]
        {
            if let Some(wrong) =
                list.iter().find(|p| !p.starts_with('/') || p.chars().any(char::is_whitespace))
            {
                return Err(bad(key, want("absolute path patterns without white space", wrong)));
            }
        }
        if written.kernel_arguments.contains(['\n', '\'', '"', '$', '\\', ';', '{', '}']) {
            return Err(bad(
                "kernel_arguments",
                "one line without quotes, `$`, `\\`, `;` and braces is allowed".into(),
            ));
        }
        if let Some(user) = &written.user {
            if !is_login(&user.name) || user.name == "root" {
                return Err(bad("user.name", want("an ordinary login name such as `user`", &user.name)));
            }
            if user.full_name.contains([':', ',', '\n']) {
                return Err(bad(
                    "user.full_name",
                    "a name without `:`, `,` and line breaks is allowed".into(),
                ));
            }
            if let Some(wrong) = user.groups.iter().find(|name| !is_login(name)) {
                return Err(bad("user.groups", want("names of groups", wrong)));
            }
        }

        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files = BTreeMap::new();
        for overlay in &written.overlays {
            let relative = inside(overlay).ok_or_else(|| {
                bad("overlays", want("a path inside the recipe's folder, without `..`", overlay))
            })?;
            read_tree(&folder.join(relative), Path::new(""), &mut files)?;
        }
        for file in &written.file {
            let at = file
                .path
                .strip_prefix('/')
                .and_then(inside)
                .ok_or_else(|| bad("file.path", want("an absolute path without `..`", &file.path)))?;
            let (content, default_mode) = match (&file.content, &file.source) {
                (Some(content), None) => (content.clone().into_bytes(), 0o644),
                (None, Some(source)) => {
                    let relative = inside(source).ok_or_else(|| {
                        bad("file.source", want("a path inside the recipe's folder, without `..`", source))
                    })?;
                    read_file(&folder.join(relative))?
                }
                _ => return Err(bad("file", format!("`{}` needs either `content` or `source`", file.path))),
            };
            let mode = match &file.mode {
                None => default_mode,
                Some(text) => u32::from_str_radix(text, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| bad("file.mode", want("an octal mode such as \"0644\"", text)))?,
            };
            files.insert(at, Entry::File { content, mode });
        }
        // On a merged-/usr system these are links, and a folder of the same name would replace them.
        if let Some(wrong) = files.keys().find(|at| {
            ["bin", "sbin", "lib", "lib32", "lib64", "libx32"].iter().any(|top| at.starts_with(top))
        }) {
            return Err(bad("overlays", format!("`/{}` must be written as `/usr/{0}`", wrong.display())));
        }

        let hash = hash(&written, &files);
        Ok(Self {
            name: written.name,
            version: (written.version != "date").then_some(written.version),
            description: written.description,
            suite: written.suite,
            disk_size,
            hostname: written.hostname,
            guest_agent: written.guest_agent,
            packages: written.packages,
            build_packages: written.build_packages,
            exclude_paths: written.exclude_paths,
            include_paths: written.include_paths,
            enable: written.enable,
            mask: written.mask,
            kernel_arguments: written.kernel_arguments,
            customise: written.customise,
            user: written.user,
            files,
            hash,
        })
    }

    /// sha256, in hexadecimal, over the recipe's meaning (not its comments or layout), the files that it brings, and
    /// the version of the builder: equal hashes make the same image, up to the day's packages.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

fn hash(written: &Written, files: &BTreeMap<PathBuf, Entry>) -> String {
    let mut sha = Sha256::new();
    let mut part = |bytes: &[u8]| {
        sha.update((bytes.len() as u64).to_le_bytes());
        sha.update(bytes);
    };
    part(crate::build::BUILDER_VERSION.as_bytes());
    part(serde_json::to_string(written).unwrap_or_default().as_bytes());
    for (path, entry) in files {
        part(path.as_os_str().as_encoded_bytes());
        match entry {
            Entry::File { content, mode } => {
                part(&mode.to_le_bytes());
                part(content);
            }
            Entry::Link { target } => {
                part(b"link");
                part(target.as_os_str().as_encoded_bytes());
            }
        }
    }
    crate::hex(&sha.finalize())
}

fn want(allowed: &str, got: &str) -> String {
    format!("{allowed} is allowed, not {got:?}")
}

pub(crate) fn is_word(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(inner)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
}

/// Debian Policy, section 5.6.1; an architecture (`:amd64`) is not accepted.
fn is_package(text: &str) -> bool {
    text.len() >= 2
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

fn is_unit(text: &str) -> bool {
    text.contains('.')
        && !text.starts_with(['-', '.'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'@' | b'\\' | b':'))
}

fn is_login(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match text[digits..].trim() {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// A relative path without `..`, or nothing.
fn inside(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then(|| path.to_path_buf())
}

fn read_file(path: &Path) -> Result<(Vec<u8>, u32), RecipeError> {
    let failed = |source| RecipeError::Read { path: path.into(), source };
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > LARGEST_FILE {
        let text = format!("not a regular file of at most {} MiB", LARGEST_FILE >> 20);
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, text)));
    }
    // A checkout keeps only the executable bit; the rest of the mode depends on the umask of whoever checked it out.
    let mode = if about.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
    Ok((fs::read(path).map_err(failed)?, mode))
}

fn read_tree(folder: &Path, at: &Path, files: &mut BTreeMap<PathBuf, Entry>) -> Result<(), RecipeError> {
    let here = folder.join(at);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| RecipeError::Read { path, source }
    };
    for entry in fs::read_dir(&here).map_err(failed(&here))? {
        let entry = entry.map_err(failed(&here))?;
        let (path, name) = (entry.path(), at.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed(&path))?;
        if kind.is_dir() {
            read_tree(folder, &name, files)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(failed(&path))?;
            files.insert(name, Entry::Link { target });
        } else {
            let (content, mode) = read_file(&path)?;
            files.insert(name, Entry::File { content, mode });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
        name = "small"
        suite = "bookworm"
        disk_size = "4 GiB"
        packages = ["linux-image-amd64"]
    "#;

    fn error(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        Recipe::parse(&folder.path().join("r.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn the_smallest_recipe_gets_its_defaults() {
        let recipe = Recipe::parse(Path::new("/r.toml"), SMALLEST).unwrap();
        assert_eq!(recipe.disk_size, 4 << 30);
        assert_eq!(recipe.version, None);
        assert_eq!(recipe.hostname, "desktop");
        assert!(recipe.user.is_none() && recipe.files.is_empty());
    }

    #[test]
    fn the_desktop_recipe_of_the_project_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/images/debian-desktop.toml");
        let recipe = Recipe::read(&path).unwrap();
        assert!(recipe.guest_agent && recipe.packages.iter().any(|p| p == "qemu-guest-agent"));
        let helper = &recipe.files[Path::new("usr/lib/lucarne/identity")];
        assert!(matches!(helper, Entry::File { mode: 0o755, .. }), "the identity helper must be executable");
    }

    #[test]
    fn an_unknown_key_is_named_with_what_is_allowed() {
        let text = error(&format!("{SMALLEST}\npackges = []"));
        assert!(text.contains("packges") && text.contains("build_packages"), "{text}");
        assert!(text.contains("r.toml"), "{text}");
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        for (from, to, key) in [
            ("4 GiB", "4 GB", "disk_size"),
            ("4 GiB", "1 GiB", "disk_size"),
            ("4 GiB", "99999999999999999999 GiB", "disk_size"),
            ("small", "Small!", "name"),
            ("bookworm", "../x", "suite"),
            ("linux-image-amd64", "--allow", "packages"),
        ] {
            let text = error(&SMALLEST.replace(from, to));
            assert!(text.contains(&format!("`{key}`")), "{to}: {text}");
        }
        let text = error(&format!("{SMALLEST}\n[user]\nname = \"root\""));
        assert!(text.contains("`user.name`"), "{text}");
    }

    #[test]
    fn a_file_needs_exactly_one_of_content_and_source() {
        for body in ["", "content = \"a\"\nsource = \"b\""] {
            let text = error(&format!("{SMALLEST}\n[[file]]\npath = \"/etc/x\"\n{body}"));
            assert!(text.contains("either `content` or `source`"), "{text}");
        }
    }

    #[test]
    fn a_path_cannot_leave_the_recipes_folder_or_the_image() {
        let source = "[[file]]\npath = \"/etc/x\"\nsource = \"../../etc/shadow\"";
        assert!(error(&format!("{SMALLEST}\n{source}")).contains("without `..`"));
        let target = "[[file]]\npath = \"/../x\"\ncontent = \"\"";
        assert!(error(&format!("{SMALLEST}\n{target}")).contains("without `..`"));
        let top = "[[file]]\npath = \"/lib/x\"\ncontent = \"\"";
        assert!(error(&format!("{SMALLEST}\n{top}")).contains("/usr/lib/x"));
    }

    #[test]
    fn the_hash_follows_meaning_and_files_but_not_comments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        fs::create_dir_all(folder.path().join("root/etc")).unwrap();
        fs::write(folder.path().join("root/etc/motd"), "hello").unwrap();
        let text = format!("overlays = [\"root\"]\n{SMALLEST}");
        let first = Recipe::parse(&path, &text).unwrap();
        let commented = Recipe::parse(&path, &format!("# why\n{text}")).unwrap();
        assert_eq!(first.hash(), commented.hash());

        fs::write(folder.path().join("root/etc/motd"), "hello!").unwrap();
        assert_ne!(Recipe::parse(&path, &text).unwrap().hash(), first.hash());
        fs::write(folder.path().join("root/etc/motd"), "hello").unwrap();
        assert_eq!(Recipe::parse(&path, &text).unwrap().hash(), first.hash());
        fs::set_permissions(folder.path().join("root/etc/motd"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(Recipe::parse(&path, &text).unwrap().hash(), first.hash());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,400}") {
            let _ = Recipe::parse(Path::new("/r.toml"), &text);
        }

        #[test]
        fn no_size_makes_the_parser_panic(size in "[0-9]{0,30} ?[A-Za-z]{0,4}") {
            let _ = Recipe::parse(Path::new("/r.toml"), &SMALLEST.replace("4 GiB", &size));
        }
    }
}
