//! Names of the store as repositories and tags. Pure.
//!
//! The store knows images of sites by bare names (`shop-web`) and all others by whole references (`docker.io/library/nginx:1`,
//! `10.0.0.5:5000/team/app:2`). A registry has repositories. What a name is called here, the first one that is free:
//!
//! - what was pushed here, by its own repository;
//! - an image of a site, as `<name>:latest`;
//! - Docker Hub's, without the host: `library/nginx` and `nginx`;
//! - everybody else's, with the host (`ghcr.io/team/app`, where it has no port) and without.

use super::route::is_repository;
use runtime::image::ImageId;
use spec::value::{ImageReference, Name};
use std::collections::BTreeMap;

/// The hub's name and where its official images lie.
const DOCKER_HUB: &str = "docker.io";
const OFFICIAL: &str = "library/";

/// An image of the store by one of its names there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// The name.
    pub key: String,
    pub id: ImageId,
}

/// All that can be asked for: repository, tag, image.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    tags: BTreeMap<String, BTreeMap<String, Named>>,
    /// One name for each: what the catalog lists.
    listed: Vec<String>,
}

/// How well a name fits; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    PushedHere,
    OfSite,
    Hub,
    Short,
    Elsewhere,
}

impl Names {
    /// The names of a store; `own` is the host that what was pushed here is named after.
    pub(super) fn new(keys: &BTreeMap<String, ImageId>, own: &str) -> Self {
        let mut all: Vec<(Rank, String, String, Named)> = Vec::new();
        let mut names = Self::default();
        for (key, id) in keys {
            let aliases = aliases(key, own);
            names.listed.extend(aliases.first().map(|(_, repository, _)| repository.clone()));
            let named = Named { key: key.clone(), id: *id };
            all.extend(aliases.into_iter().map(|(rank, repository, tag)| (rank, repository, tag, named.clone())));
        }
        all.sort();
        for (_, repository, tag, named) in all {
            names.tags.entry(repository).or_default().entry(tag).or_insert(named);
        }
        names.listed.sort();
        names.listed.dedup();
        names
    }

    /// The tags of a repository; `None` if there is no such repository.
    pub(super) fn tags(&self, repository: &str) -> Option<&BTreeMap<String, Named>> {
        self.tags.get(repository)
    }

    /// The repositories, each once, sorted.
    pub(super) fn repositories(&self) -> &[String] {
        &self.listed
    }
}

/// The name in the store of what is pushed as this; a digest stands behind `@`, a tag behind `:`.
pub(super) fn key_of(own: &str, repository: &str, reference: &str) -> String {
    let sign = if reference.contains(':') { '@' } else { ':' };
    format!("{own}/{repository}{sign}{reference}")
}

fn aliases(key: &str, own: &str) -> Vec<(Rank, String, String)> {
    if !key.contains(['/', ':', '@']) && key.parse::<Name>().is_ok() {
        return named(vec![(Rank::OfSite, key.to_owned())], "latest");
    }
    let Ok(reference) = key.parse::<ImageReference>() else { return Vec::new() };
    // Without a tag there is only the digest; who asks by that finds the image through its repository.
    let digest = reference.digest().map(ToString::to_string);
    let Some(tag) = reference.tag().map(str::to_owned).or(digest) else { return Vec::new() };
    let (host, repository) = (reference.registry(), reference.repository());
    let found = match host {
        host if host == own => vec![(Rank::PushedHere, repository.to_owned())],
        DOCKER_HUB => {
            let short = repository.strip_prefix(OFFICIAL).map(|short| (Rank::Short, short.to_owned()));
            let whole = [(Rank::Hub, repository.to_owned()), (Rank::Elsewhere, format!("{host}/{repository}"))];
            short.into_iter().chain(whole).collect()
        }
        host => vec![(Rank::Elsewhere, format!("{host}/{repository}")), (Rank::Elsewhere, repository.to_owned())],
    };
    named(found, &tag)
}

fn named(found: Vec<(Rank, String)>, tag: &str) -> Vec<(Rank, String, String)> {
    // A host with a port is no part of a repository's name.
    found.into_iter().filter(|(_, name)| is_repository(name)).map(|(rank, name)| (rank, name, tag.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::value::Digest;

    #[test]
    fn what_images_are_called_here() {
        let id = |text: &str| Digest::of(text.as_bytes());
        let keys = [
            "shop-web",
            "docker.io/library/nginx:1",
            "docker.io/team/app:1",
            "ghcr.io/team/app:1",
            "ghcr.io/team/app:2",
            "10.0.0.5:5000/x/y:3",
            "here:5000/shop-web:latest",
            "here:5000/team/app:9",
        ];
        let names = Names::new(&keys.iter().map(|key| ((*key).to_owned(), id(key))).collect(), "here:5000");
        let cases = [
            ("shop-web", "latest", Some("here:5000/shop-web:latest")),
            ("nginx", "1", Some("docker.io/library/nginx:1")),
            ("library/nginx", "1", Some("docker.io/library/nginx:1")),
            ("docker.io/library/nginx", "1", Some("docker.io/library/nginx:1")),
            ("team/app", "1", Some("docker.io/team/app:1")),
            ("team/app", "2", Some("ghcr.io/team/app:2")),
            ("team/app", "9", Some("here:5000/team/app:9")),
            ("ghcr.io/team/app", "1", Some("ghcr.io/team/app:1")),
            ("x/y", "3", Some("10.0.0.5:5000/x/y:3")),
            ("nginx", "2", None),
            ("here/team/app", "9", None),
        ];
        for (repository, tag, expected) in cases {
            let found = names.tags(repository).and_then(|tags| tags.get(tag));
            let expected = expected.map(|key| Named { key: key.to_owned(), id: id(key) });
            assert_eq!(found, expected.as_ref(), "{repository}:{tag}");
        }
        assert_eq!(names.repositories(), ["ghcr.io/team/app", "nginx", "shop-web", "team/app", "x/y"]);
        assert_eq!(names.tags("nothing"), None);
    }

    #[test]
    fn names_of_what_is_pushed() {
        assert_eq!(key_of("here:5000", "a/b", "1"), "here:5000/a/b:1");
        assert_eq!(key_of("here:5000", "a/b", "sha256:00"), "here:5000/a/b@sha256:00");
    }
}
