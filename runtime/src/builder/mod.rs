//! Images from Dockerfiles.
//!
//! ```text
//! text ─file─► statements ─graph─► stages needed, in order ─build─► per statement: step ─► said  (metadata)
//!                                                                                └──────► layer (cache, or upper directory → store)
//! ```
//!
//! The semantics are BuildKit's. Reproducible: nothing here writes a clock's time (`clock`), a cache key holds content only (`cache`),
//! and all files are reached beneath descriptors (`tree`). RUN is started by the shim, never by this process (`step::run`).

mod build;
pub mod cache;
mod clock;
pub mod context;
mod error;
pub mod file;
pub mod graph;
pub mod ignore;
mod index;
mod owner;
mod pattern;
mod scope;
mod state;
mod step;
mod tree;
mod words;

pub use context::{ContextError, context_digest};
pub use error::{BuildError, StepError};
pub use tree::TreeError;

use crate::image::ImageId;
use crate::image::store::ImageStore;
use spec::value::ImageReference;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Fetches an image that is neither a stage nor one of the site: from the store by name, or from its registry.
pub type Pull<'a> = dyn FnMut(&ImageReference) -> Result<ImageId, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// Is told how a build goes on.
pub type Progress<'a> = dyn FnMut(BuildEvent<'_>) + 'a;

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The directory COPY and ADD take from.
    pub context: PathBuf,
    /// The Dockerfile: relative to the context, or absolute.
    pub dockerfile: PathBuf,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Stage to build, by name or number; the last one if `None`.
    pub target: Option<String>,
    /// Images of the site that the Dockerfile may name.
    pub bases: BTreeMap<String, ImageId>,
    /// The program `container-shim`.
    pub shim: PathBuf,
    /// State directory of the instance: it names the control groups of RUN steps.
    pub state: PathBuf,
    /// Whether earlier results count.
    pub caching: Caching,
}

/// Whether earlier results count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Yes.
    Use,
    /// No: every step is done again. What it makes is remembered.
    Ignore,
}

/// How a build goes on.
#[derive(Debug)]
pub enum BuildEvent<'a> {
    /// A step begins.
    Started {
        /// Its number, from 1.
        step: usize,
        /// How many there are; triggers of base images add to it as they are found.
        steps: usize,
        /// It as written.
        instruction: &'a str,
    },
    /// An image is looked for in the store and in its registry.
    Fetching {
        /// Which.
        reference: &'a ImageReference,
    },
    /// The step that began last was done before.
    Cached {
        /// Its number.
        step: usize,
    },
    /// A line of a command's output.
    Output {
        /// The step's number.
        step: usize,
        /// The line without its end.
        line: &'a str,
    },
    /// A step is done.
    Finished {
        /// Its number.
        step: usize,
        /// How long it took.
        took: Duration,
    },
}

/// Builds an image and adds it to the store, without a name: [`ImageStore::tag`] gives it one. `pull` is asked for images that are
/// neither stages nor `bases` of the request.
pub fn build(store: &ImageStore, request: &BuildRequest, pull: &mut Pull<'_>, progress: &mut Progress<'_>) -> Result<ImageId, BuildError> {
    build::build(store, request, pull, progress)
}

/// The build cache of a store.
pub fn cache_of(store: &ImageStore) -> Result<cache::Cache, crate::store::FileError> {
    cache::Cache::open(&store.directory().join("build-cache"))
}

/// The images that a Dockerfile's last stage (or `target`) needs: what its FROM and `COPY --from` name and is neither a stage nor
/// `scratch`, after substitution, sorted.
pub fn base_references(
    dockerfile: &str,
    text: &str,
    args: &BTreeMap<String, String>,
    target: Option<&str>,
) -> Result<BTreeSet<String>, Vec<file::SyntaxError>> {
    let file = file::parse(dockerfile, text)?;
    let graph = graph::Graph::new(&file, args, target).map_err(|error| vec![error])?;
    Ok(graph.images())
}
