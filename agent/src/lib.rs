//! The agent: sources, plans, application, the watch, the command line.

pub mod apply;
pub mod cli;
pub mod clock;
pub mod cycle;
pub mod daemon;
pub mod host;
mod human;
pub mod ledger;
pub mod linux;
pub mod plan;
pub mod progress;
pub mod reconcile;
pub mod record;
pub mod registry;
pub mod settings;
pub mod site;
pub mod source;
