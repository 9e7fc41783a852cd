//! One-time passwords for viewers that know nothing but VncAuth: eight characters that open one session's desktop, once,
//! within a minute.
//!
//! They are tickets that people can type. VncAuth shows the server only a DES response, and to compare it the server needs
//! the password itself, not a hash; so they are in memory alone, never in the database or a log, and gone when the broker
//! ends. A response tells no name either: every live password is tried, all of them in each attempt, so that the time tells
//! nothing of which one fitted.
//!
//! A guess fits one of n live passwords with n / 2^40; an address has five wrong ones in a minute.

use crate::secret;
use lucarne_control::SessionId;
use lucarne_rfb::security::vnc_auth::{CHALLENGE, PASSWORD, response};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// How long one can be used. Longer: one that was seen on a screen is of use for longer. Shorter: people do not get it
/// typed.
pub const LIFE: Duration = Duration::from_secs(60);

/// Wrong ones that an address may send in [`WINDOW`]. More: more guesses. Fewer: typing errors annoy.
const WRONG: u32 = 5;

/// For how long an address's wrong ones count.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses remembered at most; the oldest is dropped for a new one.
const ADDRESSES: usize = 4096;

/// Why a response opened nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No live password gives it.
    #[error("the one-time password is wrong, was used, or is older than {} s; get a new one", LIFE.as_secs())]
    Wrong,
    /// Not tried.
    #[error("too many wrong passwords from this address; wait a minute and get a new one")]
    TooMany,
}

struct Live {
    password: String,
    until: Instant,
}

struct Guesses {
    wrong: u32,
    since: Instant,
}

#[derive(Default)]
struct State {
    live: HashMap<SessionId, Live>,
    guesses: HashMap<IpAddr, Guesses>,
}

/// The passwords that can be used now.
#[derive(Default)]
pub struct ViewerPasswords(Mutex<State>);

impl ViewerPasswords {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a password for a session, in the place of one that it has.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn make(&self, session: SessionId) -> Result<String, getrandom::Error> {
        let password = secret::readable(PASSWORD)?;
        let now = Instant::now();
        let mut state = self.lock();
        state.live.retain(|_, live| live.until > now);
        state.live.insert(session, Live { password: password.clone(), until: now + LIFE });
        Ok(password)
    }

    /// Gives the session whose password answers `challenge` like this, and uses it up.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn redeem(
        &self,
        challenge: &[u8; CHALLENGE],
        answer: &[u8; CHALLENGE],
        from: IpAddr,
    ) -> Result<SessionId, Refused> {
        let now = Instant::now();
        let from = network(from);
        let mut state = self.lock();
        state.guesses.retain(|_, g| now.duration_since(g.since) < WINDOW);
        if state.guesses.get(&from).is_some_and(|g| g.wrong >= WRONG) {
            return Err(Refused::TooMany);
        }
        state.live.retain(|_, live| live.until > now);
        let mut found = None;
        for (session, live) in &state.live {
            if response(live.password.as_bytes(), challenge).ct_eq(answer).into() {
                found = Some(*session);
            }
        }
        let Some(session) = found else {
            state.guessed_wrong(from, now);
            return Err(Refused::Wrong);
        };
        state.live.remove(&session);
        Ok(session)
    }
}

impl State {
    fn guessed_wrong(&mut self, from: IpAddr, now: Instant) {
        if self.guesses.len() >= ADDRESSES && !self.guesses.contains_key(&from) {
            let oldest = self.guesses.iter().min_by_key(|(_, g)| g.since).map(|(a, _)| *a);
            if let Some(oldest) = oldest {
                self.guesses.remove(&oldest);
            }
        }
        self.guesses.entry(from).or_insert(Guesses { wrong: 0, since: now }).wrong += 1;
    }
}

/// What one party has: an IPv4 address, or the IPv6 network of 64 bits that a subscriber chooses addresses in (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

impl std::fmt::Debug for ViewerPasswords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ViewerPasswords({} live)", self.lock().live.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const CHALLENGED: [u8; CHALLENGE] = [0x5a; CHALLENGE];

    fn redeem(passwords: &ViewerPasswords, password: &str, from: IpAddr) -> Result<SessionId, Refused> {
        passwords.redeem(&CHALLENGED, &response(password.as_bytes(), &CHALLENGED), from)
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_opens_its_own_session_once() {
        let passwords = ViewerPasswords::default();
        let [a, b] = [SessionId::generate(), SessionId::generate()];
        let (of_a, of_b) = (passwords.make(a).unwrap(), passwords.make(b).unwrap());
        assert_eq!((of_a.len(), of_b.len()), (8, 8));
        assert_eq!(redeem(&passwords, &of_b, HERE), Ok(b));
        assert_eq!(redeem(&passwords, &of_b, HERE), Err(Refused::Wrong));
        assert_eq!(redeem(&passwords, &of_a, HERE), Ok(a));
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_ends_with_its_time_and_with_a_newer_one() {
        let passwords = ViewerPasswords::default();
        let session = SessionId::generate();
        let first = passwords.make(session).unwrap();
        let second = passwords.make(session).unwrap();
        assert_eq!(redeem(&passwords, &first, HERE), Err(Refused::Wrong));
        tokio::time::advance(LIFE - Duration::from_millis(1)).await;
        assert_eq!(redeem(&passwords, &second, HERE), Ok(session));
        let third = passwords.make(session).unwrap();
        tokio::time::advance(LIFE).await;
        assert_eq!(redeem(&passwords, &third, HERE), Err(Refused::Wrong));
        assert_eq!(format!("{passwords:?}"), "ViewerPasswords(0 live)");
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_wrong_ones_an_address_waits_and_others_do_not() {
        let passwords = ViewerPasswords::default();
        let session = SessionId::generate();
        for _ in 0..5 {
            assert_eq!(redeem(&passwords, "wrong", HERE), Err(Refused::Wrong));
        }
        let password = passwords.make(session).unwrap();
        assert_eq!(redeem(&passwords, &password, HERE), Err(Refused::TooMany));
        assert_eq!(redeem(&passwords, &password, THERE), Ok(session), "it was not used up");
        tokio::time::advance(WINDOW).await;
        let password = passwords.make(session).unwrap();
        assert_eq!(redeem(&passwords, &password, HERE), Ok(session));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_counts_as_one_address() {
        let passwords = ViewerPasswords::default();
        for i in 0..5u16 {
            let from = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, i, 0, 0, 1).into();
            assert_eq!(redeem(&passwords, "wrong", from), Err(Refused::Wrong));
        }
        let neighbour = |n| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, n, 9, 9, 9, 9));
        assert_eq!(redeem(&passwords, "wrong", neighbour(1)), Err(Refused::TooMany));
        assert_eq!(redeem(&passwords, "wrong", neighbour(2)), Err(Refused::Wrong));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_of_wrong_ones_is_bounded() {
        let passwords = ViewerPasswords::default();
        for i in 0..ADDRESSES as u32 + 50 {
            let _ = redeem(&passwords, "wrong", Ipv4Addr::from_bits(i).into());
        }
        assert_eq!(passwords.lock().guesses.len(), ADDRESSES);
    }
}
