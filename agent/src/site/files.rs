//! The files of a checkout, for the checks of the manifests that name them.

use super::repositories::{Commits, Lookup};
use crate::source::{Checkout, content_digest, read_text, resolve_inside};
use runtime::builder::{self, ContextError};
use spec::{BuildContext, Dockerfile, SiteContent, SiteFileError, SiteFileKind, SiteFiles};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Largest environment file: what execve(2) takes for a whole environment by default, 128 KiB a string, many times over.
const ENV_FILE_BYTES_MAX: u64 = 1 << 20;

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

    fn find(&self, path: &str) -> Result<PathBuf, SiteFileError> {
        resolve_inside(self.root, Path::new(path)).map_err(|error| site_error(path, error))
    }
}

impl SiteFiles for CheckoutFiles<'_> {
    fn read_text(&self, path: &str) -> Result<String, SiteFileError> {
        read_text(self.root, Path::new(path), ENV_FILE_BYTES_MAX).map_err(|error| site_error(path, error))
    }

    fn content(&self, path: &str) -> Result<SiteContent, SiteFileError> {
        let found = self.find(path)?;
        let metadata = fs::metadata(&found).map_err(|error| site_error(path, error))?;
        let kind = if metadata.is_dir() { SiteFileKind::Directory } else { SiteFileKind::File };
        let digest = content_digest(&found).map_err(|error| site_error(path, error))?;
        Ok(SiteContent { kind, digest })
    }

    fn build_context(&self, context: &str, dockerfile: Dockerfile<'_>) -> Result<BuildContext, SiteFileError> {
        let found = self.find(context)?;
        if !found.is_dir() {
            return Err(SiteFileError::WrongType { path: context.to_owned(), wanted: "a directory" });
        }
        let (of_dockerfile, text) = match dockerfile {
            Dockerfile::Inline(text) => ("inline".to_owned(), text.to_owned()),
            Dockerfile::File(dockerfile) => {
                let path = if context == "." { dockerfile.to_owned() } else { format!("{context}/{dockerfile}") };
                let text = self.read_text(&path)?;
                (path, text)
            }
        };
        let references = builder::base_references(&of_dockerfile, &text, &BTreeMap::new(), None).map_err(|mut problems| {
            let first = problems.remove(0);
            SiteFileError::Dockerfile {
                path: of_dockerfile.clone(),
                line: u32::try_from(first.place.line).unwrap_or(u32::MAX),
                problem: first.problem,
            }
        })?;
        let content = match dockerfile {
            Dockerfile::Inline(text) => builder::inline_context_digest(&found, text, None),
            Dockerfile::File(dockerfile) => builder::context_digest(&found, Path::new(dockerfile), None),
        };
        let content = content.map_err(|error| context_error(context, error))?;
        Ok(BuildContext { content, references: references.into_iter().collect() })
    }

    fn repository(&self, address: &str) -> Option<String> {
        Some(self.repositories.as_ref()?.commit(address)?.to_string())
    }

    fn live_root(&self) -> Option<&Path> {
        self.live.then_some(self.root)
    }
}

fn site_error(path: &str, error: io::Error) -> SiteFileError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => SiteFileError::Missing { path },
        io::ErrorKind::CrossesDevices => SiteFileError::Outside { path },
        io::ErrorKind::FileTooLarge => SiteFileError::TooLarge { path, bytes_max: ENV_FILE_BYTES_MAX },
        io::ErrorKind::InvalidData => SiteFileError::NotText { path },
        io::ErrorKind::IsADirectory => SiteFileError::WrongType { path, wanted: "a file" },
        io::ErrorKind::InvalidInput => SiteFileError::WrongType { path, wanted: "a file or directory" },
        _ => SiteFileError::Read { path, source: error },
    }
}

fn context_error(context: &str, error: ContextError) -> SiteFileError {
    SiteFileError::Read { path: context.to_owned(), source: io::Error::other(crate::host::chain(&error)) }
}
