//! What a link to the broker speaks for: a node with its virtual machines, or one that only pretends to have them.

use crate::config::{disk_free, memory_available};
use crate::desktops::Desktops;
use crate::error_chain;
use crate::followed::Kept;
use crate::hub::Hub;
use crate::templates::Templates;
use lucarne_control::agent::{Desired, Followed};
use lucarne_control::spec::ImageDigest;
use lucarne_images::Store;
use lucarne_ledger::Refusal;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A machine as the link sees it.
pub(crate) trait Machine: Send + Sync + 'static {
    /// What it has and was told.
    fn hub(&self) -> &Hub;

    /// Looks whether its images have changed.
    fn look(&self);

    /// Puts on the disk what is followed from now on.
    fn keep(&self, followed: Followed) -> io::Result<()>;

    /// Begins to make it so.
    fn apply(&self, desired: &Desired) -> Result<(), Refusal>;

    /// Deletes an image; why it cannot.
    fn delete_image(&self, digest: &ImageDigest) -> Option<String>;

    /// Bytes free on its disk, and of its memory.
    fn pulse(&self) -> (u64, u64);
}

/// A node with its virtual machines.
pub(crate) struct Node {
    pub(crate) dir: PathBuf,
    pub(crate) hub: Hub,
    pub(crate) store: Arc<Store>,
    pub(crate) templates: Arc<Templates>,
    pub(crate) desktops: Arc<Desktops>,
    pub(crate) kept: Mutex<Kept>,
}

impl Machine for Node {
    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn look(&self) {
        match self.store.list() {
            Ok(images) => self.hub.images(images),
            Err(error) => tracing::warn!(error = %error_chain(&error), "the image store cannot be read"),
        }
    }

    fn keep(&self, followed: Followed) -> io::Result<()> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(followed)
    }

    fn apply(&self, desired: &Desired) -> Result<(), Refusal> {
        self.desktops.apply(desired)?;
        let mut keep = desired.templates.clone();
        keep.extend(self.desktops.templates_in_use());
        self.templates.retain(&keep, |dir| self.desktops.is_base(dir));
        for spec in &desired.templates {
            let _ = self.templates.want(spec);
        }
        Ok(())
    }

    fn delete_image(&self, digest: &ImageDigest) -> Option<String> {
        if self.desktops.is_kept(digest) {
            return Some("the disks of desktops on this host are based on it".to_owned());
        }
        self.store.delete(digest).err().map(|e| error_chain(&e))
    }

    fn pulse(&self) -> (u64, u64) {
        (disk_free(&self.dir), memory_available())
    }
}
