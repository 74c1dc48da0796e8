//! Starting the first process of a container, and one more in a running one. Blocking; the caller must have one thread.
//!
//! ```text
//! start(&StartRequest) -> Result<Started, StartError>
//! exec(&ExecRequest)   -> Result<Started, StartError>
//! pidfd::{open, send_signal, wait, reap, exit_status_of_stranger, start_time}
//! protect_own_binary() -> Result<(), StartError>      first thing in main of every binary that starts or execs
//! ```

mod error;
pub mod pidfd;
mod request;

pub use error::{StartError, Step};
pub use request::{ExecRequest, StartRequest, Started, Stdio, TerminalSize};
