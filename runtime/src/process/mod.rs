//! Starting the first process of a container, and one more in a running one. Blocking; the caller must have one thread.
//!
//! ```text
//! protect_own_binary()     first thing in main of a binary that starts or execs
//! start(&StartRequest)  -> Result<Started, StartError>
//! exec(&ExecRequest)    -> Result<Started, StartError>
//! pidfd::{open, open_child, send_signal, wait, reap, exit_status_of_stranger, start_time}
//! ```

mod channel;
mod environment;
mod error;
mod exec;
mod launch;
mod limits;
mod namespace;
pub mod pidfd;
mod protect;
mod request;
mod spawn;
mod start;
mod user;

pub(crate) use error::During;
pub use error::{StartError, Step};
pub use exec::exec;
pub use protect::protect_own_binary;
pub use request::{ExecRequest, StartRequest, Started, Stdio, TerminalSize};
pub use start::start;
