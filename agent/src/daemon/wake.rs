//! What goes into a watch and its cycles, and what comes out.

use super::{CallOff, StatusError};
use crate::site::repositories::Commits;
use crate::source::Checkout;
use runtime::places::Places;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// What to watch with.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Where everything is kept.
    pub places: Places,
    /// How often a Git source is asked, and a directory looked at without a hint; a tenth more or less by chance.
    pub poll_interval: Duration,
    /// How often the host is looked at without a hint.
    pub drift_interval: Duration,
}

/// What a cycle is given.
#[derive(Debug)]
pub struct Wake {
    /// The newest state of the source.
    pub checkout: Checkout,
    /// What the addresses of repositories that builds take from stand for, as far as that is known: the site is read with these.
    pub commits: Commits,
    /// Why now. For logs; a cycle looks at everything whatever it says.
    pub reasons: BTreeSet<Reason>,
    /// Why the source does not answer at present, if so: the checkout is then the last good one.
    pub fetch_problem: Option<String>,
    /// Whether what failed last time is to be tried again: its time has come, or there is something new. If not, there was but a hint
    /// that something changed, and that may have been the failure itself.
    pub retry: bool,
    /// Becomes true when the cycle should end after the step that runs.
    pub call_off: CallOff,
}

/// Why a cycle is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The source has a new revision, or the watch has just begun.
    SourceMoved,
    /// A repository that a build takes from has a new commit.
    ContextMoved,
    /// A container's state changed, or its shim died.
    ContainerChanged,
    /// Somebody changed links, addresses or the nftables table of this instance: we ourselves, perhaps.
    NetworkChanged,
    /// Someone asked, by SIGHUP.
    Asked,
    /// It was time: to look at the host again, or to try again what failed.
    Due,
}

/// What a cycle came to.
#[derive(Debug, Clone)]
pub struct CycleOutcome {
    /// How it ended.
    pub result: CycleResult,
    /// What was done, in a line; empty if nothing was.
    pub summary: String,
    /// The addresses of repositories that the site's builds take from, and what they stood for when it was read.
    pub commits: Commits,
    /// When to run again at the latest, if sooner than the drift interval: a health check is under way, say.
    pub again: Option<Duration>,
}

/// How a cycle ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CycleResult {
    /// The host matches the site, or is on its way there.
    Settled,
    /// Something went wrong, one text each; it is tried again, ever more rarely.
    Failed(Vec<String>),
    /// All there is to do failed last time, and is not to be tried again yet.
    PutOff,
    /// It was called off.
    CalledOff,
}

/// Why a watch ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Another one runs.
    #[error("another watch runs on {}", run.display())]
    AlreadyWatched {
        /// The run directory they would share.
        run: std::path::PathBuf,
    },
    /// Its own files.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// Its threads, signals or timers.
    #[error("{action}")]
    System {
        /// The operation.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The cycle panicked. Nothing is known about what it was doing; a new process looks afresh.
    #[error("a cycle broke off: {problem}")]
    Cycle {
        /// What the panic said.
        problem: String,
    },
}
