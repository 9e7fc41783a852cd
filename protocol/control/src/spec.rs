//! What a desktop is made of: image, machine shape, template specification.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// The sha256 of an image's disk file, 64 lower-case hexadecimal digits: the image's name in the store.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
pub struct ImageDigest(String);

/// A string that is not a sha256 in lower-case hexadecimal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an image digest is 64 lower-case hexadecimal digits (a sha256), not {0:?}")]
pub struct BadDigest(pub String);

impl ImageDigest {
    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = BadDigest;
    fn try_from(s: String) -> Result<Self, BadDigest> {
        if s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(s))
        } else {
            Err(BadDigest(s))
        }
    }
}

impl FromStr for ImageDigest {
    type Err = BadDigest;
    fn from_str(s: &str) -> Result<Self, BadDigest> {
        s.to_owned().try_into()
    }
}

impl From<ImageDigest> for String {
    fn from(d: ImageDigest) -> String {
        d.0
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageDigest({})", self.short())
    }
}

/// The virtual hardware of a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct MachineShape {
    /// Guest memory, MiB.
    #[schema(minimum = 256, maximum = 1_048_576)]
    pub memory_mib: u32,
    /// Virtual processors.
    #[schema(minimum = 1, maximum = 64)]
    pub vcpus: u32,
    /// Width of the display at boot, pixels.
    #[schema(minimum = 640, maximum = 7680)]
    pub width: u32,
    /// Height of the display at boot, pixels.
    #[schema(minimum = 400, maximum = 4320)]
    pub height: u32,
}

impl Default for MachineShape {
    fn default() -> Self {
        Self { memory_mib: 1024, vcpus: 2, width: 1280, height: 800 }
    }
}

impl MachineShape {
    /// Says what is wrong with a shape that no driver could build.
    ///
    /// # Errors
    /// A sentence for the person who asked for the shape.
    pub fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("{what} must be from {low} to {high}, not {value}"))
            }
        };
        within("memory (MiB)", self.memory_mib, 256, 1 << 20)?;
        within("vcpus", self.vcpus, 1, 64)?;
        within("width (pixels)", self.width, 640, 7680)?;
        within("height (pixels)", self.height, 400, 4320)
    }
}

/// Everything that a template is determined by; two desktops with the same specification fork from one template.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct TemplateSpec {
    /// The golden image.
    pub image: ImageDigest,
    /// The virtual hardware.
    pub machine: MachineShape,
}

impl TemplateSpec {
    /// One word for it, the same for the same: what the database knows a template by.
    #[must_use]
    pub fn key(&self) -> String {
        let MachineShape { memory_mib, vcpus, width, height } = self.machine;
        format!("{}-{memory_mib}-{vcpus}-{width}x{height}", self.image)
    }
}

/// What a desktop may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkPolicy {
    /// Outgoing connections by user-mode networking; neither the host's loopback nor other desktops.
    #[default]
    User,
    /// No network at all.
    None,
}

/// Which way copied text goes between desktops and their viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClipboardPolicy {
    /// Both ways.
    #[default]
    Both,
    /// What viewers copy can be pasted in desktops, and nothing comes out of them.
    ToDesktop,
    /// What is copied in desktops can be pasted elsewhere, and nothing gets into them.
    FromDesktop,
    /// Neither way.
    Off,
}

impl ClipboardPolicy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Both, Self::ToDesktop, Self::FromDesktop, Self::Off];

    /// The word used in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::ToDesktop => "to_desktop",
            Self::FromDesktop => "from_desktop",
            Self::Off => "off",
        }
    }

    /// Viewers' texts reach desktops.
    #[must_use]
    pub fn lets_in(self) -> bool {
        matches!(self, Self::Both | Self::ToDesktop)
    }

    /// Desktops' texts reach viewers.
    #[must_use]
    pub fn lets_out(self) -> bool {
        matches!(self, Self::Both | Self::FromDesktop)
    }
}

/// Whether desktops are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingMode {
    /// They are not.
    #[default]
    Off,
    /// They are; one that cannot be recorded is used all the same.
    On,
    /// They are; one that cannot be recorded cannot be used.
    Required,
}

impl RecordingMode {
    /// The word used in the API, the CLI and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Required => "required",
        }
    }
}

/// What becomes of what is on a desktop's screen while it has a session. Keys are never recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RecordingPolicy {
    /// Whether.
    pub mode: RecordingMode,
    /// Days that a recording is kept for; for ever when left out.
    #[schema(minimum = 1)]
    pub days: Option<u32>,
    /// MiB that all recordings of the pool may take on one host, the oldest going first; no limit when left out.
    #[schema(minimum = 1, maximum = 1_099_511_627_776i64)]
    pub mib: Option<u64>,
}

impl RecordingPolicy {
    /// Says what is wrong with it.
    ///
    /// # Errors
    /// A sentence for the person who asked for it.
    pub fn check(&self) -> Result<(), String> {
        const MOST_MIB: u64 = 1 << 40;
        if self.days == Some(0) || !(1..=MOST_MIB).contains(&self.mib.unwrap_or(1)) {
            return Err(format!("recordings are kept for at least 1 day, and in 1 to {MOST_MIB} MiB"));
        }
        Ok(())
    }
}

/// An image in a store, as its `image.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageInfo {
    /// sha256 of the disk file.
    pub digest: ImageDigest,
    /// The name people use, such as `debian-desktop`.
    pub name: String,
    /// The version within the name, such as `2026.11.21`.
    pub version: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Disk format of the file: `qcow2` or `raw`.
    pub format: String,
    /// Size of the disk that the guest sees, bytes.
    pub virtual_size: u64,
    /// Bytes that the file takes in the store.
    pub stored_size: u64,
    /// Seconds since the epoch at which it was made.
    pub created_at: i64,
    /// How it came to be: `recipe:<sha256 of the recipe>` or `import:<format>`.
    pub source: String,
    /// The guest runs `qemu-guest-agent`, so identity can be given after a fork.
    #[serde(default)]
    pub guest_agent: bool,
}
