//! Pulls from a registry that misbehaves on purpose, and from a real one.

mod access;
mod faults;
mod push;
mod server;
mod signed;

use super::{Access, CredentialFiles, PullError, PullOptions, Retry, pull};
use crate::image::ImageId;
use crate::image::layer::stream::Compression;
use crate::image::manifest::media_type;
use crate::image::platform::Platform;
use crate::image::store::{ImageStore, Lost, Repaired};
use crate::image::tests::{gzip, is_root, rootfs_tar, write_oci_layout};
use server::{Answer, Request, Server};
use spec::value::{Digest, ImageReference};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An image as a registry holds it.
#[derive(Clone)]
struct Fixture {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Fixture {
    fn new() -> Self {
        // Content that does not compress: the blob is large enough to be cut in the middle.
        let noise: Vec<u8> = (0..40_000_u32).flat_map(|n| Digest::of(&n.to_le_bytes()).as_bytes()[..8].to_vec()).collect();
        let tar = rootfs_tar(&[("etc/hello", b"hello"), ("noise", &noise)]);
        Self::of(gzip(&tar), &Digest::of(&tar), "amd64")
    }

    /// One whose layer is too small to be cut.
    fn small() -> Self {
        let tar = rootfs_tar(&[("etc/hello", b"hello")]);
        Self::of(gzip(&tar), &Digest::of(&tar), "amd64")
    }

    fn of(layer: Vec<u8>, diff_id: &Digest, architecture: &str) -> Self {
        let architecture = if architecture == "amd64" { Platform::host().architecture } else { architecture.to_owned() };
        let config = format!(r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#)
            .into_bytes();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},
            "layers":[{{"mediaType":"{}{}","digest":"{}","size":{}}}]}}"#,
            media_type::OCI_MANIFEST,
            media_type::OCI_CONFIG,
            Digest::of(&config),
            config.len(),
            media_type::OCI_LAYER,
            match Compression::detect(&layer).unwrap() {
                Compression::None => "",
                Compression::Gzip => "+gzip",
                Compression::Zstd => "+zstd",
            },
            Digest::of(&layer),
            layer.len()
        );
        Self { layer, config, manifest: manifest.into_bytes() }
    }

    fn id(&self) -> ImageId {
        Digest::of(&self.config)
    }

    /// What an honest registry answers.
    fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        if path.contains("/manifests/") {
            return Answer::new(200, self.manifest.clone()).with("Content-Type", media_type::OCI_MANIFEST);
        }
        for blob in [&self.layer, &self.config] {
            if path.ends_with(&Digest::of(blob).to_string()) {
                return match request
                    .headers
                    .get("range")
                    .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
                {
                    Some(first) => {
                        Answer::new(206, &blob[first..]).with("Content-Range", format!("bytes {first}-{}/{}", blob.len() - 1, blob.len()))
                    }
                    None => Answer::new(200, blob.clone()),
                };
            }
        }
        Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
    }

    fn is_layer(&self, request: &Request) -> bool {
        request.path.ends_with(&Digest::of(&self.layer).to_string())
    }
}

