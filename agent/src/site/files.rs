//! The files of a checkout, for the checks of the manifests that name them.

use super::repositories::{Commits, Lookup};
use crate::source::{Checkout, CommitId, content_digest, read_text, resolve_inside};
use runtime::builder::remote::{GitReference, git_reference};
use runtime::builder::{self, ContextError};
use spec::value::Digest;
use spec::{BuildContext, Dockerfile, SiteContent, SiteFileError, SiteFileKind, SiteFiles};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Largest environment file or Dockerfile. execve(2) takes 128 KiB a string by default, and people write less.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// The files of one checkout.
pub struct CheckoutFiles<'a> {
    root: &'a Path,
    live: bool,
    /// Without it no repository is asked.
    repositories: Option<Lookup<'a>>,
}

impl<'a> CheckoutFiles<'a> {
    /// Those below a checkout's root.
    pub(super) fn new(checkout: &'a Checkout, repositories: Option<Lookup<'a>>) -> Self {
        Self { root: &checkout.root, live: checkout.live, repositories }
    }

    /// What the repositories stood for that were asked for.
    pub(super) fn into_commits(self) -> Commits {
        self.repositories.map(Lookup::into_found).unwrap_or_default()
    }

    /// A context that is a repository: its commit is what it holds. Whether its Dockerfile can be built is not the site's fault.
    fn repository_context(
        &self,
        address: &str,
        git: Result<GitReference, String>,
        dockerfile: Dockerfile<'_>,
    ) -> Result<BuildContext, SiteFileError> {
        let git = git.map_err(|problem| SiteFileError::Read { path: address.to_owned(), source: io::Error::other(problem) })?;
        let checkout = self.repositories.as_ref().and_then(|repositories| repositories.checkout(address));
        let commit = checkout.as_ref().and_then(|checkout| checkout.revision.commit());
        let (content, references) = match dockerfile {
            Dockerfile::Inline(text) => (text, references("inline", text)?),
            Dockerfile::File(path) => {
                let below = Path::new(git.subdirectory.as_deref().unwrap_or_default().trim_start_matches('/')).join(path);
                let text = checkout.as_ref().and_then(|checkout| read_text(&checkout.root, &below, TEXT_BYTES_MAX).ok());
                (path, text.and_then(|text| references(path, &text).ok()).unwrap_or_default())
            }
        };
        let content = Digest::of(format!("{address}\0{}\0{content}", commit.map(CommitId::as_str).unwrap_or_default()).as_bytes());
        Ok(BuildContext { content, references })
    }

    fn find(&self, path: &str) -> Result<PathBuf, SiteFileError> {
        resolve_inside(self.root, Path::new(path)).map_err(|error| site_error(path, error))
    }
}

impl SiteFiles for CheckoutFiles<'_> {
    fn read_text(&self, path: &str) -> Result<String, SiteFileError> {
        read_text(self.root, Path::new(path), TEXT_BYTES_MAX).map_err(|error| site_error(path, error))
    }

    fn content(&self, path: &str) -> Result<SiteContent, SiteFileError> {
        let found = self.find(path)?;
        let metadata = fs::metadata(&found).map_err(|error| site_error(path, error))?;
        let kind = if metadata.is_dir() { SiteFileKind::Directory } else { SiteFileKind::File };
        let digest = content_digest(&found).map_err(|error| site_error(path, error))?;
        Ok(SiteContent { kind, digest })
    }

    fn build_context(&self, context: &str, dockerfile: Dockerfile<'_>) -> Result<BuildContext, SiteFileError> {
        if let Some(git) = git_reference(context) {
            return self.repository_context(context, git, dockerfile);
        }
        if context.contains("://") {
            return Err(SiteFileError::WrongType { path: context.to_owned(), wanted: "a directory or a repository" });
        }
        let found = self.find(context)?;
        if !found.is_dir() {
            return Err(SiteFileError::WrongType { path: context.to_owned(), wanted: "a directory" });
        }
        let references = match dockerfile {
            Dockerfile::Inline(text) => references("inline", text)?,
            Dockerfile::File(dockerfile) => {
                let path = if context == "." { dockerfile.to_owned() } else { format!("{context}/{dockerfile}") };
                references(&path, &self.read_text(&path)?)?
            }
        };
        let content = match dockerfile {
            Dockerfile::Inline(text) => builder::inline_context_digest(&found, text, None),
            Dockerfile::File(dockerfile) => builder::context_digest(&found, Path::new(dockerfile), None),
        };
        let content = content.map_err(|error| context_error(context, error))?;
        Ok(BuildContext { content, references })
    }

    fn repository(&self, address: &str) -> Option<String> {
        Some(self.repositories.as_ref()?.commit(address)?.to_string())
    }

    fn live_root(&self) -> Option<&Path> {
        self.live.then_some(self.root)
    }
}

/// The images that a Dockerfile names.
fn references(path: &str, text: &str) -> Result<Vec<String>, SiteFileError> {
    let references = builder::base_references(path, text, &BTreeMap::new(), None).map_err(|mut problems| {
        let first = problems.remove(0);
        let line = u32::try_from(first.place.line).unwrap_or(u32::MAX);
        SiteFileError::Dockerfile { path: path.to_owned(), line, problem: first.problem }
    })?;
    Ok(references.into_iter().collect())
}

fn site_error(path: &str, error: io::Error) -> SiteFileError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => SiteFileError::Missing { path },
        io::ErrorKind::CrossesDevices => SiteFileError::Outside { path },
        io::ErrorKind::FileTooLarge => SiteFileError::TooLarge { path, bytes_max: TEXT_BYTES_MAX },
        io::ErrorKind::InvalidData => SiteFileError::NotText { path },
        io::ErrorKind::IsADirectory => SiteFileError::WrongType { path, wanted: "a file" },
        io::ErrorKind::InvalidInput => SiteFileError::WrongType { path, wanted: "a file or directory" },
        _ => SiteFileError::Read { path, source: error },
    }
}

fn context_error(context: &str, error: ContextError) -> SiteFileError {
    SiteFileError::Read { path: context.to_owned(), source: io::Error::other(crate::host::chain(&error)) }
}
