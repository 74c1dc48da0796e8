//! References to images in registries.

use super::{Digest, ValueError, digits, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// Longest reference the distribution specification allows for a repository name.
const REPOSITORY_BYTES_MAX: usize = 255;

/// Where a reference without a registry leads; its official images are in `library/`.
const DOCKER_HUB: &str = "docker.io";

/// A reference to an image: `[registry/]repository[:tag][@digest]`, completed as Docker does
/// (`nginx` is `docker.io/library/nginx:latest`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Host and optional port: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path in the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither a tag nor a digest was written, `None` where only a digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins the content, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for ImageReference {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let hint = "write [registry/]repository[:tag][@sha256:…], such as docker.io/library/nginx:1.29";
        let bad = |what: &str| ValueError::with_hint(format!("{text:?} is not an image reference: {what}"), hint);
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let fits = !tag.is_empty() && tag.len() <= 128 && tag.bytes().next().is_some_and(word);
            if !fits || !tag.bytes().all(|b| word(b) || b == b'.' || b == b'-') {
                return Err(bad(&format!("tag {tag:?} is not valid")));
            }
        }
        let (registry, repository) = match path.split_once('/') {
            Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => (host, repository),
            Some(_) | None => (DOCKER_HUB, path),
        };
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        if !is_host(registry) {
            return Err(bad(&format!("registry {registry:?} is not a host")));
        }
        let official = registry == DOCKER_HUB && !repository.contains('/');
        let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
        if path.is_empty() || repository.len() > REPOSITORY_BYTES_MAX || !repository.split('/').all(is_component) {
            return Err(bad("the repository has parts of a-z, 0-9 with single '.', '_', '__' or '-' between them"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// `name` or `name:port`; the name's parts are letters, digits and inner `-`.
pub(super) fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let part = |part: &str| {
        let inner = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !part.is_empty() && inner && !part.starts_with('-') && !part.ends_with('-')
    };
    name.split('.').all(part) && port.is_none_or(|port| digits::<u16>(port).is_some_and(|port| port != 0))
}

/// One part of a repository path, distribution specification: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
pub(super) fn is_component(part: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = part.as_bytes().first().is_some_and(alphanumeric) && part.as_bytes().last().is_some_and(alphanumeric);
    let separators = || part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    edges && separators().all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        f.pad(&format!("{}/{}{tag}{digest}", self.registry, self.repository))
    }
}

serde_as_text!(ImageReference);
