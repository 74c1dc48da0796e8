//! `container-shim`: the small program beside each container, and the one that starts every process in one.

use runtime::shim::command_line::{self, Mode};
use runtime::shim::{complain, exec, hold, monitor, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mode = command_line::parse(&arguments);
    if mode == Some(Mode::Hold) {
        // It enters no container.
        return exit(hold::hold());
    }
    if let Err(error) = runtime::process::protect_own_binary() {
        complain(&runtime::shim::chain(&error));
        return exit(runtime::shim::CODE_OURS);
    }
    // Run by descriptor it would be listed under the descriptor's number. A name is a convenience: no error.
    let _ = rustix::thread::set_name(c"container-shim");
    match mode {
        Some(Mode::Hold) => exit(hold::hold()),
        Some(Mode::Monitor(arguments)) => monitor::main(arguments),
        Some(Mode::Run(bundle)) => exit(run::run(&bundle)),
        Some(Mode::Exec(bundle)) => exit(exec::exec(&bundle)),
        None => {
            complain(command_line::USAGE);
            exit(runtime::shim::CODE_OURS)
        }
    }
}

/// Codes are what wait(2) gives: eight bits.
fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xFF).unwrap_or(u8::MAX))
}
