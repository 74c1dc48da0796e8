//! Which images may be used: admitted by name before anything is asked, by signature before anything is kept.

use super::PullError;
use super::bundle::{self, BUNDLE_BYTES_MAX};
use super::client::Client;
use super::settings::{Policy, Settings};
use super::signature::{self, PAYLOAD_BYTES_MAX, PublicKey, SignatureError};
use crate::image::ImageId;
use crate::image::manifest::MANIFEST_BYTES_MAX;
use crate::image::store::{ImageStore, Origin, StoreError};
use spec::value::{Digest, ImageReference};

/// Why an image may not be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// By its name.
    #[error("registries.yaml does not allow images of {prefix}")]
    NotAllowed {
        /// The prefix that says so.
        prefix: String,
    },
    /// Neither pulled nor pushed.
    #[error("registries.yaml blocks registry {registry}")]
    Blocked {
        /// The registry.
        registry: String,
    },
    /// It is named by tag alone.
    #[error("registries.yaml wants images of {prefix} named by digest (name@sha256:…)")]
    DigestRequired {
        /// The prefix that says so.
        prefix: String,
    },
    /// Nobody signed it.
    #[error("it has no signature, and registries.yaml wants one for images of {prefix}")]
    NotSigned {
        /// The prefix that says so.
        prefix: String,
    },
    /// Nobody we trust signed it.
    #[error("none of its {count} signatures counts for images of {prefix}")]
    NotTrusted {
        /// The prefix that says so.
        prefix: String,
        /// How many were looked at.
        count: usize,
        /// What is wrong with the last one.
        #[source]
        source: SignatureError,
    },
}

/// Whether the name alone is refused. Asks nobody.
pub fn admit(settings: &Settings, reference: &ImageReference) -> Result<(), PolicyError> {
    let Some(policy) = settings.policy(reference) else { return Ok(()) };
    if !policy.allowed {
        return Err(PolicyError::NotAllowed { prefix: policy.prefix.to_string() });
    }
    if policy.digest_required && reference.digest().is_none() {
        return Err(PolicyError::DigestRequired { prefix: policy.prefix.to_string() });
    }
    Ok(())
}

/// Whether an image of the store may be used under a name without asking anybody: it was made here, or its name is admitted and,
/// where a signature is wanted, one by a key that still counts was found when it was pulled.
pub fn is_settled(settings: &Settings, store: &ImageStore, reference: &ImageReference, id: &ImageId) -> Result<bool, StoreError> {
    let Some(policy) = settings.policy(reference) else { return Ok(true) };
    let origins = match store.origins(id) {
        // It was pulled, and nobody knows from where: it has to be again.
        Err(StoreError::Record { .. }) => return Ok(false),
        origins => origins?,
    };
    if origins.is_empty() {
        return Ok(true);
    }
    if admit(settings, reference).is_err() {
        return Ok(false);
    }
    let counts = |origin: &Origin| {
        let same_tag = origin.tag.is_none() || reference.tag().is_none() || origin.tag.as_deref() == reference.tag();
        let same_digest = reference.digest().is_none_or(|digest| origin.manifests.contains(digest));
        let known_key = policy.keys.iter().any(|key| Some(key.fingerprint()) == origin.signed_by.as_ref());
        origin.repository == name_of(reference) && same_tag && same_digest && known_key
    };
    Ok(policy.keys.is_empty() || origins.iter().any(counts))
}

/// Looks for a signature that the policy takes, if it wants one; the origin to remember. `manifests` is what the name led to, down
/// to the manifest of this platform: to sign an index is to sign what is in it.
pub(super) fn verify(
    client: &Client<'_>,
    settings: &Settings,
    reference: &ImageReference,
    manifests: &[Digest],
) -> Result<Origin, PullError> {
    let (repository, tag) = (name_of(reference), reference.tag().map(str::to_owned));
    let mut origin = Origin { repository, tag, manifests: manifests.to_vec(), signed_by: None };
    if let Some(policy) = settings.policy(reference).filter(|policy| !policy.keys.is_empty()) {
        origin.signed_by = Some(*signer(client, &policy, reference, manifests)?.fingerprint());
    }
    Ok(origin)
}

