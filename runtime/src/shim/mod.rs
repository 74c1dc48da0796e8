//! The per-container monitor: a small process that starts the container, keeps its logs, answers its DNS, probes its health,
//! restarts it by policy, and outlives the agent. Talked to through [`protocol`].
//!
//! Also the helper that runs one process with given files: a build step, or an exec in a running container. Everything here has
//! one thread, because starting a container forks.

pub mod audience;
pub mod bundle;
pub mod command_line;
pub mod dns;
pub mod exec;
pub mod fifo;
mod foreground;
pub mod frame;
pub mod hold;
pub mod log;
pub mod monitor;
pub mod policy;
pub mod protocol;
pub mod run;

pub use crate::cause::chain;

use std::io::Write as _;

/// The exit code for trouble that is not the process's own, as with docker and podman.
pub const CODE_OURS: i32 = 125;

/// A line on standard error. Where that leads may be full or closed: `eprintln!` would end us then.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "container-shim: {text}");
}

/// Why a shim cannot do its work, in words for its caller.
#[derive(Debug)]
pub(crate) struct Problem(pub(crate) String);

impl Problem {
    /// For `map_err`: what was tried, and the error's own chain.
    pub(crate) fn of<E: std::error::Error>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("{action}: {}", chain(&error)))
    }
}
