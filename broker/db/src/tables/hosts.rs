//! Where desktops run, and from what they are forked.

use crate::table::table;
use crate::value::{Json, words};
use lucarne_control::HostId;
use lucarne_control::agent::HostFacts;
use lucarne_control::spec::ImageDigest;

words!(HostId, ImageDigest);

table! {
    /// A node that runs desktops.
    Host in "hosts" {
        /// Id.
        id: HostId,
        /// Unique.
        name: String,
        /// What it says that it can do.
        facts: Json<HostFacts>,
        /// Rises with each change of what should be on it.
        revision: u64,
        /// Desktops that are placed on it.
        desktops: u32,
        /// MiB of memory that these were promised.
        promised_mib: u64,
        /// When.
        created_at: i64,
        /// When it last said anything.
        last_seen: i64,
    }
    key (id: HostId);
    unique named (name: str);
}

table! {
    /// A golden image.
    Image in "images" {
        /// The sha256 of its disk.
        digest: ImageDigest,
        /// The name people use.
        name: String,
        /// The version within the name.
        version: String,
        /// One line for people.
        description: String,
        /// Bytes that the guest sees.
        virtual_size: u64,
        /// Bytes that it takes.
        stored_size: u64,
        /// When it was made: seconds, as its own record says.
        created_at: i64,
        /// How.
        source: String,
    }
    key (digest: ImageDigest);
    index named (name: str) then (created_at, version);
}

table! {
    /// Which image is in which host's store.
    HostImage in "host_images" {
        /// The host.
        host_id: HostId,
        /// The image.
        digest: ImageDigest,
    }
    key (host_id: HostId, digest: ImageDigest);
    index on_host (host_id: HostId);
    index of (digest: ImageDigest) then (host_id);
}
