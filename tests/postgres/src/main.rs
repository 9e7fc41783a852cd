//! Runs a command while a PostgreSQL server is there for the tests in it: `lucarne-postgres COMMAND [ARGUMENT...]`.

use lucarne_postgres::{Server, VARIABLE};
use std::process::{Command, ExitCode};

fn run() -> Result<ExitCode, String> {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().ok_or("usage: lucarne-postgres COMMAND [ARGUMENT...]")?;
    let server = Server::start(false)?;
    let status = Command::new(&command).args(arguments).env(VARIABLE, server.socket()).status();
    let status = status.map_err(|e| format!("cannot run {}: {e}", command.display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn main() -> ExitCode {
    run().unwrap_or_else(|e| {
        eprintln!("{e}");
        ExitCode::FAILURE
    })
}
