//! `registries.yaml`: how this host reaches registries and which images it may use. Not part of a site: it is the operator's.
//!
//! ```yaml
//! apiVersion: agent/v1
//! kind: Registries
//! spec:
//!   docker.io:
//!     mirrors: [https://mirror.example, {url: 10.0.0.5:5000/hub, insecure: true}]
//!   registry.example:
//!     ca: authority.pem
//!     client: {certificate: host.pem, key: host.key}
//!     policy: {cosignKeys: [cosign.pub]}
//!   "*":
//!     policy: {allowed: false}
//! ```

use crate::diagnostic::{Diagnostic, Problems, Source, Span};
use crate::manifest::{API_VERSION, Text, TextOrMap};
use crate::parse::read_text;
use crate::value::{ImagePrefix, RegistryLocation, Scheme};
use crate::yaml::{self, Content, NodeId, Tree};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What `kind` says.
pub const REGISTRIES_KIND: &str = "Registries";

/// Words of other tools for what is meant.
const SYNONYMS: &[(&str, &str)] = &[
    ("mirror", "mirrors"),
    ("location", "url"),
    ("host", "url"),
    ("endpoint", "url"),
    ("skip_verify", "insecure"),
    ("insecureSkipVerify", "insecure"),
    ("certificate", "ca"),
    ("caFile", "ca"),
    ("clientCertificate", "client"),
    ("clientCert", "client"),
    ("cert", "certificate"),
    ("block", "blocked"),
    ("keys", "cosignKeys"),
    ("cosign", "cosignKeys"),
    ("publicKeys", "cosignKeys"),
    ("allow", "allowed"),
    ("registries", "spec"),
];

/// Rules by the beginning of images' names. Of the rules that cover a name, each field is taken from the longest one that has it.
pub type Registries = BTreeMap<ImagePrefix, Registry>;

/// What is said about the images of one prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// Where to pull from before the registry itself is asked, in order: a URL, or a map. What follows the prefix in an image's
    /// name follows the URL: with `docker.io: {mirrors: [https://m.example/hub]}` nginx is m.example/hub/library/nginx.
    pub mirrors: Option<Vec<TextOrMap<RegistryLocation, Mirror>>>,
    /// Speak to it without knowing who it is: TLS without verification, or plain HTTP if it has no TLS. As Docker's insecure-registries.
    pub insecure: Option<bool>,
    /// Authorities that may vouch for its certificate beside those of this host: a PEM file, relative to this one.
    pub ca: Option<String>,
    /// The certificate by which this host proves who it is, for registries that ask for one.
    pub client: Option<Client>,
    /// Pull nothing from it and push nothing to it.
    pub blocked: Option<bool>,
    /// Which of its images may be used.
    pub policy: Option<Policy>,
}

/// A certificate of this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ClientCertificate")]
pub struct Client {
    /// The certificate and what stands between it and its authority: a PEM file, relative to this one.
    pub certificate: String,
    /// Its key, not encrypted: a PEM file, relative to this one.
    pub key: String,
}

/// A place that has the same images.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Mirror")]
pub struct Mirror {
    /// Where it is.
    pub url: RegistryLocation,
    /// As that of a registry; unless said, what the rule for its own address says.
    pub insecure: Option<bool>,
    /// As that of a registry; unless said, what the rule for its own address says.
    pub ca: Option<String>,
    /// As that of a registry; unless said, what the rule for its own address says.
    pub client: Option<Client>,
}

/// Which images may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ImagePolicy")]
pub struct Policy {
    /// Whether they may be used at all.
    pub allowed: Option<bool>,
    /// Whether they must be named by digest: `name@sha256:…`.
    pub digest_required: Option<bool>,
    /// Public keys (PEM files, relative to this one; ECDSA P-256 or Ed25519) of which one must have signed the image with cosign,
    /// beside it (`.sig`) or as a bundle about it, as cosign 3 does; a bundle is for a digest alone, whatever the name. An empty list
    /// asks for no signature.
    pub cosign_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: Option<Text>,
    #[serde(rename = "kind")]
    _kind: Option<Text>,
    #[serde(default = "Option::default")]
    spec: Option<Registries>,
}

/// Reads the file; every problem in one pass. `path` is shown in the messages.
pub fn parse_registries(path: &str, bytes: &[u8]) -> Result<Registries, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let registries = read(path, bytes, &mut problems);
    if problems.has_error() { Err(problems.into_sorted()) } else { Ok(registries.unwrap_or_default()) }
}

fn read(path: &str, bytes: &[u8], problems: &mut Problems) -> Option<Registries> {
    let source = read_text(path, bytes, problems)?;
    let mut trees = yaml::load(&source, problems).into_iter().filter(|tree| !matches!(tree.node(tree.root()).content, Content::Null));
    let tree = trees.next()?;
    if let Some(second) = trees.next() {
        problems.push(source.error(second.node(second.root()).span, "a second document, where one is wanted"));
    }
    let root = tree.node(tree.root());
    if !matches!(root.content, Content::Map(_)) {
        let help = format!("begin with apiVersion: {API_VERSION} and kind: {REGISTRIES_KIND}");
        problems.push(source.error(root.span, format!("{} where a map is wanted", root.content.describe())).help(help));
        return None;
    }
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", REGISTRIES_KIND)] {
        check_constant(&source, &tree, field, wanted, problems);
    }
    let reading = yaml::read::<Document>(&source, &tree, tree.root(), SYNONYMS, problems);
    let registries = reading.value?.spec.unwrap_or_default();
    check(&source, &tree, &registries, problems);
    Some(registries)
}

