//! Signatures of images as cosign writes them since version 3: Sigstore bundles, artifacts about the image (cosign, specs/BUNDLE_SPEC.md).
//!
//! What is signed is a statement (in-toto) in an envelope (DSSE) that names the image by digest. Unlike the payload of [`super::signature`]
//! it names no repository and no tag: whoever holds the key signs for every name that the policy gives it. Verified offline against given
//! public keys; certificates, transparency logs and time stamps are not looked at. Pure.

use super::signature::{PublicKey, SIGNATURES_MAX, SignatureError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use spec::value::Digest;
use std::collections::BTreeMap;

/// Begins the media types of bundles; a version follows.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
/// Says in a list of artifacts what a bundle is for.
const PREDICATE_ANNOTATION: &str = "dev.sigstore.bundle.predicateType";
/// What cosign states of an image that it signs.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// What an envelope says that it holds.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Largest bundle: a statement, a signature, certificates and a proof of some kilobytes.
pub(super) const BUNDLE_BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    layers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// The manifests of what may be signatures, in a list of the artifacts about an image.
pub(super) fn listed(list: &[u8]) -> Vec<Digest> {
    let Ok(list) = serde_json::from_slice::<List>(list) else { return Vec::new() };
    let is_signature = |entry: &Entry| {
        entry.artifact_type.starts_with(MEDIA_TYPE) && entry.annotations.get(PREDICATE_ANNOTATION).is_none_or(|kind| kind == SIGNED)
    };
    list.manifests.into_iter().filter(is_signature).map(|entry| entry.digest).take(SIGNATURES_MAX).collect()
}

/// The bundle that one of these manifests is about.
pub(super) fn bundle_of(manifest: &[u8]) -> Option<Digest> {
    let manifest: Manifest = serde_json::from_slice(manifest).ok()?;
    manifest.layers.into_iter().find(|layer| layer.media_type.starts_with(MEDIA_TYPE)).map(|layer| layer.digest)
}

/// The key that signed a statement about one of `manifests`.
pub(super) fn verify<'a>(bundle: &[u8], keys: &'a [PublicKey], manifests: &[Digest]) -> Result<&'a PublicKey, SignatureError> {
    let Bundle { dsse_envelope: envelope } = serde_json::from_slice(bundle).map_err(|_| SignatureError::Payload)?;
    let payload = STANDARD.decode(envelope.payload).map_err(|_| SignatureError::Payload)?;
    let signed = pre_authentication(&envelope.payload_type, &payload);
    let signatures: Vec<_> = envelope.signatures.iter().filter_map(|signature| STANDARD.decode(&signature.sig).ok()).collect();
    let is_by = |key: &&PublicKey| signatures.iter().any(|signature| key.verifies(&signed, signature));
    // First of all: nothing is read of what nobody we trust has signed.
    let key = keys.iter().find(is_by).ok_or(SignatureError::Key)?;
    let statement: Statement = serde_json::from_slice(&payload).map_err(|_| SignatureError::Payload)?;
    if envelope.payload_type != PAYLOAD_TYPE || statement.predicate_type != SIGNED {
        return Err(SignatureError::Payload);
    }
    let subjects = || statement.subject.iter().filter_map(|subject| subject.digest.get("sha256"));
    match subjects().any(|hex| manifests.iter().any(|manifest| manifest.hex() == *hex)) {
        true => Ok(key),
        false => Err(SignatureError::OtherDigest(subjects().next().map_or_else(String::new, |hex| format!("sha256:{hex}")))),
    }
}

/// What the signature of an envelope is over (DSSE, "PAE").
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ring::signature::Ed25519KeyPair;
    use serde_json::json;

    /// A bundle as cosign makes it, for an image.
    pub(in crate::image::registry) fn bundle(pair: &Ed25519KeyPair, manifest: &Digest, predicate: &str) -> Vec<u8> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": manifest.hex()}, "annotations": {}}],
            "predicateType": predicate,
            "predicate": {},
        });
        let payload = statement.to_string();
        let signature = pair.sign(&pre_authentication(PAYLOAD_TYPE, payload.as_bytes()));
        let envelope = json!({
            "payload": STANDARD.encode(&payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode(signature)}],
        });
        let material = json!({"publicKey": {"hint": "x"}});
        let bundle = json!({"mediaType": format!("{MEDIA_TYPE}.v0.3+json"), "verificationMaterial": material, "dsseEnvelope": envelope});
        bundle.to_string().into_bytes()
    }

    #[test]
    fn what_is_signed_is_what_the_envelope_says() {
        // The example of the DSSE specification.
        assert_eq!(
            pre_authentication("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_list_passes_over_what_is_no_signature() {
        let entry = |kind: &str, predicate: Option<&str>| {
            json!({"artifactType": kind, "digest": Digest::of(format!("{kind}{predicate:?}").as_bytes()),
                "annotations": predicate.map(|it| json!({PREDICATE_ANNOTATION: it})).unwrap_or_else(|| json!({}))})
        };
        let new = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let list = json!({"manifests": [entry(new, None), entry(new, Some(SIGNED)), entry(new, Some("https://slsa.dev/provenance/v1")), entry("text/sbom", None)]});
        assert_eq!(listed(list.to_string().as_bytes()).len(), 2);
        assert_eq!(listed(b"{}"), []);
        let layer =
            json!({"layers": [{"mediaType": "text/plain", "digest": Digest::of(b"a")}, {"mediaType": new, "digest": Digest::of(b"b")}]});
        assert_eq!(bundle_of(layer.to_string().as_bytes()), Some(Digest::of(b"b")));
    }
}
