//! Containers: what one is told to be, what it is, and the verbs on it, a file each.
//!
//! A container is a directory that lasts ([`config`]) and one that does not ([`state`]); whatever runs is watched over by its
//! shim. Verbs that change one hold its lock; verbs on what runs ask the shim.

mod annotate;
mod attach;
mod attend;
mod client;
pub mod config;
mod copy;
mod create;
pub(crate) mod document;
mod error;
mod exec;
pub(crate) mod file;
pub(crate) mod list;
pub mod liveness;
mod lock;
mod logs;
mod remove;
mod start;
pub mod state;
mod stats;
mod stop;
mod sweep;
mod top;
pub(crate) mod transient;
mod update;
pub(crate) mod wait;

pub use crate::shim::bundle::{ExecCommand, RunBundle, Terminal};
pub use crate::shim::log::record::Stream as LogStream;
pub use annotate::annotate;
pub use attach::{AttachRequest, Attachment, attach, start_attached};
pub use attend::{Manner, OnSignal, Parting};
pub use copy::{Owners, copy_in, copy_out};
pub use create::create;
pub use error::ContainerError;
pub use exec::{exec, exec_command, run_command};
pub use list::{Shelves, Snapshot, ids, incarnations, inspect, list};
pub use logs::{Follow, LogQuery, LogRecord, logs};
pub use remove::{WhileRunning, remove};
pub use start::{adopt, prepare, shim_executable, start};
pub use stats::{Stats, Traffic, stats};
pub use stop::{StopBy, kill, restart, stop};
pub use sweep::sweep;
pub use top::{Task, top};
pub use transient::{Remover, Stay, WhileSomebodyStays, is_transient, stay};
pub use update::{reconnect, update};
pub use wait::{Waited, wait};
