//! The per-VM process: VM driver, display server and viewers.
