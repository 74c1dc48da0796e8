//! The `agent` command. Everything is in the library; this is the edge where exit codes are made.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::cli::main()
}
