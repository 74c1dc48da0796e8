//! The repositories that a site's builds take from, and the commits their addresses stand for. Blocking; nothing is built here.

use crate::source::{Checkout, CommitId, FetchError, Source, SourceOptions, SourceSpec};
use runtime::builder::remote::{GitReference, git_reference};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Addresses as manifests write them (`https://host/repo.git#main:web`), and the commits they stand for. `None`: the repository is out
/// of reach and always was.
pub type Commits = BTreeMap<String, Option<CommitId>>;

/// What one load of a site knows of repositories, and what it learned.
pub(super) struct Lookup<'a> {
    state: &'a Path,
    known: &'a Commits,
    found: RefCell<Commits>,
}

impl<'a> Lookup<'a> {
    /// Addresses that are `known` are not asked for; `state` is where the others are kept.
    pub(super) fn new(state: &'a Path, known: &'a Commits) -> Self {
        Self { state, known, found: RefCell::default() }
    }

    /// What an address stands for. One that is out of reach is what it was last: the build says why, if it comes to one.
    pub(super) fn commit(&self, address: &str) -> Option<CommitId> {
        let git = read(address)?;
        let commit = self.before(address).unwrap_or_else(|| newest(&open(&git, self.state)?)?.revision.commit().cloned());
        self.found.borrow_mut().insert(address.to_owned(), commit.clone());
        commit
    }

    /// The files that an address stands for.
    pub(super) fn checkout(&self, address: &str) -> Option<Checkout> {
        let git = read(address)?;
        let checkout = open(&git, self.state).and_then(|source| match self.before(address) {
            Some(None) => None,
            Some(Some(commit)) => source.checkout_of(&commit).ok().flatten().or_else(|| newest(&source)),
            None => newest(&source),
        });
        let commit = checkout.as_ref().and_then(|checkout| checkout.revision.commit().cloned());
        self.found.borrow_mut().insert(address.to_owned(), commit);
        checkout
    }

    /// What is known already.
    fn before(&self, address: &str) -> Option<Option<CommitId>> {
        self.found.borrow().get(address).or_else(|| self.known.get(address)).cloned()
    }

    /// All that was asked for.
    pub(super) fn into_found(self) -> Commits {
        self.found.into_inner()
    }
}

/// Addresses by the repository they are of. What stands for one commit for ever is none to be asked again.
pub fn by_repository<'a>(addresses: impl Iterator<Item = &'a String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut repositories: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for address in addresses {
        let Some(git) = read(address) else { continue };
        if git.reference.as_ref().is_none_or(|reference| reference.parse::<CommitId>().is_err()) {
            repositories.entry(git.remote).or_default().insert(address.clone());
        }
    }
    repositories
}

/// Asks a repository, once, what addresses of it stand for now. Nothing is transferred. Of the first problem is told; what it does not
/// touch is answered all the same.
pub fn ask(repository: &str, addresses: &BTreeSet<String>, state: &Path) -> (BTreeMap<String, CommitId>, Option<FetchError>) {
    let wanted: Vec<_> = addresses.iter().filter_map(|address| Some((address, read(address)?))).collect();
    let source = SourceSpec::parse(repository, SourceOptions::default()).ok().and_then(|spec| Source::open(spec, state).ok());
    let Some(source) = source else { return (BTreeMap::new(), None) };
    let references: Vec<_> = wanted.iter().map(|(_, git)| git.reference.as_deref()).collect();
    let tips = match source.tips(&references) {
        Ok(tips) => tips,
        Err(error) => return (BTreeMap::new(), Some(error)),
    };
    let (mut commits, mut problem) = (BTreeMap::new(), None);
    for ((address, _), tip) in wanted.into_iter().zip(tips) {
        match tip {
            Ok(commit) => drop(commits.insert(address.clone(), commit)),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    (commits, problem)
}

/// A repository as people may see it: no credentials.
pub fn describe(repository: &str) -> String {
    let source = SourceSpec::parse(repository, SourceOptions::default()).ok().and_then(|spec| Source::open(spec, Path::new("")).ok());
    source.map_or_else(|| "a repository".to_owned(), |source| source.describe())
}

/// Where what is kept of an address's repository lies; `None` if it is no address of one.
pub fn home(address: &str, state: &Path) -> Option<PathBuf> {
    Some(open(&read(address)?, state)?.home()?.to_owned())
}

/// What the remote has, or if it does not answer what it had.
fn newest(source: &Source) -> Option<Checkout> {
    source.fetch().ok().or_else(|| source.kept().ok().flatten())
}

/// An address that can be read; what is wrong with another one is said where it is built from.
fn read(address: &str) -> Option<GitReference> {
    git_reference(address)?.ok()
}

fn open(git: &GitReference, state: &Path) -> Option<Source> {
    let options = SourceOptions { branch: git.reference.clone(), ..SourceOptions::default() };
    Source::open(SourceSpec::parse(&git.remote, options).ok()?, state).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_repository_are_asked_for_at_once() {
        let commit = "0123456789012345678901234567890123456789";
        let addresses = [
            "https://h/a.git#main:web".to_owned(),
            "https://h/a.git#v1".to_owned(),
            format!("https://h/a.git#{commit}"),
            "https://h/b.git".to_owned(),
            "docker-image://debian".to_owned(),
        ];
        let expected = [("https://h/a.git", &addresses[..2]), ("https://h/b.git", &addresses[3..4])];
        let expected = expected.map(|(remote, addresses)| (remote.to_owned(), addresses.iter().cloned().collect())).into();
        assert_eq!(by_repository(addresses.iter()), expected);
    }
}