/// A store, and options that do not wait for long.
struct Host {
    directory: tempfile::TempDir,
    store: ImageStore,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open_at(&directory.path().join("images")).unwrap();
        Self { directory, store }
    }

    fn pull(&self, server: &Server) -> Result<ImageId, PullError> {
        pull(&self.store, &server.reference(), &PullOptions::new(&self.access()))
    }

    /// Passwords come from `config.json` in the directory.
    fn access(&self) -> Access {
        let retry = Retry { attempts: 3, first_wait: Duration::from_millis(1) };
        let credentials = CredentialFiles(vec![self.directory.path().join("config.json")]);
        Access { retry, credentials, ..Access::default() }
    }

    /// Lets `config.json` hold an entry for a registry.
    fn log_in(&self, registry: &str, entry: &str) {
        let config = format!(r#"{{"auths":{{"{registry}":{entry}}}}}"#);
        std::fs::write(self.directory.path().join("config.json"), config).unwrap();
    }

    /// Nothing of an image that failed is visible.
    fn is_empty(&self) -> bool {
        let count = |part: &str| std::fs::read_dir(self.directory.path().join("images").join(part)).unwrap().count();
        ["images", "layers", "records", "scratch"].into_iter().map(count).sum::<usize>() == 0
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

#[test]
fn an_image_is_pulled_named_and_not_fetched_twice() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::new(), Host::new());
    let served = fixture.clone();
    let server = Server::start(move |request, _| served.answer(request));
    let id = host.pull(&server).unwrap();
    assert_eq!(id, fixture.id());
    assert_eq!(host.store.find(&server.reference().to_string()).unwrap(), None, "a name is for the caller to give");
    let image = host.store.image(&id).unwrap();
    assert_eq!(std::fs::read_to_string(image.layers[0].join("etc/hello")).unwrap(), "hello");
    assert_eq!(host.store.list().unwrap()[0].manifest, Some(Digest::of(&fixture.manifest)));
    let before = server.seen().len();
    assert_eq!(host.pull(&server).unwrap(), id);
    assert_eq!(server.seen().len(), before + 1, "only the manifest is asked for again");
}

#[test]
fn a_tag_that_stands_for_what_is_here_costs_one_question_that_no_limit_counts() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::new(), Host::new());
    let moved = Fixture::small();
    let (served, later) = (fixture.clone(), moved.clone());
    let has_moved = Arc::new(AtomicBool::new(false));
    let tells = Arc::clone(&has_moved);
    let server = Server::start(move |request, _| {
        let fixture = if tells.load(Ordering::SeqCst) { &later } else { &served };
        let answer = fixture.answer(request).with("Docker-Content-Digest", Digest::of(&fixture.manifest).to_string());
        if request.method == "HEAD" { Answer { cut_after: Some(0), ..answer } } else { answer }
    });
    let id = host.pull(&server).unwrap();
    host.store.tag(&server.reference().to_string(), &id).unwrap();
    let before = server.seen().len();
    assert_eq!(host.pull(&server).unwrap(), id);
    let methods: Vec<_> = server.seen()[before..].iter().map(|request| request.method.clone()).collect();
    assert_eq!(methods, ["HEAD"]);
    has_moved.store(true, Ordering::SeqCst);
    assert_eq!(host.pull(&server).unwrap(), moved.id());
}

#[test]
fn what_is_not_known_to_come_from_anywhere_is_found_and_pulled_again() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::new(), Host::new());
    let served = fixture.clone();
    let server = Server::start(move |request, _| served.answer(request));
    let id = host.pull(&server).unwrap();
    host.store.tag(&server.reference().to_string(), &id).unwrap();
    let origins = host.store.origins(&id).unwrap();
    let tear = || std::fs::write(host.directory.path().join(format!("images/images/{}.origins", id.hex())), "{").unwrap();
    tear();
    let findings = host.store.verify(&mut |_| {}).unwrap().findings;
    assert!(findings.len() == 1 && findings[0].problem.starts_with("where it came from cannot be read"), "{findings:?}");
    let mut fetch = |_: &Lost| host.pull(&server).map(drop).map_err(|error| chain(&error));
    let repaired = host.store.repair(&findings, &|_| None, &mut fetch).unwrap();
    assert_eq!(repaired, [Repaired::Done("fetched again".to_owned())]);
    assert_eq!(host.store.origins(&id).unwrap(), origins);
    tear();
    host.pull(&server).unwrap();
    assert_eq!(host.store.origins(&id).unwrap(), origins, "whoever pulls it mends it too");
}

