//! The per-container monitor: a small process that starts the container, keeps its logs, answers its DNS, probes its health,
//! restarts it by policy, and outlives the agent. Talked to through [`protocol`].

pub mod dns;
pub mod fifo;
pub mod log;
pub mod policy;
pub mod protocol;
