//! PURE: no I/O, no clock, no randomness. `plan(desired, actual, policy)` decides everything; applying a plan decides nothing.

pub mod action;
pub mod actual;
