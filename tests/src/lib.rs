//! Support of the end-to-end tests: the built `lucarne up` as a server of their own, and what tests watch it with.
//!
//! It uses the programs as people do, through their command line, addresses and files, and knows nothing of how they
//! work inside. It panics where a test would: whatever goes wrong here fails the test that asked, with what was seen.

pub mod agent;
pub mod browser;
pub mod deployment;
pub mod guest;
pub mod http;
pub mod link;
pub mod netns;
pub mod poll;
pub mod process;
pub mod screen;
pub mod server;
pub mod stock;
pub mod tone;
pub mod viewer;
