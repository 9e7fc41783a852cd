//! Machines on a network of their own, as network namespaces joined to this one by a cable each: a pair of virtual Ethernet
//! devices (`ip-netns(8)`, `veth(4)`). Addresses are of 198.19.0.0/16, set aside for measuring networks (RFC 2544).

use std::process::{Command, Output};

/// What names of this module's namespaces and devices begin with.
const PREFIX: &str = "lcnet";

/// A machine, and the cable to it. Dropped, both are gone.
#[derive(Debug)]
pub struct Machine {
    number: u8,
}

fn ip(words: &[&str]) -> Output {
    Command::new("ip").args(words).output().expect("ip, of the package iproute2, runs")
}

fn must(words: &[&str]) {
    let output = ip(words);
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Machine {
    /// Makes one; what an interrupted run left of it is removed first.
    ///
    /// # Panics
    /// It cannot be made: that takes root.
    #[must_use]
    pub fn new(number: u8) -> Self {
        let machine = Self { number };
        machine.remove();
        let (name, near, far) = (machine.name(), machine.near(), format!("{PREFIX}{number}f"));
        must(&["netns", "add", &name]);
        must(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &name]);
        must(&["addr", "add", &format!("{}/30", machine.gateway()), "dev", &near]);
        must(&["link", "set", &near, "up"]);
        must(&["-n", &name, "addr", "add", &format!("{}/30", machine.address()), "dev", &far]);
        must(&["-n", &name, "link", "set", &far, "up"]);
        must(&["-n", &name, "link", "set", "lo", "up"]);
        machine
    }

    fn name(&self) -> String {
        format!("{PREFIX}{}", self.number)
    }

    fn near(&self) -> String {
        format!("{PREFIX}{}n", self.number)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("198.19.{}.2", self.number)
    }

    /// This side's address, as it sees it.
    #[must_use]
    pub fn gateway(&self) -> String {
        format!("198.19.{}.1", self.number)
    }

    /// A command that runs there.
    #[must_use]
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name()]).arg(program);
        command
    }

    /// Pulls the cable.
    ///
    /// # Panics
    /// It cannot be.
    pub fn cut(&self) {
        must(&["link", "set", &self.near(), "down"]);
    }

    /// Puts it back.
    ///
    /// # Panics
    /// It cannot be.
    pub fn join(&self) {
        must(&["link", "set", &self.near(), "up"]);
    }

    fn remove(&self) {
        // Neither has to be there.
        ip(&["link", "del", &self.near()]);
        ip(&["netns", "del", &self.name()]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.remove();
    }
}
