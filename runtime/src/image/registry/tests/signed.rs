//! Images whose policy wants a signature.

use super::{Answer, Fixture, Host, Request, Server, chain};
use crate::image::registry::bundle::tests::bundle;
use crate::image::registry::policy::is_settled;
use crate::image::registry::settings::{PolicyRule, Rule};
use crate::image::registry::signature::{PublicKey, tag};
use crate::image::registry::{Access, PullOptions, Settings, pull};
use crate::image::store::Roots;
use crate::image::tests::{is_root, rootfs_tar};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use spec::value::Digest;

/// Someone who signs.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn public(&self) -> PublicKey {
        let der = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", self.0.public_key().as_ref()].concat();
        PublicKey::from_pem(&format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der))).unwrap()
    }

    /// What cosign puts at the tag: the manifest, and the payload it names.
    fn sign(&self, name: &str, manifest: &Digest) -> (Vec<u8>, Vec<u8>) {
        let (entry, payload) = self.entry(name, manifest);
        (list(&[entry]), payload)
    }

    /// One signature in the manifest, and its payload.
    fn entry(&self, name: &str, manifest: &Digest) -> (String, Vec<u8>) {
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{manifest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let signature = STANDARD.encode(self.0.sign(payload.as_bytes()));
        let digest = Digest::of(payload.as_bytes());
        let entry = format!(
            r#"{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{digest}","size":{},
            "annotations":{{"dev.cosignproject.cosign/signature":"{signature}"}}}}"#,
            payload.len()
        );
        (entry, payload.into_bytes())
    }
}

/// A manifest of signatures.
fn list(entries: &[String]) -> Vec<u8> {
    format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[{}]}}"#, entries.join(",")).into_bytes()
}

fn wanting(keys: Vec<PublicKey>, host: &Host) -> Access {
    let rule = Rule { policy: PolicyRule { keys: Some(keys), ..PolicyRule::default() }, ..Rule::default() };
    Access { settings: Settings::new([("*".parse().unwrap(), rule)].into()), ..host.access() }
}

/// A registry with the image, and what there is of signatures under the name the function makes of the registry's.
fn registry(fixture: &Fixture, signer: Option<Signer>, name: fn(&str) -> String) -> Server {
    let fixture = fixture.clone();
    let manifest = Digest::of(&fixture.manifest);
    Server::start(move |request: &Request, _| {
        let signed = signer.as_ref().map(|signer| signer.sign(&name(&request.headers["host"]), &manifest));
        if request.path.ends_with(&tag(&manifest)) {
            return signed.map_or_else(|| Answer::new(404, ""), |(list, _)| Answer::new(200, list));
        }
        match signed {
            Some((_, payload)) if request.path.ends_with(&Digest::of(&payload).to_string()) => Answer::new(200, payload),
            _ => fixture.answer(request),
        }
    })
}

#[test]
fn a_signed_image_is_taken_and_who_signed_it_remembered() {
    if !is_root() {
        return;
    }
    let (fixture, host, signer) = (Fixture::small(), Host::new(), Signer::new());
    let access = wanting(vec![Signer::new().public(), signer.public()], &host);
    let server = registry(&fixture, Some(signer), |own| format!("{own}/test/image"));
    let id = pull(&host.store, &server.reference(), &PullOptions::new(&access)).unwrap();
    let origins = host.store.origins(&id).unwrap();
    assert_eq!((origins.len(), &origins[0].manifests), (1, &vec![Digest::of(&fixture.manifest)]));
    assert!(origins[0].signed_by.is_some());

    let settled = |access: &Access, reference: &str| is_settled(&access.settings, &host.store, &reference.parse().unwrap(), &id).unwrap();
    let named = server.reference().to_string();
    assert!(settled(&access, &named));
    assert!(settled(&access, &format!("{}/test/image@{}", server.address, Digest::of(&fixture.manifest))));
    assert!(!settled(&access, &format!("{}/test/other:1", server.address)), "another name of the same image");
    assert!(!settled(&access, &format!("{}/test/image:2", server.address)), "another tag");
    assert!(!settled(&wanting(vec![Signer::new().public()], &host), &named), "its key does not count any more");
    let origins = host.directory.path().join(format!("images/images/{}.origins", id.hex()));
    std::fs::write(origins, "{").unwrap();
    assert!(!settled(&access, &named), "nobody knows any more where it came from");
    host.store.remove(&id).unwrap();
    host.store.gc(&Roots::default()).unwrap();
    assert!(host.is_empty());
}

#[test]
fn what_was_made_here_needs_nobodys_leave() {
    if !is_root() {
        return;
    }
    let (host, tar) = (Host::new(), rootfs_tar(&[("a", b"b")]));
    let layer = host.store.import_layer(&tar[..]).unwrap();
    let config = format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, layer.diff_id);
    let id = host.store.put_image(&serde_json::from_str(&config).unwrap()).unwrap();
    let settings = wanting(vec![Signer::new().public()], &host).settings;
    assert!(is_settled(&settings, &host.store, &"app:1".parse().unwrap(), &id).unwrap());
}

