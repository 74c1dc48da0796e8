//! Registries and images made to do harm: nothing of them is installed, and the error names what was wrong.

use super::{Answer, Fixture, Host, Request, Server, chain};
use crate::image::layer::RATIO_FREE_BYTES;
use crate::image::layer::tests::refused_attacks;
use crate::image::registry::{Access, Patience, PullOptions, Retry, pull};
use crate::image::tests::{gzip, is_root, rootfs_tar};
use spec::value::Digest;
use std::io::Write as _;
use std::time::Duration;

/// Pulls from a registry that serves this, and returns what it came to, with the store found clean.
fn refusal(name: &str, host: &Host, server: &Server) -> String {
    let text = chain(&host.pull(server).map(|id| panic!("{name}: installed as {id}")).unwrap_err());
    assert!(host.is_empty(), "{name} left something in the store");
    text
}

#[test]
fn hostile_layers_are_refused_by_name() {
    if !is_root() {
        return;
    }
    // The fixture compresses what it is given; xz within gzip is no xz.
    for (name, stream, expected) in refused_attacks().into_iter().filter(|(name, _, _)| *name != "xz") {
        let fixture = Fixture::of(gzip(&stream), &Digest::of(&stream), "amd64");
        let (layer, host) = (Digest::of(&fixture.layer), Host::new());
        let server = Server::start(move |request, _| fixture.answer(request));
        let text = refusal(name, &host, &server);
        assert!(text.contains(expected) && text.contains(&layer.to_string()), "{name}: {text}");
    }
}

#[test]
fn a_layer_that_is_refused_keeps_nobody_waiting_for_its_rest() {
    if !is_root() {
        return;
    }
    let noise: Vec<u8> = (0..100_000_u32).flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes()).collect();
    let stream = rootfs_tar(&[(".wh.", b""), ("noise", &noise)]);
    let (fixture, host) = (Fixture::of(gzip(&stream), &Digest::of(&stream), "amd64"), Host::new());
    let layer = format!("/v2/test/image/blobs/{}", Digest::of(&fixture.layer));
    let server = Server::start(move |request, _| {
        let silent_after = fixture.is_layer(request).then_some(fixture.layer.len() / 3);
        Answer { silent_after, ..fixture.answer(request) }
    });
    let text = refusal("silence", &host, &server);
    assert!(text.contains("a whiteout of nothing"), "{text}");
    assert_eq!(server.seen().iter().filter(|request| request.path == layer).count(), 1, "not even asked for again");
}