/// The first key that a good signature is by.
fn signer<'a>(
    client: &Client<'_>,
    policy: &Policy<'a>,
    reference: &ImageReference,
    manifests: &[Digest],
) -> Result<&'a PublicKey, PullError> {
    let refused = |source| PullError::Policy { reference: Box::new(reference.clone()), source };
    let prefix = policy.prefix.to_string();
    let (mut count, mut last) = (0, None);
    for manifest in manifests {
        for Signed { payload, signature } in signatures(client, manifest)? {
            count += 1;
            match signature::verify(&payload, &signature, policy.keys, reference, manifests) {
                Ok(key) => return Ok(key),
                Err(error) => last = Some(error),
            }
        }
        for bundle in bundles(client, manifest)? {
            count += 1;
            match bundle::verify(&bundle, policy.keys, manifests) {
                Ok(key) => return Ok(key),
                Err(error) => last = Some(error),
            }
        }
    }
    Err(refused(match last {
        None => PolicyError::NotSigned { prefix },
        Some(source) => PolicyError::NotTrusted { prefix, count, source },
    }))
}

/// A payload and a signature of it.
struct Signed {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// The signatures of a manifest, each payload verified by digest; none if it has none.
fn signatures(client: &Client<'_>, manifest: &Digest) -> Result<Vec<Signed>, PullError> {
    let tag = signature::tag(manifest);
    let list = match client.document(&format!("manifests/{tag}"), &format!("signatures {tag}"), MANIFEST_BYTES_MAX) {
        Ok(found) => found.bytes,
        Err(failed) if failed.is_absence() => return Ok(Vec::new()),
        Err(failed) => return Err(failed.into()),
    };
    let mut found = Vec::new();
    for listed in signature::parse_list(&list).unwrap_or_default() {
        let what = format!("signature {}", listed.payload);
        let payload = client.document(&format!("blobs/{}", listed.payload), &what, PAYLOAD_BYTES_MAX)?.bytes;
        if Digest::of(&payload) == listed.payload {
            found.push(Signed { payload, signature: listed.signature });
        }
    }
    Ok(found)
}

/// The bundles about a manifest, each verified by digest; none if it has none.
fn bundles(client: &Client<'_>, manifest: &Digest) -> Result<Vec<Vec<u8>>, PullError> {
    let mut found = Vec::new();
    for listed in bundle::listed(&referrers(client, manifest)?) {
        let what = format!("signature {listed}");
        let about = client.document(&format!("manifests/{listed}"), &what, MANIFEST_BYTES_MAX)?.bytes;
        let Some(digest) = bundle::bundle_of(&about).filter(|_| Digest::of(&about) == listed) else { continue };
        let bundle = client.document(&format!("blobs/{digest}"), &what, BUNDLE_BYTES_MAX)?.bytes;
        if Digest::of(&bundle) == digest {
            found.push(bundle);
        }
    }
    Ok(found)
}

/// The list of the artifacts about a manifest; empty if there is none. Registries that keep no such list have one that their clients
/// keep, under a tag (distribution specification, "Referrers Tag Schema").
fn referrers(client: &Client<'_>, manifest: &Digest) -> Result<Vec<u8>, PullError> {
    let what = format!("what is about {manifest}");
    for path in [format!("referrers/{manifest}"), format!("manifests/sha256-{}", manifest.hex())] {
        match client.document(&path, &what, MANIFEST_BYTES_MAX) {
            Ok(found) => return Ok(found.bytes),
            Err(failed) if failed.is_absence() || failed.is_unsupported() => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Ok(Vec::new())
}

pub(super) fn name_of(reference: &ImageReference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}
