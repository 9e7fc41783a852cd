//! The `lucarne` binary: every process of a deployment, and the command line of its users.
//!
//! This file only chooses; each command has a file of its own in `commands`, the all-in-one server is `up`.

mod args;
mod client;
mod commands;
mod exit;
mod output;
mod pin;
mod pools_file;
mod progress;
mod sse;
mod up;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    // Desktops' users must get at images and templates, whatever their administrator's umask. What is private says so.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    commands::logging(&args.command);
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lucarne: {}", exit::chain(&error));
            exit::code(&error)
        }
    }
}
