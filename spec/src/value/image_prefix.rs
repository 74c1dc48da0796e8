//! Prefixes of image names: whole registries, or parts of one.

use super::image_reference::{is_component, is_host};
use super::{ValueError, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// What stands for every image.
const EVERYTHING: &str = "*";

/// A set of images by how their names begin: `registry.example`, `docker.io/library`, `docker.io/library/nginx`, or `*` for all.
///
/// Parts of a name are whole: `docker.io/lib` does not cover `docker.io/library/nginx`. The empty one covers everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePrefix {
    /// `registry` and the parts of the repository, none for everything.
    parts: Vec<String>,
}

impl ImagePrefix {
    /// Whether images of this repository are meant.
    pub fn covers(&self, registry: &str, repository: &str) -> bool {
        self.rest(registry, repository).is_some()
    }

    /// What follows the prefix in the name: `library/nginx` after `docker.io`; `None` if it does not cover the name.
    pub fn rest(&self, registry: &str, repository: &str) -> Option<String> {
        let mut name = std::iter::once(registry).chain(repository.split('/'));
        self.parts.iter().all(|part| name.next() == Some(part)).then(|| name.collect::<Vec<_>>().join("/"))
    }

    /// How many parts it has: of several prefixes that cover a name the longest is the closest.
    pub fn length(&self) -> usize {
        self.parts.len()
    }
}

impl FromStr for ImagePrefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == EVERYTHING {
            return Ok(Self::default());
        }
        let hint = "write a registry, or the beginning of a name with its registry, such as docker.io/library; * stands for all";
        let bad = || ValueError::with_hint(format!("{text:?} is not the beginning of an image name"), hint);
        let mut parts = text.split('/');
        let host = parts.next().filter(|host| is_host(host) && (host.contains(['.', ':']) || *host == "localhost")).ok_or_else(bad)?;
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        if !parts.clone().all(is_component) {
            return Err(bad());
        }
        Ok(Self { parts: std::iter::once(host).chain(parts).map(str::to_owned).collect() })
    }
}

impl fmt::Display for ImagePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() { f.pad(EVERYTHING) } else { f.pad(&self.parts.join("/")) }
    }
}

serde_as_text!(ImagePrefix);
