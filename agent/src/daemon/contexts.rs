//! What is known of the repositories that a site's builds take from, and which of them are followed. Pure.
//!
//! Each is asked at the pace of the site's own source, and backs off alone. One that does not answer keeps the commits it had.

use crate::site::repositories::{Commits, by_repository};
use crate::source::CommitId;
use std::collections::{BTreeMap, BTreeSet};

/// The repositories by address, without reference.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    known: Commits,
    /// What each does not answer with at present.
    problems: BTreeMap<String, String>,
    followed: BTreeMap<String, BTreeSet<String>>,
}

/// Whether something is told for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Yes.
    New,
    /// No.
    Known,
}

impl Contexts {
    /// What addresses stand for, as far as that is known.
    pub(super) fn known(&self) -> &Commits {
        &self.known
    }

    /// The addresses of a repository; `None` if it is not followed any more.
    pub(super) fn addresses(&self, repository: &str) -> Option<&BTreeSet<String>> {
        self.followed.get(repository)
    }

    /// All that are followed.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &String> {
        self.followed.keys()
    }

    /// Those that do not answer, and why not.
    pub(super) fn problems(&self) -> impl Iterator<Item = (&String, &String)> {
        self.problems.iter()
    }

    /// The site as it was read takes from these. What was learned since then stays. Returns repositories that were not followed before.
    pub(super) fn follow(&mut self, read: Commits) -> Vec<String> {
        let mut known = std::mem::take(&mut self.known);
        self.known = read.into_iter().map(|(address, commit)| known.remove_entry(&address).unwrap_or((address, commit))).collect();
        let before = std::mem::replace(&mut self.followed, by_repository(self.known.keys()));
        self.problems.retain(|repository, _| self.followed.contains_key(repository));
        self.followed.keys().filter(|repository| !before.contains_key(*repository)).cloned().collect()
    }

    /// A new revision of the site is to be read: whoever answers is asked anew for it, so that it comes with what is newest.
    pub(super) fn forget_who_answers(&mut self) {
        let silent: BTreeSet<_> = self.problems.keys().filter_map(|repository| self.followed.get(repository)).flatten().collect();
        self.known.retain(|address, _| silent.contains(address));
    }

    /// What a repository said. Returns the addresses that stand for another commit now. What was forgotten meanwhile is being asked for.
    pub(super) fn answered(&mut self, commits: BTreeMap<String, CommitId>) -> Vec<String> {
        let mut moved = Vec::new();
        for (address, commit) in commits {
            if let Some(known) = self.known.get_mut(&address).filter(|known| known.as_ref() != Some(&commit)) {
                *known = Some(commit);
                moved.push(address);
            }
        }
        moved
    }

    /// Notes how asking a repository went.
    pub(super) fn note(&mut self, repository: &str, problem: Option<&str>) -> News {
        let before = match problem {
            Some(problem) => self.problems.insert(repository.to_owned(), problem.to_owned()),
            None => self.problems.remove(repository),
        };
        if before.as_deref() == problem { News::Known } else { News::New }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "https://h/a.git";

    fn said(pairs: &[(&str, char)]) -> BTreeMap<String, CommitId> {
        pairs.iter().map(|(address, digit)| ((*address).to_owned(), digit.to_string().repeat(40).parse().unwrap())).collect()
    }

    fn commits(pairs: &[(&str, char)]) -> Commits {
        said(pairs).into_iter().map(|(address, commit)| (address, Some(commit))).collect()
    }

    #[test]
    fn what_was_learned_while_a_site_was_in_use_is_not_unlearned() {
        let mut contexts = Contexts::default();
        assert_eq!(contexts.follow(commits(&[("https://h/a.git#main", '1')])), [A]);
        assert_eq!(contexts.answered(said(&[("https://h/a.git#main", '2')])), ["https://h/a.git#main"]);
        assert!(contexts.follow(commits(&[("https://h/a.git#main", '1')])).is_empty());
        assert_eq!(*contexts.known(), commits(&[("https://h/a.git#main", '2')]));
        assert!(contexts.answered(said(&[("https://h/a.git#main", '2')])).is_empty());
        contexts.follow([("https://h/a.git#new".to_owned(), None)].into());
        assert_eq!(contexts.answered(said(&[("https://h/a.git#new", '3')])), ["https://h/a.git#new"], "it was out of reach from the start");
        contexts.follow(Commits::new());
        assert_eq!((contexts.addresses(A), contexts.known().len()), (None, 0));
    }

    #[test]
    fn a_new_revision_asks_those_who_answer() {
        let mut contexts = Contexts::default();
        contexts.follow(commits(&[("https://h/a.git#main", '1'), ("https://h/b.git", '2')]));
        assert_eq!(contexts.note(A, Some("gone")), News::New);
        assert_eq!(contexts.note(A, Some("gone")), News::Known);
        contexts.forget_who_answers();
        assert_eq!(*contexts.known(), commits(&[("https://h/a.git#main", '1')]));
        assert!(contexts.answered(said(&[("https://h/b.git", '3')])).is_empty(), "it is being asked for");
        assert_eq!(contexts.note(A, None), News::New);
    }
}
