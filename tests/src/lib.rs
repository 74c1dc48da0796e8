//! The harness: hosts to try things on, and the proof that nothing is left of them.

pub mod authority;
pub mod census;
pub mod host;
pub mod inventory;
pub mod questions;
pub mod repository;
pub mod sample;
pub mod terminal;
pub mod view;
