//! What a container is: `state.json` in its run directory, written by its shim at every change, read by everybody.
//!
//! ```text
//!            start                     exit, policy says no
//!  Created ────────► Running{health} ──────────────────────► Exited
//!                      ▲     │ exit, policy says again          │ start
//!                      │     ▼                                  ▼
//!                      └── Restarting{due}                   Running
//! ```

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Wall-clock time in nanoseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// One snapshot of a container's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// Where in its life it is.
    pub phase: Phase,
    /// How often its policy has restarted it since it was last started by hand or plan.
    pub restarts: u32,
    /// The shim that watches over it. It may be dead: the process it watched is then adopted by a new one.
    pub shim: Option<ProcessRef>,
}

/// Where in its life a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Phase {
    /// Never started on this boot.
    Created,
    /// Its process runs.
    Running {
        /// Its first process, in the host's pid namespace.
        process: ProcessRef,
        /// Since when.
        since: Timestamp,
        /// What its probes say.
        health: Health,
    },
    /// Its process ended and its policy will start it again.
    Restarting {
        /// How it ended.
        exit: Exit,
        /// When it is started again.
        due: Timestamp,
    },
    /// Its process ended for good.
    Exited {
        /// How it ended.
        exit: Exit,
    },
}

/// A process that cannot be mistaken for another with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRef {
    /// Process id in the host's namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot: field 22 of proc_pid_stat(5).
    pub start_time: u64,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Exit code; 128 + signal for a signal, as shells count; 255 with [`ExitCause::Unknown`].
    pub code: i32,
    /// Why.
    pub cause: ExitCause,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// Why a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitCause {
    /// By itself, or by a signal from inside.
    Own,
    /// Someone asked for it: `stop`, `kill`, `restart`.
    Requested,
    /// The kernel's out-of-memory killer.
    OutOfMemory,
    /// It could not be started: what failed, on what.
    StartFailed {
        /// The step, its object and the system's reason.
        reason: String,
    },
    /// Its shim and the record of its end are gone.
    Unknown,
}

/// What the health probes say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Health {
    /// It has no probe.
    Unchecked,
    /// No probe has passed yet and its start period or retries are not used up.
    Starting,
    /// The last probe passed.
    Healthy,
    /// So many probes in a row failed that it counts as unhealthy.
    Unhealthy {
        /// Failures in a row.
        failures: u32,
        /// Last lines of the last probe's output, at most 4 KiB.
        output: String,
    },
}

impl Phase {
    /// Whether it runs, or is about to again.
    pub fn is_alive(&self) -> bool {
        match self {
            Self::Running { .. } | Self::Restarting { .. } => true,
            Self::Created | Self::Exited { .. } => false,
        }
    }
}

impl Timestamp {
    /// This many later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }
}
