//! The `lucarne` binary.
fn main() {}
