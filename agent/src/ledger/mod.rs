//! What the agent owns and what it did: the one memory that decides what may be deleted.
//!
//! A SQLite database at `<state>/ledger.sqlite`, write-ahead logged, every commit on disk before it is acknowledged. Shared by the
//! command line and the watch. It is remembered here *before* something is created and forgotten only *after* it is seen gone:
//!
//! ```text
//!        intend            confirm             intend_removal          confirm_removal
//!  ∅ ───────────► Creating ───────► Present ────────────────► Removing ───────────────► ∅
//! ```
//!
//! No clock: times come in as arguments. A damaged file is an error, never a reason to begin anew.

mod batch;
mod error;
mod generation;
mod history;
mod open;
mod owned;
mod schema;
#[cfg(test)]
mod tests;

pub use batch::Entry;
pub use error::LedgerError;
pub use generation::{GENERATIONS_MAX, Generation, Obtained};
pub use history::{DESTROYED, Event, Outcome, OutcomeKind, Recorded, SiteRecord};
pub use owned::{Owned, OwnedState, Ownership};

use rusqlite::Connection;
use std::path::PathBuf;

/// An open ledger. Not shared between threads; each opens its own.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
}

impl Ledger {
    /// For `map_err` on an operation of the database.
    fn failed(&self, action: &'static str) -> impl FnOnce(rusqlite::Error) -> LedgerError + use<> {
        let path = self.path.clone();
        move |error| LedgerError::of(action, path, error)
    }
}
