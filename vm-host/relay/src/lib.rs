//! The host's place on the network: who it is there ([`identity`]), how it reaches brokers ([`dial`]), and the relay that takes
//! the gateways' streams to its desktops ([`relay`]).
//!
//! ```text
//! gateway ── mTLS ──► relay ── Unix socket ──► desktop process
//!                       ▲ started and watched by the agent, which it outlives: no stream passes through the agent
//! ```
//!
//! The relay knows nothing of what is desired or observed: which desktop and which placement are meant is checked by the
//! desktop process, and that a broker asks by its certificate.

pub mod dial;
pub mod identity;
mod metrics;
pub mod relay;

pub use identity::Identity;
