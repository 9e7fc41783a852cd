//! Writes what fuzzing begins with: what Lucarne's own writers and encoders make, and edge cases made by hand. Finds of
//! earlier runs are in `corpus`.
//!
//! `seeds FOLDER` makes a folder in it for each target.

mod disks;
mod guest;
mod pixels;
mod protocol;
mod recordings;
mod text;

// What is instrumented calls the fuzzer.
use libfuzzer_sys as _;
use std::path::Path;
use std::{env, fs, io};

/// A target and what it begins with.
type Seeds = Vec<(&'static str, Vec<Vec<u8>>)>;

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "say which folder to write to"));
    };
    let groups = [
        protocol::seeds(),
        pixels::seeds(),
        guest::seeds(),
        text::seeds(),
        disks::seeds(),
        recordings::seeds(),
    ];
    for (target, inputs) in groups.into_iter().flatten() {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (number, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("{number:03}")), input)?;
        }
    }
    Ok(())
}

/// Numbers before an input's data.
fn with(head: &[u8], data: &[u8]) -> Vec<u8> {
    [head, data].concat()
}
