//! `push` of an image: the names it is published under. No two images may claim the same one.

use super::Resolver;
use crate::desired::ImageKey;
use crate::manifest::image::PushRepository;
use crate::manifest::{self, TextOrList, TextOrMap};
use crate::parse::{Document, Spot};
use crate::value::{ImageReference, Name, ValueError};
use std::collections::BTreeSet;

/// The tag of a repository that names none.
const LATEST: &str = "latest";

impl Resolver<'_> {
    /// The names an image is published under; what is wrong with one is reported there.
    pub(super) fn push(&mut self, document: &Document, name: &Name, image: &manifest::Image) -> BTreeSet<ImageReference> {
        let spot = document.spec().key("push");
        let mut found = BTreeSet::new();
        for (index, target) in image.push.iter().flat_map(|targets| &targets.0).enumerate() {
            for (reference, at) in self.references(&target.0, spot.item(index)) {
                if reference.digest().is_some() {
                    let problem = at.error(format!("{reference} cannot be published: its digest is known once it is built"));
                    self.report(problem.help("name it with a tag".to_owned()));
                } else if let Some(other) = self.publisher(&reference) {
                    let problem = at.error(format!("image {other} is published as {reference} as well"));
                    self.report(problem.help("give one of them another tag".to_owned()));
                } else if !found.insert(reference.clone()) {
                    self.report(at.error(format!("image {name} is published as {reference} twice")));
                }
            }
        }
        found
    }

    /// The names that one item stands for, each with the place where it is written.
    fn references<'d>(&mut self, target: &TextOrMap<ImageReference, PushRepository>, item: Spot<'d>) -> Vec<(ImageReference, Spot<'d>)> {
        let long = match target {
            TextOrMap::Short(reference) => return vec![(reference.clone(), item)],
            TextOrMap::Long(long) => long,
        };
        let repository = item.key("repository");
        let is_bare = long.repository.rsplit('/').next().is_some_and(|last| !last.contains([':', '@']));
        if let Err(problem) = bare(&long.repository, is_bare) {
            self.bad_value(repository, problem);
            return Vec::new();
        }
        let tags = item.key("tags");
        let written: Vec<(&str, Spot<'d>)> = match &long.tags {
            None => vec![(LATEST, repository)],
            Some(TextOrList::Text(tag)) => vec![(tag, tags)],
            Some(TextOrList::List(list)) => list.iter().enumerate().map(|(index, tag)| (tag.0.as_str(), tags.item(index))).collect(),
        };
        if written.is_empty() {
            self.report(tags.error("an empty list publishes nothing").help("name a tag, or leave the field out for latest".to_owned()));
        }
        let mut found = Vec::new();
        for (tag, at) in written {
            match format!("{}:{tag}", long.repository).parse() {
                Ok(reference) => found.push((reference, at)),
                Err(problem) => self.bad_value(at, problem),
            }
        }
        found
    }

    /// The image that claims a name already.
    fn publisher(&self, reference: &ImageReference) -> Option<&Name> {
        self.desired.images.iter().find_map(|(key, image)| match key {
            ImageKey::Named(name) if image.push.contains(reference) => Some(name),
            ImageKey::Named(_) | ImageKey::Reference(_) => None,
        })
    }
}

/// A repository without tag and digest.
fn bare(repository: &str, is_bare: bool) -> Result<(), ValueError> {
    if is_bare {
        return repository.parse::<ImageReference>().map(drop);
    }
    Err(ValueError::with_hint(format!("{repository:?} is more than a repository"), "write its tags under tags: registry.example/shop/web"))
}
