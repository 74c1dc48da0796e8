//! Signatures of images as cosign writes them: a "simple signing" payload that names a digest, signed with a key pair.
//!
//! They are found at the tag `sha256-<hex>.sig` of the image's own repository, as layers of a manifest with the signature as an
//! annotation (cosign, specs/SIGNATURE_SPEC.md). Verified offline against given public keys; certificates, transparency logs and
//! time stamps are not looked at. Pure.

use crate::image::manifest::MANIFEST_BYTES_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use spec::value::{Digest, ImageReference};
use std::collections::BTreeMap;
use std::fmt;

/// Where the signature stands.
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What the signed payload is called.
const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// What a payload says it is.
const PAYLOAD_TYPE: &str = "cosign container image signature";
/// Largest payload: a name, a digest and a few remarks.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 64 << 10;
/// Most signatures of one image that are looked at, each of them a request.
pub(super) const SIGNATURES_MAX: usize = 50;

/// SubjectPublicKeyInfo of an uncompressed P-256 point up to the point itself (RFC 5480).
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];
/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410).
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    /// As ring wants it: the point, or the 32 bytes.
    bytes: Vec<u8>,
    /// Of its DER form.
    fingerprint: Digest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    EcdsaP256,
    Ed25519,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint.short())
    }
}

/// Why a text is not a key we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM.
    #[error("it is not a public key in PEM form: it begins with -----BEGIN PUBLIC KEY-----")]
    Pem,
    /// A kind we do not verify.
    #[error("it is a key of another kind than ECDSA P-256 (what cosign generate-key-pair makes) or Ed25519")]
    Kind,
}

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`, such as cosign.pub.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----").ok_or(KeyError::Pem)?;
        let (body, _) = rest.split_once("-----END PUBLIC KEY-----").ok_or(KeyError::Pem)?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::Pem)?;
        let fingerprint = Digest::of(&der);
        for (kind, prefix, length) in [(Kind::EcdsaP256, P256_PREFIX, 65), (Kind::Ed25519, ED25519_PREFIX, 32)] {
            if let Some(bytes) = der.strip_prefix(prefix).filter(|bytes| bytes.len() == length) {
                return Ok(Self { kind, bytes: bytes.to_owned(), fingerprint });
            }
        }
        Err(KeyError::Kind)
    }

    /// Digest of its DER form (SubjectPublicKeyInfo).
    pub fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    pub(super) fn verifies(&self, payload: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            Kind::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            Kind::Ed25519 => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(payload, signature).is_ok()
    }
}

/// A signature as its manifest lists it: the payload is a blob of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Digest of the payload.
    pub payload: Digest,
    /// The signature, decoded.
    pub signature: Vec<u8>,
}

/// Why a payload does not speak for an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No manifest of signatures.
    #[error("what is at the tag of its signatures is no list of them")]
    List,
    /// Nobody we trust made it.
    #[error("it is by none of the keys of the policy")]
    Key,
    /// Not what cosign writes.
    #[error("what is signed is no cosign payload")]
    Payload,
    /// A signature of something else.
    #[error("it is for {0}, another image")]
    OtherDigest(String),
    /// A signature for another name.
    #[error("it is for the name {0:?}")]
    OtherName(String),
}

#[derive(Deserialize)]
struct List {
    layers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Identity,
    image: Signed,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The tag at which the signatures of a manifest are.
pub fn tag(manifest: &Digest) -> String {
    format!("sha256-{}.sig", manifest.hex())
}

/// Reads the manifest found there; entries that are no signatures are passed over.
pub fn parse_list(bytes: &[u8]) -> Result<Vec<Listed>, SignatureError> {
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(SignatureError::List);
    }
    let list: List = serde_json::from_slice(bytes).map_err(|_| SignatureError::List)?;
    let listed = list.layers.into_iter().filter(|entry| entry.media_type == MEDIA_TYPE).filter_map(|entry| {
        let signature = STANDARD.decode(entry.annotations.get(ANNOTATION)?.trim()).ok()?;
        Some(Listed { payload: entry.digest, signature })
    });
    Ok(listed.take(SIGNATURES_MAX).collect())
}

/// The key that signed a payload which speaks for one of `manifests` under the name of `reference`.
pub fn verify<'a>(
    payload: &[u8],
    signature: &[u8],
    keys: &'a [PublicKey],
    reference: &ImageReference,
    manifests: &[Digest],
) -> Result<&'a PublicKey, SignatureError> {
    // First of all: nothing is read of what nobody we trust has signed.
    let key = keys.iter().find(|key| key.verifies(payload, signature)).ok_or(SignatureError::Key)?;
    let Payload { critical } = serde_json::from_slice(payload).map_err(|_| SignatureError::Payload)?;
    if critical.kind != PAYLOAD_TYPE {
        return Err(SignatureError::Payload);
    }
    if !manifests.iter().any(|manifest| manifest.to_string() == critical.image.digest) {
        return Err(SignatureError::OtherDigest(critical.image.digest));
    }
    // Or a registry could serve another image of the same signer, or an older one under a newer name.
    let named = &critical.identity.reference;
    let other_name = || SignatureError::OtherName(named.clone());
    let signed: ImageReference = named.parse().map_err(|_| other_name())?;
    // A name without a tag is for all tags: what `cosign sign` writes.
    let has_tag = named.rsplit('/').next().is_some_and(|last| last.contains(':') && !last.contains('@'));
    let same_tag = !has_tag || reference.tag().is_none() || signed.tag() == reference.tag();
    if (signed.registry(), signed.repository()) != (reference.registry(), reference.repository()) || !same_tag {
        return Err(other_name());
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

    fn pem(prefix: &[u8], key: &[u8]) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode([prefix, key].concat()))
    }

    fn payload(name: &str, digest: &str) -> Vec<u8> {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{PAYLOAD_TYPE}"}},"optional":null}}"#
        )
        .into_bytes()
    }

    #[test]
    fn a_payload_counts_if_a_known_key_signed_it_for_this_image_and_name() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let other = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
        let keys = [
            PublicKey::from_pem(&pem(ED25519_PREFIX, other.public_key().as_ref())).unwrap(),
            PublicKey::from_pem(&pem(P256_PREFIX, pair.public_key().as_ref())).unwrap(),
        ];
        let image = Digest::of(b"image");
        let digest = image.to_string();
        let reference: ImageReference = "docker.io/team/app:1".parse().unwrap();
        let check = |name: &str, digest: &str| {
            let payload = payload(name, digest);
            let signature = pair.sign(&random, &payload).unwrap();
            verify(&payload, signature.as_ref(), &keys, &reference, &[image]).map(|key| *key.fingerprint())
        };
        assert_eq!(check("index.docker.io/team/app", &digest), Ok(*keys[1].fingerprint()));
        assert_eq!(check("docker.io/team/app:1", &digest), Ok(*keys[1].fingerprint()));
        assert_eq!(check("docker.io/team/app:2", &digest), Err(SignatureError::OtherName("docker.io/team/app:2".to_owned())));
        assert_eq!(check("docker.io/team/other", &digest), Err(SignatureError::OtherName("docker.io/team/other".to_owned())));
        assert!(matches!(check("docker.io/team/app", &Digest::of(b"x").to_string()), Err(SignatureError::OtherDigest(_))));

        let payload = payload("docker.io/team/app", &digest);
        let by_other = other.sign(&payload);
        assert_eq!(verify(&payload, by_other.as_ref(), &keys, &reference, &[image]), Ok(&keys[0]));
        assert_eq!(verify(&payload, by_other.as_ref(), &keys[1..], &reference, &[image]), Err(SignatureError::Key));
        let mut changed = payload.clone();
        changed.push(b' ');
        assert_eq!(verify(&changed, by_other.as_ref(), &keys, &reference, &[image]), Err(SignatureError::Key));
    }

    #[test]
    fn what_is_no_key_says_why() {
        assert_eq!(PublicKey::from_pem("ssh-ed25519 AAAA"), Err(KeyError::Pem));
        assert_eq!(PublicKey::from_pem(&pem(&[0x30, 0x82], &[0; 270])), Err(KeyError::Kind));
        assert_eq!(PublicKey::from_pem(&pem(P256_PREFIX, &[4; 64])), Err(KeyError::Kind));
    }

    #[test]
    fn a_list_passes_over_what_is_no_signature() {
        let digest = Digest::of(b"payload");
        let text = format!(
            r#"{{"schemaVersion":2,"layers":[{{"mediaType":"text/plain","digest":"{digest}","size":1}},
            {{"mediaType":"{MEDIA_TYPE}","digest":"{digest}","size":7,"annotations":{{"{ANNOTATION}":"AQI="}}}},
            {{"mediaType":"{MEDIA_TYPE}","digest":"{digest}","size":7,"annotations":{{"{ANNOTATION}":"?"}}}}]}}"#
        );
        assert_eq!(parse_list(text.as_bytes()).unwrap(), [Listed { payload: digest, signature: vec![1, 2] }]);
        assert_eq!(parse_list(b"{}"), Err(SignatureError::List));
    }
}