#[test]
fn an_image_nobody_we_trust_signed_is_not_installed() {
    if !is_root() {
        return;
    }
    type Case = (bool, fn(&str) -> String, &'static str);
    let cases: [Case; 3] = [
        (false, |own| format!("{own}/test/image"), "it has no signature"),
        (true, |own| format!("{own}/test/other"), "it is for the name"),
        (true, |own| format!("{own}/test/image"), "by none of the keys"),
    ];
    for (is_signed, name, expected) in cases {
        let (fixture, host, signer) = (Fixture::small(), Host::new(), Signer::new());
        let keys = if expected.contains("keys") { vec![Signer::new().public()] } else { vec![signer.public()] };
        let server = registry(&fixture, is_signed.then_some(signer), name);
        let text = chain(&pull(&host.store, &server.reference(), &PullOptions::new(&wanting(keys, &host))).unwrap_err());
        assert!(text.contains(expected), "{text}");
        assert!(host.is_empty(), "{expected}");
        assert!(!server.seen().iter().any(|request| fixture.is_layer(request)), "no layer is fetched of what may not be used");
    }
}

#[test]
fn an_image_that_was_pulled_before_there_was_a_policy_is_verified_when_asked_for_again() {
    if !is_root() {
        return;
    }
    let (fixture, host, signer) = (Fixture::small(), Host::new(), Signer::new());
    let access = wanting(vec![signer.public()], &host);
    let server = registry(&fixture, Some(signer), |own| format!("{own}/test/image"));
    let id = host.pull(&server).unwrap();
    assert!(!is_settled(&access.settings, &host.store, &server.reference(), &id).unwrap());
    assert_eq!(pull(&host.store, &server.reference(), &PullOptions::new(&access)).unwrap(), id);
    assert!(is_settled(&access.settings, &host.store, &server.reference(), &id).unwrap());
    assert_eq!(server.seen().iter().filter(|request| fixture.is_layer(request)).count(), 1);
}

#[test]
fn of_several_signatures_one_that_counts_is_enough() {
    if !is_root() {
        return;
    }
    let (fixture, signer, other) = (Fixture::small(), Signer::new(), Signer::new());
    let manifest = Digest::of(&fixture.manifest);
    let key = signer.public();
    let served = fixture.clone();
    // By somebody else, for another image, for another name, what is no signature, and the one that counts.
    let server = Server::start(move |request: &Request, _| {
        let name = format!("{}/test/image", request.headers["host"]);
        let (other, wrong) = (other.entry(&name, &manifest), signer.entry(&name, &Digest::of(b"other")));
        let (elsewhere, good) = (signer.entry("r.example/a", &manifest), signer.entry(&name, &manifest));
        if request.path.ends_with(&tag(&manifest)) {
            let nonsense = r#"{"mediaType":"text/plain","digest":"sha256:0","size":1}"#.replace(":0\"", &format!(":{}\"", "0".repeat(64)));
            return Answer::new(200, list(&[other.0, wrong.0, nonsense, elsewhere.0, good.0]));
        }
        let payloads = [other.1, wrong.1, elsewhere.1, good.1];
        let found = payloads.into_iter().find(|payload| request.path.ends_with(&Digest::of(payload).to_string()));
        found.map_or_else(|| served.answer(request), |payload| Answer::new(200, payload))
    });
    let host = Host::new();
    let id = pull(&host.store, &server.reference(), &PullOptions::new(&wanting(vec![key.clone()], &host))).unwrap();
    assert_eq!(host.store.origins(&id).unwrap()[0].signed_by, Some(*key.fingerprint()));
    let strict = Host::new();
    let text =
        chain(&pull(&strict.store, &server.reference(), &PullOptions::new(&wanting(vec![Signer::new().public()], &strict))).unwrap_err());
    assert!(text.contains("none of its 4 signatures counts"), "{text}");
}

#[test]
fn a_bundle_about_the_image_counts_wherever_the_registry_lists_it() {
    if !is_root() {
        return;
    }
    const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
    type Case = (bool, bool, &'static str, Result<(), &'static str>);
    // Whether the registry has a list of its own, whether it is by the right key, for what.
    let cases: [Case; 4] = [
        (true, true, SIGNED, Ok(())),
        (false, true, SIGNED, Ok(())),
        (true, false, SIGNED, Err("by none of the keys")),
        (true, true, "https://slsa.dev/provenance/v1", Err("no cosign payload")),
    ];
    for (lists, is_right, predicate, expected) in cases {
        let (fixture, signer, host) = (Fixture::small(), Signer::new(), Host::new());
        let manifest = Digest::of(&fixture.manifest);
        let key = if is_right { signer.public() } else { Signer::new().public() };
        let bundle = bundle(&signer.0, &manifest, predicate);
        let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let about = format!(r#"{{"schemaVersion":2,"layers":[{{"mediaType":"{kind}","digest":"{}","size":1}}]}}"#, Digest::of(&bundle));
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"artifactType":"{kind}","digest":"{}","size":1}}]}}"#,
            Digest::of(about.as_bytes())
        );
        let served = fixture.clone();
        let server = Server::start(move |request: &Request, _| {
            let is = |end: String| request.path.ends_with(&end);
            match () {
                () if is(tag(&manifest)) => Answer::new(404, ""),
                () if is(format!("referrers/{manifest}")) && lists => Answer::new(200, index.clone()),
                () if is(format!("referrers/{manifest}")) => Answer::new(404, ""),
                () if is(format!("manifests/sha256-{}", manifest.hex())) => Answer::new(200, index.clone()),
                () if is(Digest::of(about.as_bytes()).to_string()) => Answer::new(200, about.clone()),
                () if is(Digest::of(&bundle).to_string()) => Answer::new(200, bundle.clone()),
                () => served.answer(request),
            }
        });
        let pulled = pull(&host.store, &server.reference(), &PullOptions::new(&wanting(vec![key.clone()], &host)));
        match (pulled, expected) {
            (Ok(id), Ok(())) => assert_eq!(host.store.origins(&id).unwrap()[0].signed_by, Some(*key.fingerprint())),
            (Err(error), Err(because)) => assert!(chain(&error).contains(because), "{}", chain(&error)),
            (pulled, expected) => panic!("{pulled:?} where {expected:?} was expected"),
        }
    }
}
