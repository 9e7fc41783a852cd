//! Connections between hosts' agents and brokers: what is sent arrives in order or not at all, unless the world is in trouble.

use crate::world::{Event, Ms, World};
use lucarne_control::agent::{FromAgent, ToAgent};
use tokio::sync::mpsc;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The agent's.
    Host,
    /// The broker's.
    Broker,
}

/// A connection.
pub struct Conn {
    /// Whose.
    pub host: usize,
    /// Which life of its agent.
    pub life: u64,
    /// To whom.
    pub broker: usize,
    /// Where the broker takes messages, while it does.
    pub inbox: Option<mpsc::Sender<FromAgent>>,
    /// The agent has not closed it.
    pub host_open: bool,
    /// When something last arrived, at the host and at the broker.
    pub heard: [Ms; 2],
    /// What was sent while the network was cut.
    held: Vec<(Side, Event)>,
    /// What was sent last arrives then, at the host and at the broker.
    arrives: [Ms; 2],
}

impl Conn {
    /// A new one.
    #[must_use]
    pub fn new(host: usize, life: u64, broker: usize, now: Ms) -> Self {
        Self {
            host,
            life,
            broker,
            inbox: None,
            host_open: true,
            heard: [now; 2],
            held: Vec::new(),
            arrives: [now; 2],
        }
    }
}

/// Silence after which an end gives a connection up.
pub const SILENCE: Ms = 15_000;

impl World {
    /// Whether messages between the ends of a connection arrive.
    fn is_cut(&self, broker: usize, host: usize) -> bool {
        self.cut.contains(&(broker, host))
    }

    /// Sends something to the other end.
    pub fn send(&mut self, id: u64, from: Side, event: impl Fn(u64) -> Event) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (broker, host) = (conn.broker, conn.host);
        if self.is_cut(broker, host) {
            // It is sent again and again, until it arrives or an end gives up.
            self.count("messages that a cut network held up");
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.held.push((from, event(id)));
            }
            return;
        }
        let mut delay = self.random.within(1, 15);
        // Late, it does not hold up what comes after it, which arrives before.
        let out_of_order = self.trouble && self.random.one_in(20);
        if out_of_order || self.trouble && self.random.one_in(12) {
            delay += self.random.within(10, 3_000);
        }
        let to = usize::from(from == Side::Host);
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut at = now + delay;
        if !out_of_order {
            at = at.max(conn.arrives[to] + 1);
            conn.arrives[to] = at;
        }
        self.after(at - now, event(id));
        if out_of_order {
            self.count("messages out of order");
        }
        if self.trouble && self.random.one_in(60) {
            self.count("messages that came twice");
            let again = self.random.within(1, 2_000);
            self.after(at - now + again, event(id));
        }
    }

    /// A cut network is whole again.
    pub fn mended(&mut self, broker: usize, host: usize) {
        self.cut.retain(|cut| *cut != (broker, host));
        let now = self.now;
        let mut arriving = Vec::new();
        for conn in self.conns.values_mut().filter(|conn| (conn.broker, conn.host) == (broker, host)) {
            for (from, event) in std::mem::take(&mut conn.held) {
                let at = &mut conn.arrives[usize::from(from == Side::Host)];
                *at = (*at).max(now) + 1;
                arriving.push((*at - now, event));
            }
        }
        for (delay, event) in arriving {
            self.after(delay, event);
        }
    }

    /// One end closes a connection; the other learns it, if it can.
    pub fn close(&mut self, id: u64, by: Side) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match by {
            Side::Host => conn.host_open = false,
            Side::Broker => conn.inbox = None,
        }
        let (broker, host) = (conn.broker, conn.host);
        if !conn.host_open && conn.inbox.is_none() {
            self.conns.remove(&id);
        }
        if by == Side::Host {
            self.host_lost(host, id);
        }
        if !self.is_cut(broker, host) {
            let other = if by == Side::Host { Side::Broker } else { Side::Host };
            let delay = self.random.within(1, 20);
            self.after(delay, Event::Closed(id, other));
        }
    }

    /// One end learns that the other closed.
    pub fn is_closed(&mut self, id: u64, side: Side) {
        let open = |conn: &Conn| if side == Side::Host { conn.host_open } else { conn.inbox.is_some() };
        if self.conns.get(&id).is_some_and(open) {
            self.close(id, side);
        }
    }

    /// A message reaches a broker.
    pub fn reaches_broker(&mut self, id: u64, message: FromAgent) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(inbox) = &conn.inbox else { return };
        conn.heard[1] = now;
        if inbox.try_send(message).is_err() {
            self.close(id, Side::Broker);
        }
    }

    /// A message reaches a host.
    pub fn reaches_host(&mut self, id: u64, message: ToAgent) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (host, life) = (conn.host, conn.life);
        if !conn.host_open || !self.hosts[host].agent || self.hosts[host].life != life {
            return;
        }
        conn.heard[0] = now;
        self.host_told(host, id, message);
    }

    /// A sign of life reaches a host.
    pub fn pings(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.heard[0] = self.now;
        }
    }

    /// Gives up a connection that is silent, at one end.
    pub fn look_for_silence(&mut self, id: u64, side: Side) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (open, heard) = match side {
            Side::Host => (conn.host_open, conn.heard[0]),
            Side::Broker => (conn.inbox.is_some(), conn.heard[1]),
        };
        if open && heard + SILENCE < self.now {
            self.count("connections given up for silence");
            self.close(id, side);
        }
    }
}
