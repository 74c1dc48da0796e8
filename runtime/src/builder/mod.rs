//! Images from Dockerfiles.

pub mod file;
pub mod ignore;
pub mod pattern;
pub mod tree;
pub mod words;
