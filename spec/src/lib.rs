//! Manifests of the agent: what a site may say, and the checked form of what it says.
//!
//! ```text
//! bytes ─parse─► Manifest ─resolve─► Desired
//! ```
//!
//! No I/O, no clock, no logging, no async: files reach [`resolve`] through a trait that the caller implements.

pub mod desired;
pub mod value;
