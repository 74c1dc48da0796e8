//! Manifests and indexes: OCI image specification 1.1 and Docker's schema 2, told apart by what they hold.

use super::platform::Platform;
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::collections::BTreeMap;

/// Most a manifest or index may weigh: what registries accept at least and, by and large, at most (distribution specification).
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Most an image configuration may weigh: long histories reach some 100 kB.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Most layers an image may have: overlayfs mounts at most 500.
pub const LAYERS_MAX: usize = 500;

/// Media types of the documents we read.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, compressed with gzip.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Uncompressed OCI layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, compressed with gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, compressed with zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
}

/// A reference to content by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// What it runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Remarks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image: its configuration and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// One of [`media_type`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// Layers as they travel (compressed), lowest first.
    pub layers: Vec<Descriptor>,
}

/// The same image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// One of [`media_type`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Manifests, or further indexes.
    pub manifests: Vec<Descriptor>,
}

/// Why a document is not a manifest we take.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Broken or incomplete.
    #[error("manifest is not valid JSON of its kind")]
    Json(#[source] serde_json::Error),
    /// One digest must have one meaning.
    #[error("manifest is ambiguous: {0}")]
    Ambiguous(String),
    /// Docker's first format, which cannot be verified by digest.
    #[error("manifest is in Docker's schema 1, which no registry needs any more: push the image again with a current tool")]
    Schema1,
    /// Something else that registries hold: a chart, a signature, a set of files.
    #[error("this is not a container image: its configuration is of type {0:?}")]
    NotAnImage(String),
    /// Something that is neither an image nor an index of images, as it says itself.
    #[error("this is not a container image: it is of type {0:?}")]
    Foreign(String),
    /// Nothing of it runs here.
    #[error("no image for {wanted}; there are {offered}")]
    Platform {
        /// What was asked for.
        wanted: Platform,
        /// What the index has, joined with commas.
        offered: String,
    },
    /// Against the limits of this module.
    #[error("manifest has {count} layers; at most {LAYERS_MAX} can be mounted")]
    TooManyLayers {
        /// How many.
        count: usize,
    },
}

/// A document at a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An image.
    Manifest(Manifest),
    /// A choice of images.
    Index(Index),
}

/// Reads a manifest or index. `served_as` is the media type it came with, if any (the registry's `Content-Type`, or the descriptor's).
///
/// Refused: a document with the fields of both kinds, or whose own `mediaType` says another kind than it has or than it was served
/// as (the same bytes would mean different images to different readers), schema 1, and artifacts that are no images.
pub fn parse(bytes: &[u8], served_as: Option<&str>) -> Result<Document, ManifestError> {
    let fields: BTreeMap<String, serde_json::Value> = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    if fields.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) || has("fsLayers") {
        return Err(ManifestError::Schema1);
    }
    if has("manifests") && (has("layers") || has("config")) {
        return Err(ManifestError::Ambiguous("it has the fields of an image and of an index".to_owned()));
    }
    let is_index = has("manifests");
    let own = fields.get("mediaType").and_then(serde_json::Value::as_str);
    for said in [own, served_as].into_iter().flatten() {
        let says_index = match said {
            media_type::OCI_INDEX | media_type::DOCKER_INDEX => true,
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => false,
            _ => continue, // registries also serve application/json or octet-stream
        };
        if says_index != is_index {
            return Err(ManifestError::Ambiguous(format!("called {said}, but it holds something else")));
        }
    }
    if is_index {
        return serde_json::from_slice(bytes).map(Document::Index).map_err(ManifestError::Json);
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| match own {
        Some(own) if ![media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].contains(&own) => ManifestError::Foreign(own.to_owned()),
        _ => ManifestError::Json(error),
    })?;
    let config = manifest.config.media_type.as_str();
    if ![media_type::OCI_CONFIG, media_type::DOCKER_CONFIG, "", "application/octet-stream"].contains(&config) {
        return Err(ManifestError::NotAnImage(config.to_owned()));
    }
    if manifest.layers.len() > LAYERS_MAX {
        return Err(ManifestError::TooManyLayers { count: manifest.layers.len() });
    }
    Ok(Document::Manifest(manifest))
}

/// The manifest of an index that runs best on `wanted`; the first of equals. One without a platform is taken only if it is alone.
pub fn choose<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor, ManifestError> {
    if let [only] = index.manifests.as_slice()
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let ranked = index.manifests.iter().filter_map(|entry| Some((wanted.rank(entry.platform.as_ref()?)?, entry)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry).ok_or_else(|| {
        let offered: Vec<_> = index.manifests.iter().filter_map(|entry| entry.platform.as_ref()).map(Platform::to_string).collect();
        ManifestError::Platform { wanted: wanted.clone(), offered: if offered.is_empty() { "none".to_owned() } else { offered.join(", ") } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn refused_documents() {
        let config = format!(r#""config":{{"mediaType":"{}","digest":"{DIGEST}","size":1}}"#, media_type::OCI_CONFIG);
        let cases = [
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema 1"),
            (format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[],{config}}}"#), "fields of an image and of an index"),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{}","layers":[],{config}}}"#, media_type::OCI_INDEX), "holds something else"),
            (
                config.replace("config.v1", "chart.v1").replacen('"', r#"{"schemaVersion":2,"layers":[],""#, 1) + "}",
                "not a container image",
            ),
            (r#"{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[]}"#.to_owned(), "not a container image"),
            ("[]".to_owned(), "not valid JSON"),
        ];
        for (text, expected) in cases {
            let error = parse(text.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_index_without_this_platform_says_what_it_has() {
        let entry =
            |architecture: &str| format!(r#"{{"digest":"{DIGEST}","size":1,"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#);
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#, entry("s390x"), entry("arm64"));
        let Document::Index(index) = parse(text.as_bytes(), None).unwrap() else { panic!("an index") };
        let wanted = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        assert_eq!(choose(&index, &wanted).unwrap_err().to_string(), "no image for linux/amd64; there are linux/s390x, linux/arm64");
        let wanted = Platform { architecture: "arm64".into(), ..wanted };
        assert_eq!(choose(&index, &wanted).unwrap().platform.as_ref().unwrap().architecture, "arm64");
    }
}