#[test]
fn a_pull_that_failed_waits_for_no_other_pull_of_its_layers() {
    if !is_root() {
        return;
    }
    let (small, host) = (Fixture::small(), Host::new());
    let config = String::from_utf8(small.config.clone()).unwrap();
    let present: Digest = config.split('"').find_map(|word| word.parse().ok()).unwrap();
    let absent = Digest::of(b"nowhere");
    let config = config.replace(&present.to_string(), &format!("{present}\",\"{absent}"));
    let layer = format!(r#""digest":"{absent}","size":7}}]}}"#);
    let manifest = String::from_utf8(small.manifest.clone()).unwrap();
    let manifest = manifest
        .replace(&small.id().to_string(), &Digest::of(config.as_bytes()).to_string())
        .replace("]}", &format!(r#",{{"mediaType":"application/vnd.oci.image.layer.v1.tar",{layer}"#));
    let fixture = Fixture { config: config.into_bytes(), manifest: manifest.into_bytes(), ..small };
    let server = Server::start(move |request, _| fixture.answer(request));
    let _other = host.store.lock_layer(&present).unwrap();
    let text = chain(&host.pull(&server).unwrap_err());
    assert!(text.contains(&absent.to_string()) && text.contains("404 Not Found"), "{text}");
}

#[test]
fn a_pull_that_nobody_wants_any_more_ends() {
    if !is_root() {
        return;
    }
    // A layer of which a byte comes now and then, and a registry that says "later" again and again: each would take minutes.
    let (fixture, slow) = (Fixture::new(), Duration::from_millis(20));
    let dripping = Server::start(move |request, _| {
        let answer = fixture.answer(request);
        if fixture.is_layer(request) { Answer { drip: Some(slow), ..answer } } else { answer }
    });
    let busy = Server::start(|_, _| Answer::new(503, "").with("Retry-After", "60"));
    for (server, requests) in [(dripping, 3), (busy, 1)] {
        let host = Host::new();
        let is_wanted = || server.seen().len() < requests;
        let access = host.access();
        let options = PullOptions { is_wanted: &is_wanted, ..PullOptions::new(&access) };
        let text = chain(&pull(&host.store, &server.reference(), &options).unwrap_err());
        assert!(text.ends_with("broken off: it is not wanted any more"), "{text}");
        assert!(host.is_empty());
    }
}

#[test]
fn a_gzip_bomb_is_refused_while_it_unfolds() {
    if !is_root() {
        return;
    }
    // Members of a gzip stream follow each other: it takes no time to make it large.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 16 << 20]).unwrap();
    let member = encoder.finish().unwrap();
    let bomb = member.repeat(usize::try_from(RATIO_FREE_BYTES >> 24).unwrap() + 8);
    let fixture = Fixture::of(bomb, &Digest::of(b""), "amd64");
    let server = Server::start(move |request, _| fixture.answer(request));
    let text = refusal("bomb", &Host::new(), &server);
    assert!(text.contains("decompression bomb"), "{text}");
}

#[test]
fn documents_that_contradict_themselves_are_refused() {
    if !is_root() {
        return;
    }
    type Edit = fn(String) -> String;
    let cases: [(&str, Edit, &str); 9] = [
        ("no layers", |text| text.replace("\"layers\":", "\"annotations\":{},\"x\":"), "missing field `layers`"),
        (
            "fewer layers",
            |text| text[..text.find("\"layers\"").unwrap()].to_owned() + "\"layers\":[]}",
            "its manifest has 0 layers, its configuration 1",
        ),
        ("encrypted layer", |text| text.replace("tar+gzip", "tar+gzip+encrypted"), "not a layer we can read"),
        (
            "layer of another kind",
            |text| text.replace("application/vnd.oci.image.layer.v1.tar+gzip", "text/plain"),
            "not a layer we can read",
        ),
        (
            "a chart",
            |text| text.replace("application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json"),
            "not a container image",
        ),
        ("an index by name", |text| text.replace("image.manifest.v1", "image.index.v1"), "it holds something else"),
        ("a weak digest", |text| text.replace("sha256:", "md5:"), "not valid JSON of its kind"),
        ("deep JSON", |_| "[".repeat(1 << 20), "not valid JSON"),
        ("a negative size", |text| text.replace("\"size\":", "\"size\":-"), "not valid JSON of its kind"),
    ];
    for (name, edit, expected) in cases {
        let mut fixture = Fixture::small();
        fixture.manifest = edit(String::from_utf8(fixture.manifest).unwrap()).into_bytes();
        let server = Server::start(move |request, _| {
            let mut answer = fixture.answer(request);
            if request.path.contains("/manifests/") {
                answer.headers.clear();
            }
            answer
        });
        let text = refusal(name, &Host::new(), &server);
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn a_layer_of_another_size_is_refused() {
    if !is_root() {
        return;
    }
    for (name, difference) in [("longer than promised", -1), ("shorter than promised", 1)] {
        let mut fixture = Fixture::small();
        let size = fixture.layer.len();
        let wrong = format!("\"size\":{}", size as i64 + difference);
        fixture.manifest = String::from_utf8(fixture.manifest).unwrap().replace(&format!("\"size\":{size}"), &wrong).into_bytes();
        let server = Server::start(move |request, _| fixture.answer(request));
        let text = refusal(name, &Host::new(), &server);
        assert!(text.contains("layer sha256:"), "{name}: {text}");
    }
}

#[test]
fn a_server_that_drips_is_given_up_on() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::small();
    for at in ["manifest", "layer"] {
        let (served, host) = (fixture.clone(), Host::new());
        let server = Server::start(move |request: &Request, _| {
            let mut answer = served.answer(request);
            let drips = if at == "layer" { served.is_layer(request) } else { request.path.contains("/manifests/") };
            answer.drip = drips.then_some(Duration::from_millis(5));
            answer
        });
        let patience = Patience { progress: Duration::from_millis(100), progress_bytes: 1 << 20, ..Patience::default() };
        let retry = Retry { attempts: 1, first_wait: Duration::from_millis(1) };
        let access = Access { patience, retry, ..Access::default() };
        let text = chain(&pull(&host.store, &server.reference(), &PullOptions::new(&access)).unwrap_err());
        assert!(text.contains(at) && text.contains("bytes came in"), "{at}: {text}");
        assert!(host.is_empty());
    }
}

#[test]
fn a_silent_server_is_given_up_on() {
    let server = Server::start(|_, _| {
        std::thread::sleep(Duration::from_secs(2));
        Answer::new(200, "")
    });
    let host = Host::new();
    let patience = Patience { silence: Duration::from_millis(50), ..Patience::default() };
    let retry = Retry { attempts: 1, first_wait: Duration::from_millis(1) };
    let access = Access { patience, retry, ..Access::default() };
    let text = chain(&pull(&host.store, &server.reference(), &PullOptions::new(&access)).unwrap_err());
    assert!(text.contains("timeout"), "{text}");
    assert!(host.is_empty());
}
