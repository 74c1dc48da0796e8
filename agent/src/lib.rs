//! The agent: sources, plans, application, the watch, the command line.

pub mod apply;
pub mod host;
pub mod daemon;
pub mod ledger;
pub mod plan;
pub mod source;
