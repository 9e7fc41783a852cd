//! `lucarne-player`: a window over the whole screen of the X server in `DISPLAY`, which draws a workload's frames as keys
//! tell it (see [`lucarne_player::window`]).

use std::process::ExitCode;

fn main() -> ExitCode {
    match lucarne_player::window::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lucarne-player: {error:#}");
            ExitCode::FAILURE
        }
    }
}
