//! A server that shows the player's frames to viewers, and how to get at it.

use super::cpu;
use super::viewer::{Target, Viewer};
use anyhow::{Context, Result};
use std::net::TcpStream;

/// One of those that are compared.
pub struct Peer {
    /// The name in tables and figures.
    pub name: &'static str,
    /// What it is, for the notes.
    pub what: String,
    /// Where viewers come in.
    pub target: Target,
    /// Its processes, as far as they show pictures and do not run the guest.
    pub cpu: cpu::Server,
}

impl Peer {
    /// Connects a viewer directly.
    pub fn view(&self) -> Result<Viewer> {
        let tcp = TcpStream::connect(self.target.address)
            .with_context(|| format!("{} does not listen at {}", self.name, self.target.address))?;
        Viewer::open(tcp, &self.target).with_context(|| format!("a viewer of {}", self.name))
    }
}
