//! The container runtime of the agent. Blocking: no async, no command line, and never a manifest.

pub mod container;
pub mod network;
pub mod image;
pub mod places;
pub mod shim;
pub mod store;
