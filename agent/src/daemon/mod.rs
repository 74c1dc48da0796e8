//! The watch: keeps a host at what its source says. The only place with async; all work that waits for disks, networks or processes
//! runs on threads of its own.
//!
//! ```text
//!  signals ─┐                 ┌─► Fetch     source.fetch()   at most one at a time, polled, backed off
//!  inotify ─┼─► Queue<Key> ───┤      │ revision moved: call off, reset
//!  clock   ─┘                 ├─► Context   repositories::ask()  each that builds take from, polled and backed off alone
//!                             │      │ a commit moved: call off, reset
//!                             └─► Converge  cycle(Wake)      at most one at a time, every few seconds, backed off
//! ```
//!
//! Why we woke is logged and never decides anything: each cycle looks at all there is.

mod backoff;
mod call_off;
mod containers;
mod contexts;
mod desk;
mod drive;
mod end;
mod queue;
mod status;
#[cfg(test)]
mod tests;
mod wake;
mod watch;

pub use backoff::Backoff;
pub use call_off::{CallOff, CalledOffFor};
pub use drive::{Handle, Inbox, drive};
pub use end::EndSignals;
pub use queue::{Queue, Schedule, Verdict};
pub use status::{CycleStatus, FetchStatus, Status, StatusError, is_watched, watch_lock};
pub use wake::{CycleOutcome, CycleResult, Reason, Wake, WatchError, WatchOptions};
pub use watch::watch;