#[test]
fn a_cut_connection_is_resumed_from_the_byte_reached() {
    if !is_root() {
        return;
    }
    for (ranges, expected) in [("given", [false, true, true]), ("passed over", [false, true, true]), ("refused", [false, true, false])] {
        let (fixture, host) = (Fixture::new(), Host::new());
        let served = fixture.clone();
        let server = Server::start(move |request, before| {
            let mut request = request.clone();
            match ranges {
                "passed over" => drop(request.headers.remove("range")),
                "refused" if request.headers.contains_key("range") => return Answer::new(416, ""),
                _ => {}
            }
            let mut answer = served.answer(&request);
            if served.is_layer(&request) && before < 2 {
                answer.cut_after = Some(answer.body.len() / 2);
            }
            answer
        });
        assert_eq!(host.pull(&server).unwrap(), fixture.id());
        let asked: Vec<_> =
            server.seen().iter().filter(|seen| fixture.is_layer(seen)).map(|seen| seen.headers.contains_key("range")).collect();
        assert_eq!(asked, expected, "ranges {ranges}");
    }
}

#[test]
fn busy_and_broken_registries_are_asked_again() {
    if !is_root() {
        return;
    }
    for status in [429, 500, 503] {
        let (fixture, host) = (Fixture::new(), Host::new());
        let served = fixture.clone();
        let server = Server::start(move |request, before| match before {
            0 => Answer::new(status, "").with("Retry-After", "0"),
            _ => served.answer(request),
        });
        assert_eq!(host.pull(&server).unwrap(), fixture.id(), "{status}");
        assert_eq!(server.seen().len(), 6);
    }
}

#[test]
fn what_cannot_be_pulled_says_why_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    type Fault = fn(&Fixture, &Request) -> Answer;
    let cases: [(&str, Fault, &str); 9] = [
        (
            "unknown",
            |_, _| Answer::new(404, r#"{"errors":[{"message":"manifest unknown"}]}"#),
            "404 Not Found (manifest unknown): check the name",
        ),
        ("rate limit", |_, _| Answer::new(429, "").with("Retry-After", "3600"), "or log in; it asks to wait for 3600 s"),
        (
            "always cut",
            |fixture, request| Answer { cut_after: fixture.is_layer(request).then_some(0), ..fixture.answer(request) },
            "read its answer",
        ),
        (
            "other layer bytes",
            |fixture, request| {
                let mut answer = fixture.answer(request);
                if fixture.is_layer(request) {
                    answer.body = gzip(&rootfs_tar(&[("etc/hello", b"evil!")]));
                    answer.body.resize(fixture.layer.len(), 0);
                }
                answer
            },
            "layer",
        ),
        (
            "flipped bit",
            |fixture, request| {
                let mut answer = fixture.answer(request);
                if fixture.is_layer(request) {
                    answer.body[4] ^= 1; // the time in the gzip header: the content is the same
                }
                answer
            },
            "digest of the compressed layer is",
        ),
        (
            "other configuration",
            |fixture, request| {
                let mut answer = fixture.answer(request);
                if answer.body == fixture.config {
                    answer.body.push(b' ');
                }
                answer
            },
            "served a configuration with digest",
        ),
        ("endless manifest", |_, _| Answer::new(200, vec![b' '; 5 << 20]), "larger than 4194304 bytes"),
        ("schema 1", |_, _| Answer::new(200, r#"{"schemaVersion":1,"fsLayers":[]}"#), "schema 1"),
        (
            "other platform",
            |fixture, request| Fixture::of(fixture.layer.clone(), &Digest::of(b""), "s390x").answer(request),
            "it is for linux/s390x",
        ),
    ];
    for (name, fault, expected) in cases {
        let (fixture, host) = (Fixture::new(), Host::new());
        let server = Server::start(move |request, _| fault(&fixture, request));
        let text = chain(&host.pull(&server).unwrap_err());
        assert!(text.contains(expected), "{name}: {text}");
        assert!(host.is_empty(), "{name}");
    }
}

#[test]
fn a_wrong_diff_id_is_refused() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let fixture = Fixture::of(gzip(&rootfs_tar(&[("a", b"b")])), &Digest::of(b"another"), "amd64");
    let server = Server::start(move |request, _| fixture.answer(request));
    let text = chain(&host.pull(&server).unwrap_err());
    assert!(text.contains("digest of the uncompressed layer is"), "{text}");
    assert!(host.is_empty());
}

#[test]
fn a_token_is_fetched_and_stays_with_the_registry() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::new(), Host::new());
    let blobs = fixture.clone();
    let elsewhere = Server::start(move |request, _| blobs.answer(request));
    let other = elsewhere.address.clone();
    let served = fixture.clone();
    let registry = Server::start(move |request, _| {
        let own = request.headers["host"].clone();
        if request.path.starts_with("/token") {
            assert!(
                request.path.contains("service=svc") && request.path.contains("scope=repository%3Atest%2Fimage%3Apull"),
                "{}",
                request.path
            );
            return Answer::new(200, r#"{"token":"t0ken"}"#);
        }
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer t0ken") {
            let challenge = format!(r#"Bearer realm="http://{own}/token",service="svc",scope="repository:test/image:pull""#);
            return Answer::new(401, "").with("WWW-Authenticate", challenge);
        }
        if served.is_layer(request) {
            return Answer::new(307, "").with("Location", format!("http://{other}{}?signature=s3cret", request.path));
        }
        served.answer(request)
    });
    assert_eq!(host.pull(&registry).unwrap(), fixture.id());
    assert_eq!(registry.seen().iter().filter(|seen| seen.path.starts_with("/token")).count(), 1);
    let asked = elsewhere.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].headers.get("authorization"), None, "credentials crossed a redirect");
}

