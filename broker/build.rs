//! Makes sure that the folder of the built web client exists, so that the crate compiles before Node has run, and
//! that a new build of it is compiled in.

use std::path::Path;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web-client/dist");
    if let Err(e) = std::fs::create_dir_all(&dist) {
        println!("cargo::error=cannot create {}: {e}", dist.display());
    }
    println!("cargo::rerun-if-changed=../web-client/dist");
}
