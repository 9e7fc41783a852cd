//! A server that shows the player's frames to viewers, and how to get at it.

use super::cpu;
use super::viewer::{Target, Viewer};
use anyhow::{Context, Result};
use lucarne_control::link::Open;
use lucarne_tests::link::Link;
use std::net::TcpStream;
use std::path::PathBuf;

/// One of those that are compared.
pub struct Peer {
    /// The name in tables and figures.
    pub name: &'static str,
    /// What it is, for the notes.
    pub what: String,
    /// Where viewers come in.
    pub target: Target,
    /// Where several viewers of one desktop come in, if not there: the display socket, and what is said to it.
    pub beside: Option<(PathBuf, Open)>,
    /// It has video for viewers that ask for it.
    pub films: bool,
    /// Its processes, as far as they show pictures and do not run the guest.
    pub cpu: cpu::Server,
}

impl Peer {
    /// Connects a viewer that is not the only one.
    pub fn view_beside(&self) -> Result<Viewer> {
        match &self.beside {
            Some((socket, open)) => Viewer::open_display(socket, open),
            None => self.view(),
        }
    }

    /// Connects a viewer directly.
    pub fn view(&self) -> Result<Viewer> {
        let tcp = TcpStream::connect(self.target.address)
            .with_context(|| format!("{} does not listen at {}", self.name, self.target.address))?;
        Viewer::open(tcp, &self.target).with_context(|| format!("a viewer of {}", self.name))
    }
    /// Connects a viewer over a link.
    pub fn view_over(&self, link: &Link) -> Result<Viewer> {
        let port = self.target.address.port();
        let tcp =
            link.connect(port).with_context(|| format!("{} is not reached over the link", self.name))?;
        Viewer::open(tcp, &self.target).with_context(|| format!("a viewer of {} over the link", self.name))
    }
}