#[test]
fn passwords_come_from_dockers_configuration() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::new(), Host::new());
    let served = fixture.clone();
    let server = Server::start(move |request, _| match request.headers.get("authorization").map(String::as_str) {
        Some("Basic bWU6cHc=") => served.answer(request),
        _ => Answer::new(401, "").with("WWW-Authenticate", r#"Basic realm="x""#),
    });
    let text = chain(&host.pull(&server).unwrap_err());
    assert!(text.contains("it asks for a password"), "{text}");
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"bWU6cHc="}}}}}}"#, server.address);
    std::fs::write(host.directory.path().join("config.json"), config).unwrap();
    assert_eq!(host.pull(&server).unwrap(), fixture.id());
}

#[test]
fn redirects_that_lead_astray_are_not_followed() {
    let host = Host::new();
    for target in ["http://10.0.0.1/x", "ftp://127.0.0.1/x", "http://me:pw@127.0.0.1/x", "", "LOOP"] {
        let server = Server::start(move |request, _| {
            let target = if target == "LOOP" { request.path.clone() } else { target.to_owned() };
            Answer::new(302, "").with("Location", target)
        });
        let text = chain(&host.pull(&server).unwrap_err());
        assert!(text.contains("it redirects to"), "{target}: {text}");
        assert!(server.seen().len() <= 6);
    }
}

#[test]
fn two_pulls_at_once_fetch_each_layer_once() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::new(), Host::new());
    let served = fixture.clone();
    let server = Server::start(move |request, _| {
        if served.is_layer(request) {
            std::thread::sleep(Duration::from_millis(100));
        }
        served.answer(request)
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(host.pull(&server).unwrap(), fixture.id()));
        }
    });
    assert_eq!(server.seen().iter().filter(|seen| fixture.is_layer(seen)).count(), 1);
}

