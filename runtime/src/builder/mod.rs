//! Images from Dockerfiles.
//!
//! ```text
//! text ─file─► statements ─graph─► stages needed ─schedule─► stages side by side ─stage─► per statement: said (metadata)
//!                                                                                    └──► step: layer (cache, or upper directory → store)
//! ```
//!
//! The semantics are BuildKit's. Reproducible: nothing here writes a clock's time (`clock`), a cache key holds content only (`cache`),
//! and all files are reached beneath descriptors (`tree`). RUN is started by the shim, never by this process (`step::process`), in a
//! network of its own ([`crate::network::Sandboxes`]); what it mounts is made ready by `step::mount`. What waits for a network does so
//! on a thread that a failing build leaves to itself (`fetch`).
//!
//! COPY: the sources are scanned once (`step::source`), those whose content is not known by their stat are read on all processors
//! (`index`, `learn`), and all of it makes the key. A miss merges them in memory over what the layers below show (`tree::draft`) and
//! writes the new upper directory and the layer's stream in one pass, hashed beside (`tree::write`); what the same instruction's layer
//! of last time has already is hard-linked (`earlier`).
//!
//! Caches of other hosts: an image says which steps made its layers (`share`), a step that matches counts as done, and its layer is
//! fetched when somebody looks into it (`distant`).
//!
//! Where this differs from BuildKit, and why:
//! - Files of the context are dated by the build's fixed time, and bring no extended attributes: Git keeps neither.
//! - `--exclude` also leaves out names that a wildcard brings in, as the documentation says and the code does not; variables work in it.
//! - A step that changed nothing has no layer, and its line of history is `empty_layer`; BuildKit adds an empty one.
//! - RUN has `HOSTNAME` in its environment, as containers have, and as with the builder before BuildKit.
//! - Errors where BuildKit goes on: a name in `--chown` that the image does not know (it takes root) or a number above 2147483647, an
//!   archive that breaks off, a trigger of ONBUILD that is no instruction, a STOPSIGNAL that is no signal, a file named `.wh.…`.
//! - No errors where BuildKit stops: a later tree wins over an earlier one, also a file over a directory and the reverse, as with the
//!   builders before it; sockets are left out.
//! - A repository's `.git` holds the commit and nothing else, without times, so that it is the same every time; no `git://`, which
//!   anybody on the way can change.
//! - RUN `--network=host` is allowed by `--allow network.host`, or by being the network of the whole build.
//! - RUN `--security=insecure` and `--device` are refused: a build's commands never get more than a container's.
//! - A bound directory of the context is the directory itself where all of it belongs to root. What changes there while a command runs
//!   is seen by it, and then the step is not remembered; BuildKit has copied the context before.
//! - A cache that is `locked` keeps those out that would share it; BuildKit gives them another one.
//! - Taken besides: `--target` and a mount's `from` by number; lines of any length; the server's name for a file of the web whose URL
//!   has none; podman's `z`, `Z` and `relabel` of mounts, which mean nothing here. Keys for ssh mounts have no passphrase; for others
//!   there is `ssh-agent`.
//!
//! Where BuildKit itself has changed:
//! - As in Docker 20.10 and the builders before it: `!**/x` of `.dockerignore` brings nothing back from a directory that is left out, an
//!   archive says itself whose its files are whatever `--chown` says, and a directory made for a destination is 0755 whatever `--chmod`
//!   says (today an octal mode less BuildKit's own umask: with 0644 only root may enter).
//! - As today: a directory made for a mount goes with it (the one in Docker 20.10 leaves it empty), and EXPOSE in the history.

mod build;
pub mod cache;
mod cache_mount;
mod change;
mod clock;
pub mod context;
mod distant;
mod download;
mod earlier;
mod error;
mod event;
mod fetch;
pub mod file;
mod given;
pub mod graph;
mod history;
pub mod ignore;
mod index;
mod learn;
pub mod lint;
mod make;
mod output;
mod owner;
mod pattern;
pub mod remote;
mod schedule;
mod scope;
pub mod share;
mod ssh;
mod stage;
mod state;
mod step;
mod tree;
pub mod words;

pub use cache_mount::{CacheMount, CacheMounts, Sharing};
pub use change::{ChangeError, change};
pub use context::{ContextError, context_digest, inline_context_digest};
pub use distant::complete_cache;
pub use download::{DownloadError, KeptDownload};
pub use error::{BuildError, StepError};
pub use event::{BuildEvent, Progress, Pull, StepEvent, StepLabel};
pub use given::{Given, SECRET_BYTES_MAX, Secret};
pub use output::{OutputError, export_directory, export_tar};
pub use ssh::{KEY_BYTES_MAX, KeyError, PrivateKey, SshAgent};
pub use tree::TreeError;

