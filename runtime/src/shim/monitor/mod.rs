//! The monitor of one container: one thread, one poll(2), no waiting anywhere else but in starting a process.
//!
//! ```text
//!   start ─────────► Running ── exit ──► [drain logs, ask policy] ── stay ──► Exited ──► tidy up, answer, end
//!                     ▲   ▲                                   │
//!   adopt ────────────┘   │ due, or asked                     │ again
//!     │                   └───────────── Restarting ◄─────────┘
//!     └──────────────────────────────────────▲
//! ```
//!
//! What it knows is in `state.json` before it is told to anybody. Killed at any point it is replaced by another with `--adopt`.

mod control;
mod health;
mod launch;
mod life;
mod requests;
mod shutdown;
mod streams;
mod terminal;
mod tidy;
mod turn;
mod watched;

pub use launch::{Arguments, Task, main};
pub(crate) use tidy::release_namespace;

use self::control::Control;
use self::health::Prober;
use self::shutdown::Shutdown;
use self::terminal::Terminal;
use self::watched::Watched;
use crate::cgroup::Cgroup;
use crate::container::config::ContainerConfig;
use crate::container::state::{ContainerState, Exit, Health, Phase, ProcessRef, Timestamp};
use crate::places::Places;
use crate::process::TerminalSize;
use crate::shim::dns::responder::Responder;
use crate::shim::log::file::LogFile;
use crate::shim::log::pump::{Bench, Pump};
use crate::shim::policy::Backoff;
use spec::value::ContainerId;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

/// Where the container's files are.
struct Ground {
    places: Places,
    id: ContainerId,
    /// Its lasting directory.
    directory: PathBuf,
    /// Its passing one.
    run: PathBuf,
    /// Makes us the one shim of this container.
    _lock: File,
}

/// Everything a shim knows. Changed only by the loop.
struct Monitor {
    ground: Ground,
    config: ContainerConfig,
    cgroup: Cgroup,
    me: ProcessRef,
    life: Life,
    /// Restarts by policy since it was last started by hand or plan.
    restarts: u32,
    /// How often its process has been started by this shim: tells a restarted process from the one before.
    starts: u64,
    backoff: Backoff,
    logs: Logs,
    /// The terminal of the process that runs, if it has one.
    terminal: Option<Terminal>,
    /// The size that a terminal gets at the next start: its last one.
    size: TerminalSize,
    control: Control,
    shutdown: Shutdown,
    /// The name server; only bridged containers have one.
    dns: Option<Responder>,
    weight: Weight,
}

/// Whether memory that idling does not need has been given back: there is a shim for every container, and most of them idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Working,
    Slim,
}

struct Logs {
    stdout: Pump,
    stderr: Pump,
    bench: Bench,
    file: LogFile,
}

/// Where the container is in its life; [`Phase`] with what is needed to act on it.
enum Life {
    Running(Running),
    Restarting { exit: Exit, due: Timestamp, at: Instant },
    Exited { exit: Exit },
}

struct Running {
    process: Watched,
    since: Timestamp,
    began: Instant,
    /// What the control group counted before it was started.
    oom_kills_before: u64,
    /// Boxed: few containers have one.
    prober: Option<Box<Prober>>,
    ending: Option<Ending>,
}

/// It has been asked to end.
struct Ending {
    /// When it is killed if it has not; `None`: never, or done already.
    kill_at: Option<Instant>,
    then: Then,
}

/// What comes after a requested end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    StartAgain,
}

impl Monitor {
    /// What everybody may know.
    fn state(&self) -> ContainerState {
        let phase = match &self.life {
            Life::Running(running) => Phase::Running {
                process: running.process.reference(),
                since: running.since,
                health: running.prober.as_ref().map_or(Health::Unchecked, |prober| prober.health()),
            },
            Life::Restarting { exit, due, .. } => Phase::Restarting { exit: exit.clone(), due: *due },
            Life::Exited { exit } => Phase::Exited { exit: exit.clone() },
        };
        ContainerState { phase, restarts: self.restarts, shim: Some(self.me) }
    }
}
