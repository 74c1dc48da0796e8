//! Containers: what one is told to be, what it is, and the verbs on it.

pub mod config;
pub mod state;
