//! A container's output on its way from two pipes to log files.
//!
//! Nothing the container wrote is ever only in this process's memory: a batch is copied from the pipe with tee(2), written to
//! the file, and only then taken out of the pipe. A shim that is killed in between leaves the pipe as it was.
//!
//! ```text
//!                         ┌──► clients that have attached, as it comes
//!  container ──► pipe ──tee──► cut into lines ──► docker json-file records ──► current.log ──► .1 ──► .2
//!                  ▲────────── taken out once written ─────────────┘
//! ```

pub mod cut;
pub mod file;
pub mod journal;
pub mod pump;
pub mod record;
