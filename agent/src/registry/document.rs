//! What is pushed as a manifest, as far as a registry has to understand it: what it names. Pure.
//!
//! Images, indexes of them and artifacts alike (OCI image specification 1.1, Docker's schema 2): what is in the blobs is for those
//! who pull it.

use runtime::image::manifest::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use spec::value::Digest;
use std::collections::BTreeMap;

/// Most blobs or manifests that one may name: images have at most 500 layers, indexes some hundred members. All are kept in memory.
const PARTS_MAX: usize = 2_000;

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub media_type: String,
    /// The blobs of a manifest: its configuration first.
    pub blobs: Vec<Part>,
    /// The manifests of an index.
    pub manifests: Vec<Part>,
    /// What it is about: a signature names what it signs.
    pub subject: Option<Digest>,
    /// What kind of thing it is, among those about the same subject.
    pub artifact_type: Option<String>,
}

/// Something that a document names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part {
    #[serde(default)]
    pub media_type: String,
    #[serde(deserialize_with = "digest")]
    pub digest: Digest,
    pub size: u64,
    /// Where else it can be had: it need not be here.
    #[serde(default)]
    urls: Vec<String>,
}

impl Part {
    /// Whether it may be missing here: layers that must not be passed on.
    pub(super) fn is_elsewhere(&self) -> bool {
        let kind = &self.media_type;
        !self.urls.is_empty() || kind.contains("nondistributable") || kind.contains("rootfs.foreign")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Part>,
    layers: Option<Vec<Part>>,
    manifests: Option<Vec<Part>>,
    subject: Option<Part>,
}

/// The remarks on a document. Some are long: they are read when somebody asks.
pub(super) fn annotations(bytes: &[u8]) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Remarks {
        annotations: Option<BTreeMap<String, String>>,
    }
    serde_json::from_slice::<Remarks>(bytes).ok().and_then(|remarks| remarks.annotations).unwrap_or_default()
}

/// Reads it; `served_as` is the `Content-Type` it came with. What is wrong is told to whoever sent it.
pub(super) fn parse(bytes: &[u8], served_as: Option<&str>) -> Result<Document, String> {
    let fields: Fields = serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
    if fields.schema_version != Some(2) {
        return Err("schemaVersion is not 2: push it again with a current tool".to_owned());
    }
    let served_as = served_as.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let media_type = media_type(fields.media_type.as_deref(), served_as, fields.manifests.is_some())?.to_owned();
    let subject = fields.subject.map(|subject| subject.digest);
    let document = match (fields.config, fields.layers, fields.manifests) {
        (Some(config), Some(layers), None) => {
            let artifact_type = fields.artifact_type.or_else(|| Some(config.media_type.clone()));
            let blobs = std::iter::once(config).chain(layers).collect();
            Document { media_type, blobs, manifests: Vec::new(), subject, artifact_type }
        }
        (None, None, Some(manifests)) => {
            Document { media_type, blobs: Vec::new(), manifests, subject, artifact_type: fields.artifact_type }
        }
        _ => return Err("it has neither the fields of a manifest (config, layers) nor those of an index (manifests)".to_owned()),
    };
    let parts = document.blobs.len() + document.manifests.len();
    if parts > PARTS_MAX { Err(format!("it names {parts} parts, at most {PARTS_MAX} are taken")) } else { Ok(document) }
}

/// What it is called, by itself or else by whoever sent it; the same bytes must not mean two things.
fn media_type<'a>(own: Option<&'a str>, served_as: Option<&'a str>, is_index: bool) -> Result<&'a str, String> {
    let known = |kind: &&str| [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX].contains(kind);
    let (own, served_as) = (own.filter(|kind| !kind.is_empty()), served_as.filter(known));
    let said = match (own, served_as) {
        (Some(own), Some(served_as)) if own != served_as => return Err(format!("it calls itself {own:?} and came as {served_as:?}")),
        (Some(said), _) | (None, Some(said)) => said,
        (None, None) if is_index => OCI_INDEX,
        (None, None) => OCI_MANIFEST,
    };
    match known(&said) && [OCI_INDEX, DOCKER_INDEX].contains(&said) == is_index {
        true => Ok(said),
        false => Err(format!("it is called {said:?}, which it is not, or which is not kept here")),
    }
}

/// Only SHA-256 is kept here.
fn digest<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
    let text = Value::deserialize(from)?;
    let text = text.as_str().unwrap_or_default();
    text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not sha256: and 64 hexadecimal digits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":3}}"#, Digest::of(b"abc"))
    }

    #[test]
    fn images_indexes_and_artifacts() {
        let image = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, part("c"), part("l"));
        let read = parse(image.as_bytes(), None).unwrap();
        assert_eq!((read.media_type.as_str(), read.blobs.len(), read.artifact_type.as_deref()), (OCI_MANIFEST, 2, Some("c")));
        assert_eq!(parse(image.as_bytes(), Some(&format!("{DOCKER_MANIFEST}; charset=utf-8"))).unwrap().media_type, DOCKER_MANIFEST);
        assert_eq!(parse(image.as_bytes(), Some("application/json")).unwrap().media_type, OCI_MANIFEST);
        let about =
            image.replace("\"layers\"", &format!(r#""artifactType":"a","subject":{},"annotations":{{"k":"v"}},"layers""#, part("s")));
        let read = parse(about.as_bytes(), None).unwrap();
        assert_eq!((read.artifact_type.as_deref(), read.subject), (Some("a"), Some(Digest::of(b"abc"))));
        assert_eq!(annotations(about.as_bytes()), BTreeMap::from([("k".to_owned(), "v".to_owned())]));
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, part(OCI_MANIFEST));
        let read = parse(index.as_bytes(), Some(OCI_INDEX)).unwrap();
        assert_eq!((read.manifests.len(), read.blobs.len(), read.artifact_type), (1, 0, None));
        assert!(parse(br#"{"schemaVersion":2,"manifests":[]}"#, None).unwrap().manifests.is_empty());
    }

    #[test]
    fn what_is_no_manifest_says_why() {
        let both = format!(r#"{{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}}"#, part("c"));
        let long = format!(r#"{{"schemaVersion":2,"config":{{"digest":"sha512:{}","size":1}},"layers":[]}}"#, "0".repeat(128));
        let image = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{},"layers":[]}}"#, part("c"));
        let many = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![part("m"); PARTS_MAX + 1].join(","));
        let cases = [
            ("{}", None, "schemaVersion"),
            ("[]", None, "no manifest"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None, "schemaVersion is not 2"),
            (r#"{"schemaVersion":2}"#, None, "neither the fields"),
            (&both, None, "neither the fields"),
            (&many, None, "2001 parts"),
            (&long, None, "is not sha256:"),
            (&image, Some(OCI_INDEX), "and came as"),
            (&image.replace("manifest.v1", "index.v1"), None, "which it is not"),
        ];
        for (text, served_as, expected) in cases {
            let problem = parse(text.as_bytes(), served_as).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn layers_that_must_not_be_passed_on_may_be_missing() {
        let read = |json: &str| serde_json::from_str::<Part>(json).unwrap().is_elsewhere();
        assert!(!read(&part("application/vnd.oci.image.layer.v1.tar")));
        assert!(read(&part("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")));
        assert!(read(&part("x").replace("\"size\"", r#""urls":["https://a.example"],"size""#)));
    }
}