fn check_constant(source: &Source, tree: &Tree, field: &str, wanted: &str, problems: &mut Problems) {
    let help = format!("write {field}: {wanted}");
    match tree.entry(tree.root(), field).map(|entry| tree.node(entry.value)) {
        Some(node) if matches!(&node.content, Content::Scalar(text) if text == wanted) => {}
        Some(node) => problems.push(source.error(node.span, format!("{field} is {}", node.content.describe())).help(help)),
        None => problems.push(source.error(Span::default(), format!("field `{field}` is missing")).help(help)),
    }
}

/// What contradicts itself.
fn check(source: &Source, tree: &Tree, registries: &Registries, problems: &mut Problems) {
    let Some(spec) = tree.entry(tree.root(), "spec") else { return };
    let Content::Map(entries) = &tree.node(spec.value).content else { return };
    let mut seen = BTreeMap::new();
    for entry in entries {
        let Ok(prefix) = entry.key.parse::<ImagePrefix>() else { continue };
        if let Some(first) = seen.insert(prefix.clone(), entry.key_span) {
            let problem = source.error(entry.key_span, format!("{prefix} is here twice"));
            problems.push(problem.related(source.place(first), "first here"));
        }
        let Some(registry) = registries.get(&prefix) else { continue };
        let insecure = registry.insecure == Some(true);
        if insecure && registry.ca.is_some() {
            contradiction(source, tree, entry.value, problems);
        }
        let items = tree.entry(entry.value, "mirrors").map(|mirrors| &tree.node(mirrors.value).content);
        let Some(Content::List(items)) = items else { continue };
        for item in items {
            let plain = tree.entry(*item, "url").and_then(|url| match &tree.node(url.value).content {
                Content::Scalar(text) => text.parse::<RegistryLocation>().ok()?.scheme(),
                Content::Null | Content::List(_) | Content::Map(_) => None,
            });
            let is = |key: &str, text: &str| {
                tree.entry(*item, key).is_some_and(|entry| matches!(&tree.node(entry.value).content, Content::Scalar(it) if it == text))
            };
            let has_ca = tree.entry(*item, "ca").is_some();
            if has_ca && (is("insecure", "true") || plain == Some(Scheme::Http)) {
                contradiction(source, tree, *item, problems);
            }
        }
    }
}

fn contradiction(source: &Source, tree: &Tree, map: NodeId, problems: &mut Problems) {
    let at = tree.entry(map, "ca").map_or(tree.node(map).span, |entry| entry.key_span);
    let problem = source.error(at, "an authority for a server whose certificate is not looked at");
    problems.push(problem.help("leave out `ca`, or `insecure` and http://".to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let found = parse_registries("registries.yaml", text.as_bytes()).unwrap_err();
        let line = |it: &Diagnostic| {
            let at = &it.place.location;
            format!("{}:{}: {} ({})", at.line, at.column, it.message, it.help.as_deref().unwrap_or("-"))
        };
        found.iter().map(line).collect()
    }

    #[test]
    fn a_full_file_is_read() {
        let text = "apiVersion: agent/v1\nkind: Registries\nspec:\n  docker.io:\n    mirrors:\n    - https://m.example/hub\n    - url: 10.0.0.5:5000\n      \
                    insecure: true\n  r.example/team:\n    ca: a.pem\n    client: {certificate: c.pem, key: c.key}\n    blocked: false\n    policy: {allowed: true, digestRequired: yes, cosignKeys: [a.pub]}\n  \"*\":\n    policy: {allowed: false}\n"
            .replace("yes", "true");
        let read = parse_registries("registries.yaml", text.as_bytes()).unwrap();
        assert_eq!(read.len(), 3);
        let docker = &read[&"docker.io".parse().unwrap()];
        assert_eq!(docker.mirrors.as_ref().unwrap().len(), 2);
        let team = &read[&"r.example/team".parse().unwrap()];
        assert_eq!(team.policy.as_ref().unwrap().cosign_keys.as_deref(), Some(&["a.pub".to_owned()][..]));
        assert_eq!(read[&"*".parse().unwrap()].policy.as_ref().unwrap().allowed, Some(false));
        assert_eq!(parse_registries("registries.yaml", b"# nothing yet\n").unwrap(), Registries::new());
    }

    #[test]
    fn every_problem_has_its_place_and_a_remedy() {
        let text = "apiVersion: agent/v1\nkind: Registry\nspec:\n  docker.io:\n    mirors: []\n    insecure: maybe\n  nginx: {}\n  \
                    r.example: {insecure: true, ca: x.pem, policy: {keys: []}}\n  m.example:\n    mirrors: [ftp://x, {insecure: true}]\n";
        assert_eq!(
            problems(text),
            [
                "2:7: kind is \"Registry\" (write kind: Registries)",
                "5:5: unknown field \"mirors\" (write `mirrors`)",
                "6:15: \"maybe\" where true or false is wanted (-)",
                "7:3: \"nginx\" is not the beginning of an image name (write a registry, or the beginning of a name with its registry, such as docker.io/library; * stands for all)",
                "8:31: an authority for a server whose certificate is not looked at (leave out `ca`, or `insecure` and http://)",
                "8:51: unknown field \"keys\" (write `cosignKeys`)",
                "10:15: a URL that begins with \"ftp\" is not where a registry can be (write [https://]host[:port][/path], such as https://mirror.example:5000/docker-hub)",
                "10:24: field `url` is missing (-)",
            ]
        );
    }

    #[test]
    fn one_registry_has_one_rule() {
        assert_eq!(
            problems("apiVersion: agent/v1\nkind: Registries\nspec:\n  docker.io: {}\n  index.docker.io: {}\n"),
            ["5:3: docker.io is here twice (-)"]
        );
        assert_eq!(problems("- a\n"), ["1:1: a list where a map is wanted (begin with apiVersion: agent/v1 and kind: Registries)"]);
    }
}
