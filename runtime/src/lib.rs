//! The container runtime of the agent. Blocking: no async, no command line, and never a manifest.

pub mod builder;
pub mod container;
pub mod image;
pub mod places;
pub mod shim;
pub mod store;
