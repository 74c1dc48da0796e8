//! Repositories for builds: what ADD and contexts name, fetched by the agent's own Git. Blocking.

use crate::host::chain;
use crate::source::{Revision, Source, SourceOptions, SourceSpec};
use runtime::builder::remote::{GitFetch, GitReference, GitTree};
use std::path::PathBuf;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Fetches into the agent's state directory: a commit that is here already is not transferred again.
#[derive(Debug, Clone)]
pub(super) struct Repositories {
    /// The agent's state directory.
    pub(super) state: PathBuf,
}

impl GitFetch for Repositories {
    fn fetch(&self, git: &GitReference) -> Result<GitTree, BoxError> {
        let options = SourceOptions { branch: git.reference.clone(), ..SourceOptions::default() };
        let spec = SourceSpec::parse(&git.remote, options).map_err(|error| format!("{error} ({})", error.hint))?;
        let checkout = Source::open(spec, &self.state)?.fetch().map_err(|error| chain(&error))?;
        match &checkout.revision {
            Revision::Commit { id, .. } => {
                Ok(GitTree { commit: id.as_str().to_owned(), root: checkout.root.clone(), hold: Box::new(checkout) })
            }
            Revision::Directory { .. } => Err(format!("{} is a directory, not a repository", git.remote).into()),
        }
    }
}