#[test]
fn an_index_leads_to_the_image_of_this_platform() {
    if !is_root() {
        return;
    }
    let (fixture, host) = (Fixture::new(), Host::new());
    let served = fixture.clone();
    let server = Server::start(move |request, _| {
        if !request.path.ends_with("/manifests/1") {
            return served.answer(request);
        }
        let entry = |digest: Digest, architecture: &str| {
            format!(
                r#"{{"mediaType":"{}","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                media_type::OCI_MANIFEST
            )
        };
        let entries = [entry(Digest::of(b"x"), "mips"), entry(Digest::of(&served.manifest), &Platform::host().architecture)];
        Answer::new(200, format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")))
            .with("Content-Type", media_type::OCI_INDEX)
    });
    assert_eq!(host.pull(&server).unwrap(), fixture.id());
}

/// Debian's `docker-registry` on a free port of loopback, ended when dropped.
struct RealRegistry {
    process: std::process::Child,
    address: String,
    directory: tempfile::TempDir,
}

impl RealRegistry {
    /// `None`, loudly, where the programs are not installed.
    fn start() -> Option<Self> {
        let installed = |program: &str| ["/usr/bin", "/usr/local/bin"].iter().any(|path| std::path::Path::new(path).join(program).exists());
        if !installed("docker-registry") || !installed("skopeo") {
            eprintln!("SKIPPED: docker-registry or skopeo is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            directory.path().join("registry").display()
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = std::process::Command::new("docker-registry");
        let null = std::process::Stdio::null;
        let process = command.arg("serve").arg(&path).stdout(null()).stderr(null()).spawn().unwrap();
        let registry = Self { process, address, directory };
        for _ in 0..500 {
            if TcpStream::connect(&registry.address).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("docker-registry does not answer");
    }

    fn copy(&self, from: &str, to: &str, more: &[&str]) {
        let mut command = std::process::Command::new("skopeo");
        command
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--src-tls-verify=false"])
            .args(more)
            .args([from, to]);
        let output = command.env("TMPDIR", self.directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn images_put_by_skopeo_are_pulled_in_every_format() {
    if !is_root() {
        return;
    }
    let Some(registry) = RealRegistry::start() else { return };
    let tar = rootfs_tar(&[("etc/hello", b"hello")]);
    let v2s2 = ["--format", "v2s2"];
    for (name, layer, more) in [
        ("gzip", gzip(&tar), &[][..]),
        ("docker", gzip(&tar), &v2s2),
        ("zstd", zstd::encode_all(&tar[..], 3).unwrap(), &[]),
        ("plain", tar.clone(), &["--dest-decompress"]),
    ] {
        let fixture = Fixture::of(layer, &Digest::of(&tar), "amd64");
        let layout = registry.directory.path().join(name);
        write_oci_layout(&layout, &[&fixture.layer, &fixture.config], &fixture.manifest);
        let reference = format!("{}/test/{name}:1", registry.address);
        registry.copy(&format!("oci:{}", layout.display()), &format!("docker://{reference}"), more);
        let host = Host::new();
        let reference: ImageReference = reference.parse().unwrap();
        let id = pull(&host.store, &reference, &PullOptions::new(&Access::default())).unwrap();
        let image = host.store.image(&id).unwrap();
        assert_eq!(std::fs::read_to_string(image.layers[0].join("etc/hello")).unwrap(), "hello", "{name}");
        if name == "zstd" {
            assert_eq!(host.store.list().unwrap()[0].manifest, Some(Digest::of(&fixture.manifest)), "skopeo copied it as it was");
        }
        // By digest too: what the tag stood for.
        let manifest = host.store.list().unwrap()[0].manifest.unwrap();
        let pinned: ImageReference = format!("{}/test/{name}@{manifest}", registry.address).parse().unwrap();
        assert_eq!(pull(&host.store, &pinned, &PullOptions::new(&Access::default())).unwrap(), id);
    }
    let absent: ImageReference = format!("{}/test/absent:1", registry.address).parse().unwrap();
    let text = chain(&pull(&Host::new().store, &absent, &PullOptions::new(&Access::default())).unwrap_err());
    assert!(text.contains("404"), "{text}");
}
