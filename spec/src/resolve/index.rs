//! Every document of a site by kind and name.

use crate::desired::Kind;
use crate::diagnostic::Problems;
use crate::parse::Document;
use crate::value::Name;
use crate::yaml::nearest;
use std::collections::BTreeMap;

/// Documents by kind and name. Those that could not be read are here too, as far as their names are known, so that a
/// reference to one is not reported as a second problem.
pub(super) struct Index<'a>(BTreeMap<(Kind, &'a Name), &'a Document>);

impl<'a> Index<'a> {
    /// Of two documents with one name the first in file order stays; the other is reported.
    pub(super) fn new(documents: &'a [Document], problems: &mut Problems) -> Self {
        let mut ordered: Vec<&Document> = documents.iter().collect();
        ordered.sort_by_cached_key(|document| document.spot().location());
        let mut index = Self(BTreeMap::new());
        for document in ordered {
            let Some(name) = &document.name else { continue };
            if let Some(first) = index.find(document.kind, name) {
                let problem = document.spot().error(format!("{} {name} is defined twice", document.kind));
                problems.push(problem.related(first.spot().place(), "first defined here"));
                continue;
            }
            index.0.insert((document.kind, name), document);
        }
        index
    }

    /// In the order of kinds, then names.
    pub(super) fn documents(&self) -> impl Iterator<Item = &'a Document> {
        self.0.values().copied()
    }

    pub(super) fn find(&self, kind: Kind, name: &Name) -> Option<&'a Document> {
        self.0.get(&(kind, name)).copied()
    }

    pub(super) fn contains(&self, kind: Kind, name: &Name) -> bool {
        self.0.contains_key(&(kind, name))
    }

    /// The name of this kind that was probably meant.
    pub(super) fn nearest(&self, kind: Kind, word: &str) -> Option<&'a str> {
        nearest(word, self.0.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name.as_str()))
    }
}
