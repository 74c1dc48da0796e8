//! Images from Dockerfiles.
//!
//! ```text
//! text ─file─► statements ─graph─► stages needed ─schedule─► stages side by side ─stage─► per statement: said (metadata)
//!                                                                                    └──► step: layer (cache, or upper directory → store)
//! ```
//!
//! The semantics are BuildKit's. Reproducible: nothing here writes a clock's time (`clock`), a cache key holds content only (`cache`),
//! and all files are reached beneath descriptors (`tree`). RUN is started by the shim, never by this process (`step::run`).

mod build;
pub mod cache;
mod change;
mod clock;
pub mod context;
mod error;
mod event;
pub mod file;
pub mod graph;
pub mod ignore;
mod index;
mod owner;
mod pattern;
mod schedule;
mod scope;
mod stage;
mod state;
mod step;
mod tree;
mod words;

pub use change::{ChangeError, change};
pub use context::{ContextError, context_digest};
pub use error::{BuildError, StepError};
pub use event::{BuildEvent, Progress, Pull, StepEvent, StepLabel};
pub use tree::TreeError;

use crate::image::ImageId;
use crate::image::store::ImageStore;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;

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
    /// Most stages built at the same time; the result is the same for any number.
    pub workers: NonZeroUsize,
}

/// Stages built at the same time where nobody says how many: most of them wait for a network or a disk, so more than there are cores.
pub const WORKERS: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");

impl BuildRequest {
    /// A build of `Dockerfile` in a context, its last stage, everything else as it comes.
    pub fn new(context: PathBuf, shim: PathBuf, state: PathBuf) -> Self {
        Self {
            context,
            dockerfile: "Dockerfile".into(),
            args: BTreeMap::new(),
            target: None,
            bases: BTreeMap::new(),
            shim,
            state,
            caching: Caching::Use,
            workers: WORKERS,
        }
    }
}

/// Whether earlier results count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Yes.
    Use,
    /// No: every step is done again. What it makes is remembered.
    Ignore,
}

/// Builds an image and adds it to the store, without a name: [`ImageStore::tag`] gives it one. `pull` is asked for images that are
/// neither stages nor `bases` of the request.
pub fn build(store: &ImageStore, request: &BuildRequest, pull: &Pull<'_>, progress: &Progress<'_>) -> Result<ImageId, BuildError> {
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
