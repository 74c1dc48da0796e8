//! Repositories for builds: what ADD and contexts name, fetched by the agent's own Git. Blocking.

use super::content::copy;
use crate::host::chain;
use crate::ledger::Ledger;
use crate::source::{Checkout, Revision, Source, SourceOptions, SourceSpec, submodules};
use runtime::builder::remote::{GitFetch, GitReference, GitTree};
use runtime::image::store::ImageStore;
use runtime::places::Places;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tracing::warn;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Most repositories that one reference leads to, itself included: each is a connection.
const REPOSITORIES_MAX: usize = 256;
/// Most submodules within each other; also the depth of our recursion.
const DEPTH_MAX: usize = 8;

/// Fetches into the agent's state directory: a commit that is here already is not transferred again.
#[derive(Debug, Clone)]
pub(super) struct Repositories {
    /// Directories of the instance.
    pub(super) places: Places,
    /// Where trees are put together that are not just a commit's.
    pub(super) images: ImageStore,
}

/// A repository's files, and where they are from.
struct Fetched {
    source: Source,
    checkout: Checkout,
}

impl GitFetch for Repositories {
    fn fetch(&self, git: &GitReference) -> Result<GitTree, BoxError> {
        let fetched = self.checkout(&git.remote, git.reference.clone())?;
        let Revision::Commit { id, .. } = &fetched.checkout.revision else {
            return Err(format!("{} is a directory, not a repository", git.remote).into());
        };
        let commit = id.as_str().to_owned();
        git.check(&commit)?;
        let with_submodules = git.submodules && !fetched.checkout.submodules.is_empty();
        if !with_submodules && !git.keep_git_dir {
            return Ok(GitTree { commit, root: fetched.checkout.root.clone(), hold: Box::new(fetched.checkout) });
        }
        let scratch = self.images.scratch()?;
        let root = scratch.path().join("tree");
        copy(&fetched.checkout.root, &root)?;
        if with_submodules {
            self.submodules(&git.remote, &fetched.checkout, &root, (&mut 1, 0))?;
        }
        if git.keep_git_dir {
            fetched.source.write_git_directory(id, &root).map_err(|error| chain(&error))?;
        }
        Ok(GitTree { commit, root, hold: Box::new(scratch) })
    }
}

impl Repositories {
    fn checkout(&self, remote: &str, reference: Option<String>) -> Result<Fetched, BoxError> {
        let options = SourceOptions { branch: reference, ..SourceOptions::default() };
        let spec = SourceSpec::parse(remote, options).map_err(|error| format!("{error} ({})", error.hint))?;
        let source = Source::open(spec, &self.places.state)?;
        let checkout = source.fetch().map_err(|error| chain(&error))?;
        if let Err(error) = self.prune(&source) {
            warn!(error, "old checkouts could not be removed");
        }
        Ok(Fetched { source, checkout })
    }

    /// A branch that moves leaves a checkout each time. Whoever reads an older one holds it; where it is the source of a site, too, the
    /// last good one stays to fall back on.
    fn prune(&self, source: &Source) -> Result<(), String> {
        let sites = match Ledger::read(&self.places.ledger()).map_err(|error| chain(&error))? {
            Some(ledger) => ledger.sites().map_err(|error| chain(&error))?,
            None => Vec::new(),
        };
        let keep: BTreeSet<_> = sites.iter().filter_map(|site| site.good_revision.as_ref()?.commit().cloned()).collect();
        source.prune(&keep).map(drop).map_err(|error| chain(&error))
    }

    /// Fills the directories of a repository's submodules, and of theirs.
    fn submodules(&self, remote: &str, of: &Checkout, into: &Path, (count, depth): (&mut usize, usize)) -> Result<(), BoxError> {
        let urls = match fs::read_to_string(of.root.join(".gitmodules")) {
            Ok(text) => submodules::urls(&text),
            Err(error) => return Err(format!("{remote} has submodules, but no .gitmodules: {error}").into()),
        };
        for (path, commit) in &of.submodules {
            *count += 1;
            if *count > REPOSITORIES_MAX || depth >= DEPTH_MAX {
                return Err(format!("{remote}: more than {REPOSITORIES_MAX} submodules, or {DEPTH_MAX} within each other").into());
            }
            let url = urls.get(path).ok_or_else(|| format!("{remote}: .gitmodules does not say where submodule {path} is"))?;
            let address = submodules::address(remote, url)?;
            let fetched = self.checkout(&address, Some(commit.to_string())).map_err(|error| format!("submodule {path}: {error}"))?;
            let target = into.join(path);
            fs::remove_dir(&target)?;
            copy(&fetched.checkout.root, &target)?;
            if !fetched.checkout.submodules.is_empty() {
                self.submodules(&address, &fetched.checkout, &target, (&mut *count, depth + 1))?;
            }
        }
        Ok(())
    }
}
