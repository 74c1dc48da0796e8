//! Manifests of the agent: what a site may say, and the checked form of what it says.
//!
//! ```text
//! bytes ─parse─► Document (a Manifest with positions) ─resolve─► Desired
//! ```
//!
//! No I/O, no clock, no logging, no async: files reach [`resolve`] through [`SiteFiles`], which the caller implements.
//! Every problem of every file is reported in one pass, each with file, line, column and the way out.

pub mod desired;
pub mod diagnostic;
pub mod manifest;
mod parse;
pub mod registries;
mod resolve;
mod schema;
pub mod settings;
mod site;
pub mod value;
mod yaml;

pub use diagnostic::{Diagnostic, Severity};
pub use parse::{Document, FILE_BYTES_MAX, Parsed, parse};
pub use resolve::{Resolved, load, resolve};
pub use schema::{registries_schema, schema};
pub use site::{BuildContext, Dockerfile, SiteContent, SiteFileError, SiteFileKind, SiteFiles};
pub use yaml::nearest;
