//! What is said over a shim's control socket: one JSON line each way a request, then the connection is closed
//! (but for [`Request::Wait`], which is answered when the wait is over, and [`Request::Attach`], after whose answer frames flow
//! both ways: [`super::frame`]).

use crate::container::config::Updatable;
use crate::container::state::ContainerState;
use crate::process::TerminalSize;
use serde::{Deserialize, Serialize};
use spec::value::Signal;

/// Longest line either side sends or accepts: a state with 4 KiB of probe output fits many times over.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// What a shim can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// Its state now.
    State,
    /// Stop the container: signal, grace, SIGKILL. Answered when the process is gone. It is not restarted.
    Stop {
        /// Grace in milliseconds; the container's own if `None`.
        grace_ms: Option<u64>,
    },
    /// Send a signal to the container's first process.
    Kill {
        /// Which.
        signal: Signal,
    },
    /// Stop it if it runs and start it again, counting no restart.
    Restart {
        /// Grace in milliseconds; the container's own if `None`.
        grace_ms: Option<u64>,
    },
    /// Change limits, restart policy and labels of the running container; rewrites `container.json`.
    Update {
        /// The new values, all of them.
        updatable: Updatable,
    },
    /// Read `container.json` again: its networks have changed. Answered when names of the new networks are.
    Reload,
    /// Answered when the container reaches this condition, or can no longer reach it, or the time is over: the state tells which.
    Wait {
        /// For what.
        until: WaitCondition,
        /// How long at most, in milliseconds.
        timeout_ms: Option<u64>,
    },
    /// See what the container writes from now on and, if it has a terminal, type there. Answered with the state; then come frames
    /// until its process ends or the client hangs up. A new shim may find this as a line on its standard input, a socket: whoever
    /// waits there sees the container from its first byte.
    Attach {
        /// How large the container's terminal is to be; as it is if `None`.
        size: Option<TerminalSize>,
        /// Whether what the client sends is the container's input. With an attached start, where it has no terminal, the end of the
        /// client's input is then the end of its own.
        stdin: bool,
    },
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitCondition {
    /// Its health probe passes; a container without a probe is healthy as soon as it runs.
    Healthy,
    /// It has exited for good.
    Exited,
}

/// What a shim answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reply {
    /// Done; the state after it.
    State {
        /// The state.
        state: ContainerState,
    },
    /// Refused or failed; nothing was changed that is not in `state.json`.
    Error {
        /// What was tried and why it did not work.
        problem: String,
    },
}
