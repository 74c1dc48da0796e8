//! `kind: Image`: where an image comes from.

use super::{OneOrMany, Pairs, TextOrList, TextOrMap};
use crate::value::{ImageReference, ValueError};
use schemars::JsonSchema;
use serde::Deserialize;

/// An image: exactly one of `build`, `pull` and `archive`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Image")]
pub struct Image {
    /// Build it from a directory: the context's path, or a map.
    pub build: Option<TextOrMap<ContextPath, Build>>,
    /// Pull it from a registry: `docker.io/library/nginx:1.29`. Fetched if this host does not have it; a tag that is here is not asked
    /// for again until `agent image pull` asks. With a digest (`…@sha256:…`) it is exactly that image, for ever.
    pub pull: Option<ImageReference>,
    /// Import it from a file: a root file system tar, an OCI archive or a docker archive. Relative to this manifest.
    pub archive: Option<String>,
    /// Where it is published: `registry.example/shop/web:1.4`, or a list of such names. Pushed when it was obtained, and again
    /// whenever it or the names change.
    pub push: Option<OneOrMany<PushTarget>>,
}

/// A name to publish an image under, or a repository with several tags.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct PushTarget(pub TextOrMap<ImageReference, PushRepository>);

impl std::str::FromStr for PushTarget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self(TextOrMap::Short(text.parse()?)))
    }
}

/// A repository to publish an image in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PushRepository {
    /// The repository: `registry.example/shop/web`.
    pub repository: String,
    /// The tags it gets there; `latest` unless said.
    pub tags: Option<TextOrList>,
}

/// A build.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Build {
    /// The context: a directory relative to this manifest, or a repository (`https://host/repo.git#ref:directory`), whose new commits
    /// a watch follows.
    pub context: String,
    /// The Dockerfile, relative to the context; `Dockerfile` unless said.
    pub dockerfile: Option<String>,
    /// The Dockerfile itself, instead of a file; Compose's `dockerfile_inline`.
    pub inline: Option<String>,
    /// Further contexts, a map or a list of name=context: a directory relative to this manifest, `docker-image://reference`, or a
    /// repository (`https://host/repo.git#ref:directory`). What `FROM name` and `--from=name` mean; Compose's `additional_contexts`.
    pub contexts: Option<Pairs>,
    /// Build arguments: a map, or a list of KEY=value.
    pub args: Option<Pairs>,
    /// The stage to stop at; the last one unless said.
    pub target: Option<String>,
    /// The network of RUN steps that do not say which, as Compose has it: `default` is one of their own that leads out as the host's
    /// does. With `host`, steps may also ask for the host's by themselves (`RUN --network=host`).
    pub network: Option<BuildNetwork>,
}

/// Which network the commands of a build see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum BuildNetwork {
    /// One of their own that leads out as the host's does.
    Default,
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
}

/// A directory relative to this manifest, or a repository: `https://host/repo.git#ref:directory`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline)]
pub struct ContextPath(pub String);

impl std::str::FromStr for ContextPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self(text.to_owned()))
    }
}
