//! A site as loaded: the files of a checkout, read and checked.

mod files;
pub mod repositories;

use crate::plan::actual::SiteId;
use crate::source::manifests::{ManifestError, manifest_files};
use crate::source::{Checkout, FetchError, Revision};
use files::CheckoutFiles;
use repositories::{Commits, Lookup};
use spec::Diagnostic;
use spec::desired::Desired;
use spec::value::Digest;
use std::path::{Path, PathBuf};

/// What a site says, and where it was read.
#[derive(Debug)]
pub struct Site {
    /// Whose resources it makes.
    pub id: SiteId,
    /// Where its files lie; kept from being removed by [`Site::checkout`].
    pub root: PathBuf,
    /// What it should be.
    pub desired: Desired,
    /// Doubts that do not stop it.
    pub warnings: Vec<Diagnostic>,
    /// What was left out, for people.
    pub notes: Vec<String>,
    /// What it was read from.
    pub checkout: Checkout,
    /// What the repositories stood for that its builds take from.
    pub commits: Commits,
}

/// Why a site cannot be used. Nothing on the host is changed by any of them.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// Its source cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Its manifests cannot be told.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// Its manifests are wrong.
    #[error("{} in the manifests", problems(.0.len()))]
    Invalid(Vec<Diagnostic>),
    /// There are none.
    #[error("{} has no manifests", .0.display())]
    Empty(PathBuf),
}

/// Reads and checks the site of a checkout. Repositories that its builds name are asked what they stand for, unless that is `known`;
/// `state` is where they are kept.
///
/// A site without a single manifest is refused: it is far more often a wrong path than the wish to remove everything,
/// and `destroy` is there for that.
pub fn load(checkout: Checkout, state: &Path, known: &Commits) -> Result<Site, SiteError> {
    let manifests = manifest_files(&checkout.root)?;
    if manifests.files.is_empty() {
        return Err(SiteError::Empty(checkout.root));
    }
    let files = CheckoutFiles::new(&checkout, Some(Lookup::new(state, known)));
    let texts = manifests.files.iter().map(|(path, text)| (path.as_str(), text.as_bytes()));
    let resolved = spec::load(texts, &files).map_err(SiteError::Invalid)?;
    let notes = checkout.notes.iter().cloned().chain(manifests.ignored.iter().map(|path| format!("{path} is no manifest"))).collect();
    let commits = files.into_commits();
    let (id, root) = (checkout.site.clone(), checkout.root.clone());
    Ok(Site { id, root, desired: resolved.desired, warnings: resolved.warnings, notes, checkout, commits })
}

/// A site of manifests that lie in no file.
pub fn unwritten(id: SiteId, manifests: &[serde_json::Value]) -> Result<Site, Vec<Diagnostic>> {
    let text = manifests.iter().map(|manifest| manifest.to_string()).collect::<Vec<_>>().join("\n---\n");
    let checkout = Checkout::nowhere(id.clone(), Digest::of(text.as_bytes()));
    let resolved = spec::load([("command line", text.as_bytes())], &CheckoutFiles::new(&checkout, None))?;
    let root = checkout.root.clone();
    let (desired, warnings) = (resolved.desired, resolved.warnings);
    Ok(Site { id, root, desired, warnings, notes: Vec::new(), checkout, commits: Commits::new() })
}

impl Site {
    /// The revision it was read at.
    pub fn revision(&self) -> &Revision {
        &self.checkout.revision
    }
}

fn problems(count: usize) -> String {
    if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") }
}
