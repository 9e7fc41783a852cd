//! The per-VM process: it owns one virtual machine and its display, and serves viewers.

pub mod config;
pub mod control;
