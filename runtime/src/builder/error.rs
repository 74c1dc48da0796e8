//! Why a build did not work, and where in the Dockerfile.

use super::context::ContextError;
use super::download::DownloadError;
use super::file::{Place, SyntaxError};
use super::tree::{OverlayError, TreeError};
use super::words::WordError;
use crate::image::store::StoreError;
use crate::network::NetworkError;
use crate::store::FileError;
use spec::value::Digest;
use std::io;

/// Why a build did not work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is not one; all that is wrong with it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Syntax(Vec<SyntaxError>),
    /// The context or the Dockerfile cannot be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A step failed.
    #[error("{place}: {}\n{excerpt}\n", .instruction.lines().next().unwrap_or_default())]
    Step {
        /// Where it stands.
        place: Place,
        /// It as written.
        instruction: String,
        /// The Dockerfile there, its lines numbered, the instruction's marked with `>>>`.
        excerpt: String,
        /// Why.
        #[source]
        source: Box<StepError>,
    },
    /// The image store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The build cache.
    #[error("build cache: {}", .0)]
    Cache(#[source] FileError),
    /// A cache elsewhere, of which all is wanted.
    #[error(transparent)]
    SharedCache(Box<StepError>),
    /// Another stage failed; that failure is the one to tell.
    #[error("stopped because another stage failed")]
    Stopped,
}

impl BuildError {
    /// Whether this only says that another stage failed.
    pub(super) fn is_stopped(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Step { source, .. } => matches!(**source, StepError::Stopped),
            Self::Syntax(_) | Self::Context(_) | Self::Store(_) | Self::Cache(_) | Self::SharedCache(_) => false,
        }
    }

    /// Whether the build can do without what was missing if it begins again.
    pub(super) fn is_curable(&self) -> bool {
        let Self::Step { source, .. } = self else { return false };
        source.lost_layer().is_some()
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Substitution.
    #[error(transparent)]
    Words(#[from] WordError),
    /// A command that did not end with 0.
    #[error("the command ended with exit code {code}: {}{}", .command.join(" "), tail(.output))]
    Exit {
        /// Program and arguments.
        command: Vec<String>,
        /// Exit code; 128 + signal for a signal.
        code: i32,
        /// Last lines of its output.
        output: Vec<String>,
    },
    /// A process that could not be started or waited for.
    #[error("{operation} {program}")]
    Process {
        /// What was tried.
        operation: &'static str,
        /// On which program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A source that is not there.
    #[error("{source_path:?} is not in {origin}{}", if *.hidden { ": it is hidden by .dockerignore" } else { "" })]
    NoSource {
        /// As written, after substitution.
        source_path: String,
        /// Where it was looked for.
        origin: String,
        /// Whether it is there but hidden.
        hidden: bool,
    },
    /// A secret or agent that a mount requires.
    #[error("{what} {id:?} is required and was not given: see {option} of the build")]
    NotGiven {
        /// `secret` or `ssh agent`.
        what: &'static str,
        /// Its id.
        id: String,
        /// The option that gives one.
        option: &'static str,
    },
    /// A base image that cannot be had.
    #[error("image {reference}")]
    Image {
        /// As written, after substitution.
        reference: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer of a build cache elsewhere that cannot be had, or for which there is no room.
    #[error("layer {layer} of the build cache")]
    SharedLayer {
        /// Its diff id.
        layer: Digest,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file from the web.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A repository.
    #[error("fetch {remote}")]
    Git {
        /// As written, after substitution.
        remote: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An argument that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Another stage failed; that failure is the one to tell.
    #[error("stopped because another stage failed")]
    Stopped,
    /// `RUN --network=host` in a build that does not allow it.
    #[error("--network=host is not allowed: build with --allow network.host or --network host; in a manifest, write build.network: host")]
    HostNetwork,
    /// A network of its own.
    #[error("give the command a network of its own; build with --network host or --network none to do without")]
    Network(#[from] NetworkError),
    /// Files.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What the shim is told.
    #[error("tell the shim what to run")]
    Bundle(#[source] Box<crate::container::ContainerError>),
    /// Mounts.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The image store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files of our own.
    #[error(transparent)]
    File(#[from] FileError),
    /// An ONBUILD trigger of the base image.
    #[error("ONBUILD of the base image: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Trigger(Vec<SyntaxError>),
}

fn tail(output: &[String]) -> String {
    output.iter().map(|line| format!("\n    {line}")).collect()
}
