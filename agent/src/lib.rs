//! The agent: sources, plans, application, the watch, the command line.

pub mod plan;
