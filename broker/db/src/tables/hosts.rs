//! Where desktops run, and from what they are forked.

use crate::table::table;
use crate::value::{Json, words};
use lucarne_control::agent::{HostFacts, TemplateObserved};
use lucarne_control::spec::ImageDigest;
use lucarne_control::{BrokerId, EnrollmentId, HostId};
use std::collections::BTreeMap;

words!(BrokerId, EnrollmentId, HostId, ImageDigest);

table! {
    /// One run of a broker.
    Broker in "brokers" {
        /// Id.
        id: BrokerId,
        /// The machine that it runs on, for people.
        name: String,
        /// When.
        started_at: i64,
        /// When it last said that it is there.
        seen_at: i64,
        /// When it ended, or another broker found it silent.
        ended_at: Option<i64>,
    }
    key (id: BrokerId);
    index live () then (id) where ended_at is null;
}

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
        /// Virtual processors that they have.
        promised_vcpus: u64,
        /// When.
        created_at: i64,
        /// When a link to it was last made or lost.
        last_seen: i64,
        /// Rises with each link to its agent: what came by an earlier one counts for nothing.
        epoch: u64,
        /// Whom its agent is linked to.
        broker_id: Option<BrokerId>,
        /// Since when to nobody.
        cut_at: Option<i64>,
        /// The key that it enrolled with (P-256, the point uncompressed); none where it is on a broker's own machine.
        public_key: Option<Vec<u8>>,
        /// Where its desktops' displays are reached by the network.
        address: Option<String>,
        /// Since when it may not connect.
        denied_at: Option<i64>,
        /// Since when no new desktops go there.
        drained_at: Option<i64>,
        /// What pools can ask for.
        labels: Json<BTreeMap<String, String>>,
        /// From when on nothing runs there.
        maintenance_at: Option<i64>,
    }
    key (id: HostId);
    unique named (name: str);
    index linked_to (broker_id: BrokerId) then (id);
}

impl Host {
    /// Its agent is linked to a broker.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.broker_id.is_some()
    }
}

table! {
    /// Who issues the certificates of a deployment.
    Authority in "authorities" {
        /// For what: `hosts`.
        name: String,
        /// Its certificate, PEM.
        certificate: String,
        /// Its private key, PEM.
        private_key: String,
        /// When.
        created_at: i64,
    }
    key (name: str);
}

table! {
    /// The permission for one host to join.
    Enrollment in "enrollments" {
        /// Id.
        id: EnrollmentId,
        /// sha256 of the token's secret.
        hash: Vec<u8>,
        /// Only as the host of this name.
        host: Option<String>,
        /// Who gave it.
        created_by: String,
        /// When.
        created_at: i64,
        /// When it is over.
        expires_at: i64,
        /// When it was used.
        used_at: Option<i64>,
        /// The name of the host that used it.
        used_by: Option<String>,
    }
    key (id: EnrollmentId);
    unique hashed (hash: [u8]);
}

table! {
    /// How a host is, in numbers that change all the time: apart from its row, which claims wait for.
    HostPulse in "host_pulses" {
        /// The host.
        host_id: HostId,
        /// Bytes free where desktops' disks are kept.
        disk_free: u64,
        /// Bytes of memory available.
        memory_available: u64,
    }
    key (host_id: HostId);
}

table! {
    /// How far a template is on a host.
    HostTemplate in "host_templates" {
        /// The host.
        host_id: HostId,
        /// What the template is made of (`TemplateSpec::key`).
        template: String,
        /// How far it is.
        seen: Json<TemplateObserved>,
    }
    key (host_id: HostId, template: str);
    index on_host (host_id: HostId);
    index of (template: str) then (host_id);
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
