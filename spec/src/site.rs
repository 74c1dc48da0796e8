//! The files of a site, as far as manifests name them: the one thing [`crate::resolve`] asks of the world.

use crate::value::Digest;
use std::path::Path;

/// Files beside the manifests. Paths are relative to the site's root, normalised, without `..`, separated by `/`;
/// `.` is the root itself. An implementation never follows a symbolic link out of the site.
pub trait SiteFiles {
    /// The text of an environment file.
    fn read_text(&self, path: &str) -> Result<String, SiteFileError>;

    /// The content of a file or of a whole directory tree: what a read-only bind or an image archive depends on.
    fn content(&self, path: &str) -> Result<SiteContent, SiteFileError>;

    /// What a build depends on. `context` is relative to the site's root, or the address of a repository: what is wrong in there does not
    /// refuse the site, the build will tell.
    fn build_context(&self, context: &str, dockerfile: Dockerfile<'_>) -> Result<BuildContext, SiteFileError>;

    /// The commit that the address of a repository stands for now. `None` if that cannot be told: its address alone then says what it is.
    fn repository(&self, address: &str) -> Option<String>;

    /// The site's directory on this host, where it is one that lasts and may be written to: a directory source has one,
    /// a Git source (a checkout that is replaced as a whole) has none.
    fn live_root(&self) -> Option<&Path>;
}

/// Where a Dockerfile's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dockerfile<'a> {
    /// In a file, by its path relative to the context.
    File(&'a str),
    /// In the manifest itself.
    Inline(&'a str),
}

/// A file or a tree and the digest of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteContent {
    /// File or directory.
    pub kind: SiteFileKind,
    /// Of a file: its bytes. Of a directory: names, modes, link targets and bytes of all below it, in a fixed order.
    pub digest: Digest,
}

/// What a path is; a symbolic link within the site counts as what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteFileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// What a build depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildContext {
    /// Digest of the Dockerfile and of the context after `.dockerignore`; of a repository that of its commit.
    pub content: Digest,
    /// The images named by `FROM` and `COPY --from`, as written after substitution of defaults; stages and `scratch` may be among them.
    pub references: Vec<String>,
}

/// Why a file of the site cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SiteFileError {
    /// There is nothing at this path.
    #[error("{path} does not exist")]
    Missing {
        /// The path, relative to the site's root.
        path: String,
    },
    /// It is something else than is wanted here, a socket for instance.
    #[error("{path} is not {wanted}")]
    WrongType {
        /// The path, relative to the site's root.
        path: String,
        /// What would do: `a file`, `a directory`.
        wanted: &'static str,
    },
    /// A symbolic link leads out of the site.
    #[error("{path} leads out of the site")]
    Outside {
        /// The path, relative to the site's root.
        path: String,
    },
    /// It is larger than we are willing to read.
    #[error("{path} has more than {bytes_max} bytes")]
    TooLarge {
        /// The path, relative to the site's root.
        path: String,
        /// The limit.
        bytes_max: u64,
    },
    /// An environment file that is not UTF-8.
    #[error("{path} is not UTF-8 text")]
    NotText {
        /// The path, relative to the site's root.
        path: String,
    },
    /// The Dockerfile cannot be understood.
    #[error("{path}, line {line}: {problem}")]
    Dockerfile {
        /// The Dockerfile, relative to the site's root.
        path: String,
        /// The line, from 1.
        line: u32,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system refused.
    #[error("read {path}")]
    Read {
        /// The path, relative to the site's root.
        path: String,
        /// Its reason.
        #[source]
        source: std::io::Error,
    },
}
