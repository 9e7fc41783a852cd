//! `lucarne image`.

use super::{Accel, Remote};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `lucarne image`.
#[derive(ClapArgs)]
pub struct Image {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// Formats that can be imported; never guessed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    Qcow2,
    Raw,
    Vmdk,
    Vhdx,
}

/// `lucarne image …`.
#[derive(Subcommand)]
pub enum ImageCommand {
    /// Build an image from a recipe, on this machine.
    Build {
        /// The recipe, such as ops/images/debian-desktop.toml.
        recipe: PathBuf,
        /// Build it even if the recipe's image is there.
        #[arg(long)]
        force: bool,
    },
    /// Import a disk file into this machine's store; it is booted once to see that it works.
    // Its --version is the image's.
    #[command(disable_version_flag = true)]
    Import {
        /// The file.
        file: PathBuf,
        /// Its format. It is never guessed, because a guest could have written another format's header.
        #[arg(long, value_enum)]
        format: ImageFormat,
        /// The image's name.
        #[arg(long)]
        name: String,
        /// Its version; today's date when left out.
        #[arg(long)]
        version: Option<String>,
        /// What executes the boot.
        #[arg(long, value_enum, default_value_t = Accel::Auto)]
        accel: Accel,
    },
    /// List images.
    List,
    /// Show an image.
    Show {
        /// Digest.
        image: String,
    },
    /// Delete an image that no pool uses.
    Delete {
        /// Digest.
        image: String,
    },
}