use crate::image::ImageId;
use crate::image::store::ImageStore;
use crate::places::Places;
use file::RunNetwork;
use remote::GitFetch;
use spec::value::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The directory COPY and ADD take from.
    pub context: PathBuf,
    /// The Dockerfile: relative to the context, or absolute.
    pub dockerfile: PathBuf,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Labels the image gets besides its own, over those of the same name.
    pub labels: BTreeMap<String, String>,
    /// Stage to build, by name or number; the last one if `None`.
    pub target: Option<String>,
    /// The Dockerfile's text, if it is not a file: written in a manifest, or read from a pipe.
    pub inline: Option<String>,
    /// Contexts by name: what `FROM name` and `--from=name` mean, before stages and images.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Fetches the repositories that ADD names; without it there are none.
    pub git: Option<Arc<dyn GitFetch>>,
    /// Images of the site that the Dockerfile may name.
    pub bases: BTreeMap<String, ImageId>,
    /// The program `container-shim`.
    pub shim: PathBuf,
    /// Directories of the instance: they name the control groups of RUN steps, and hold in memory what must not reach a disk.
    pub places: Places,
    /// The network of RUN steps that do not say which.
    pub network: RunNetwork,
    /// Whether RUN steps may ask for the host's; if it is the network of the build they may.
    pub host_network: HostNetwork,
    /// What RUN steps may use and no result contains.
    pub given: Given,
    /// Whether earlier results count.
    pub caching: Caching,
    /// Whether the image says which steps made its layers, for hosts that build from it.
    pub inline_cache: InlineCache,
    /// Most stages built at the same time; the result is the same for any number.
    pub workers: NonZeroUsize,
}

/// Stages built at the same time where nobody says how many: most of them wait for a network or a disk, so more than there are cores.
pub const WORKERS: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");

impl BuildRequest {
    /// A build of `Dockerfile` in a context, its last stage, everything else as it comes.
    pub fn new(context: PathBuf, shim: PathBuf, places: Places) -> Self {
        Self {
            context,
            dockerfile: "Dockerfile".into(),
            args: BTreeMap::new(),
            labels: BTreeMap::new(),
            target: None,
            inline: None,
            contexts: BTreeMap::new(),
            git: None,
            bases: BTreeMap::new(),
            shim,
            places,
            network: RunNetwork::Default,
            host_network: HostNetwork::Refuse,
            given: Given::default(),
            caching: Caching::Use,
            inline_cache: InlineCache::Omit,
            workers: WORKERS,
        }
    }
}

/// What a name stands for instead of a stage or an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory, less what its `.dockerignore` hides.
    Directory(PathBuf),
    /// An image by reference.
    Image(String),
}

/// Whether earlier results count. What steps make is remembered in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caching {
    /// Yes.
    Use,
    /// No: every step is done again.
    Ignore,
    /// Not in these stages, by name in lower case.
    IgnoreStages(BTreeSet<String>),
}

/// Whether a step may ask for the host's network: BuildKit's entitlement `network.host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostNetwork {
    /// Yes.
    Allow,
    /// No, it is an error.
    Refuse,
}

/// Whether an image says which steps made its layers. It then has another digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InlineCache {
    /// Yes.
    Add,
    /// No.
    Omit,
}

/// What a build came to.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image, in the store.
    pub image: ImageId,
    /// All steps of all stages that were needed.
    pub steps: share::Steps,
}

/// What a build may take from elsewhere.
#[derive(Clone, Copy)]
pub struct Elsewhere<'a> {
    /// Asked for images that are neither stages nor `bases` of the request.
    pub pull: &'a Pull<'a>,
    /// Caches of other hosts, the one to be asked first first. Of what they know only that is fetched which a step needs.
    pub caches: &'a [share::SharedCache<'a>],
}

/// Builds an image and adds it to the store, without a name: [`ImageStore::tag`] gives it one.
pub fn build(store: &ImageStore, request: &BuildRequest, from: Elsewhere<'_>, progress: &Progress<'_>) -> Result<Built, BuildError> {
    make::make(store, request, from, progress)
}

/// The build cache of a store.
pub fn cache_of(store: &ImageStore) -> Result<cache::Cache, crate::store::FileError> {
    cache::Cache::open(&store.directory().join("build-cache"))
}

/// The files of the web that builds of a store took, the one that has not served for the longest time first.
pub fn downloads(store: &ImageStore) -> Result<Vec<KeptDownload>, crate::store::FileError> {
    download::Downloads::of(store).list()
}

/// Removes one of them. No build runs meanwhile.
pub fn remove_download(store: &ImageStore, digest: &Digest) -> Result<(), crate::store::FileError> {
    download::Downloads::of(store).remove(digest)
}

/// Unpacks an archive (tar, plain or compressed) into an empty directory as a build context: all of it belongs to root. `false` if the
/// file is no archive.
pub fn unpack_context(archive: &Path, directory: &Path) -> Result<bool, TreeError> {
    let parent = tree::Root::open(archive.parent().unwrap_or(Path::new("/")))?;
    let name = archive.file_name().unwrap_or_default().as_encoded_bytes();
    tree::unpack(parent.descriptor(), name, &tree::Root::open(directory)?, b"/", (tree::Owner::ROOT, tree::ArchiveOwners::Root))
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
