//! Images from Dockerfiles.

pub mod cache;
pub mod context;
mod error;
pub mod file;
pub mod graph;
pub mod ignore;
pub mod index;
pub mod pattern;
pub mod scope;
pub mod tree;
pub mod words;

pub use error::{BuildError, StepError};
