//! The container runtime of the agent. Blocking: no async, no command line, and never a manifest.

mod capability;
pub mod cgroup;
pub mod builder;
pub mod container;
pub mod network;
pub mod image;
pub mod places;
pub mod process;
mod rootfs;
mod seccomp;
pub mod shim;
pub mod store;
mod sys;
