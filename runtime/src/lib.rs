//! The container runtime of the agent. Blocking: no async, no command line, and never a manifest.

pub mod builder;
mod capability;
pub mod cause;
pub mod cgroup;
pub mod console;
pub mod container;
pub mod engine;
pub mod heap;
pub mod image;
pub mod network;
pub mod places;
pub mod process;
mod rootfs;
mod seccomp;
pub mod shim;
pub mod store;
mod sys;
pub mod time;
pub mod volume;
