//! Files of every kind that may be imported, and those that may not.

use super::{ImportError, Spooled, import};
use crate::image::ImageId;
use crate::image::manifest::media_type;
use crate::image::platform::Platform;
use crate::image::store::ImageStore;
use crate::image::tests::{gzip, is_root, rootfs_tar, write_oci_layout};
use spec::value::Digest;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn hello(&self, id: &ImageId) -> String {
        let image = self.store.image(id).unwrap();
        fs::read_to_string(image.layers.last().unwrap().join("etc/hello")).unwrap()
    }

    fn refuses(&self, path: &Path) -> String {
        let error = import(&self.store, path).unwrap_err();
        let images = self.directory.path().join("images");
        assert_eq!(fs::read_dir(images.join("images")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(images.join("scratch")).unwrap().count(), 0);
        chain(&error)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

/// What a program that compresses makes of bytes.
fn by_tool(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

/// Layer, configuration and manifest of an image.
fn image() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let layer = rootfs_tar(&[("etc/hello", b"hello")]);
    let (diff_id, architecture) = (Digest::of(&layer), Platform::host().architecture);
    let config = format!(r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{{"mediaType":"{}","digest":"{diff_id}","size":{}}}]}}"#,
        media_type::OCI_CONFIG,
        Digest::of(config.as_bytes()),
        config.len(),
        media_type::OCI_LAYER,
        layer.len()
    );
    (layer, config.into_bytes(), manifest.into_bytes())
}

/// A `docker save` archive as it was for ten years.
fn saved(layer: &[u8], config: &[u8]) -> Vec<u8> {
    let (name, directory) = (format!("{}.json", Digest::of(config).hex()), Digest::of(b"v1 id").hex());
    let manifest = format!(r#"[{{"Config":"{name}","RepoTags":["x:1"],"Layers":["{directory}/layer.tar"]}}]"#);
    rootfs_tar(&[
        (&format!("{directory}/VERSION"), b"1.0"),
        (&format!("{directory}/layer.tar"), layer),
        (&name, config),
        ("repositories", b"{}"),
        ("manifest.json", manifest.as_bytes()),
    ])
}

/// As tools write it that name the parts freely.
fn written(layer: &[u8], layer_name: &str, config: &[u8], config_name: &str) -> Vec<u8> {
    let manifest = format!(r#"[{{"Config":"{config_name}","RepoTags":["x:1"],"Layers":["{layer_name}"]}}]"#);
    rootfs_tar(&[(config_name, config), (layer_name, layer), ("manifest.json", manifest.as_bytes())])
}

#[test]
fn an_image_that_does_not_run_here_does_not_come_in() {
    if !is_root() {
        return;
    }
    let (host, (layer, config, _)) = (Host::new(), image());
    let config = String::from_utf8(config).unwrap();
    let here = format!("\"architecture\":\"{}\"", Platform::host().architecture);
    let other = config.replace(&here, "\"architecture\":\"s390x\"");
    let refused = host.refuses(&host.file("other.tar", &saved(&layer, other.as_bytes())));
    assert!(refused.contains("it is for linux/s390x, which does not run here"), "{refused}");
    let silent = config.replace(&here, "\"architecture\":\"\"").replace("\"os\":\"linux\"", "\"os\":\"\"");
    import(&host.store, &host.file("silent.tar", &saved(&layer, silent.as_bytes()))).unwrap();
}

#[test]
fn a_root_file_system_is_one_layer_whatever_its_compression() {
    if !is_root() {
        return;
    }
    let tar = rootfs_tar(&[("etc/hello", b"hello"), ("index.json", b"a file like any other")]);
    let host = Host::new();
    let mut ids = Vec::new();
    let mut packed = vec![("root.tar", tar.clone()), ("root.tar.gz", gzip(&tar)), ("root.bin", zstd::encode_all(&tar[..], 3).unwrap())];
    packed.extend([("root.txz", by_tool("xz", &tar)), ("root.bz2", by_tool("bzip2", &tar))]);
    for (name, bytes) in packed {
        let id = import(&host.store, &host.file(name, &bytes)).unwrap();
        assert_eq!(host.hello(&id), "hello");
        ids.push(id);
    }
    ids.push(import(&host.store, &Spooled::new(&host.store, &tar[..]).unwrap().path()).unwrap());
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(host.store.image(&ids[0]).unwrap().config.os, "linux");
    assert_eq!(import(&Host::new().store, &host.file("again.tar", &tar)).unwrap(), ids[0]);
}

#[test]
fn a_docker_archive_is_the_image_it_was_saved_from() {
    if !is_root() {
        return;
    }
    let (layer, config, _) = image();
    let archive = saved(&layer, &config);
    let by_crane = written(&gzip(&layer), &format!("{}.tar.gz", Digest::of(b"x").hex()), &config, &Digest::of(&config).to_string());
    let by_bazel = written(&layer, "layer.tar", &config, "config.json");
    for bytes in [archive.clone(), gzip(&archive), by_tool("xz", &archive), by_tool("bzip2", &archive), by_crane, by_bazel] {
        let host = Host::new();
        let id = import(&host.store, &host.file("saved.tar", &bytes)).unwrap();
        assert_eq!(id, Digest::of(&config));
        assert_eq!(host.hello(&id), "hello");
    }
}

#[test]
fn an_oci_layout_is_its_image_as_directory_and_as_tar() {
    if !is_root() {
        return;
    }
    let (layer, config, manifest) = image();
    let host = Host::new();
    let layout = host.directory.path().join("layout");
    write_oci_layout(&layout, &[&layer, &config], &manifest);
    let id = import(&host.store, &layout).unwrap();
    assert_eq!((id, host.hello(&id).as_str()), (Digest::of(&config), "hello"));
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", &layout).unwrap();
    let other = Host::new();
    let id = import(&other.store, &other.file("layout.tar", &tar.into_inner().unwrap())).unwrap();
    assert_eq!((id, other.hello(&id).as_str()), (Digest::of(&config), "hello"));
}

#[test]
fn what_skopeo_writes_is_read() {
    if !is_root() {
        return;
    }
    if !Path::new("/usr/bin/skopeo").exists() {
        eprintln!("SKIPPED: skopeo is not installed");
        return;
    }
    let (layer, config, manifest) = image();
    let host = Host::new();
    let layout = host.directory.path().join("layout");
    write_oci_layout(&layout, &[&layer, &config], &manifest);
    for kind in ["docker-archive", "oci-archive", "oci", "dir"] {
        let target = host.directory.path().join(format!("copied-{kind}"));
        let mut skopeo = std::process::Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--insecure-policy"]).arg(format!("oci:{}", layout.display()));
        let output = skopeo.arg(format!("{kind}:{}", target.display())).env("TMPDIR", host.directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let fresh = Host::new();
        let id = import(&fresh.store, &target).unwrap();
        assert_eq!(fresh.hello(&id), "hello", "{kind}");
    }
}

#[test]
fn broken_archives_are_refused_by_name() {
    if !is_root() {
        return;
    }
    let (layer, config, manifest) = image();
    let host = Host::new();
    let two = String::from_utf8(saved(&layer, &config)).unwrap();
    let entry = &two[two.find("[{").unwrap()..two.find("}]").unwrap() + 1][1..];
    let both = rootfs_tar(&[("manifest.json", format!("[{entry},{entry}]").as_bytes())]);
    let evil = saved(&rootfs_tar(&[("etc/hello", b"evil!")]), &config);
    let missing = rootfs_tar(&[("oci-layout", b"{}"), ("index.json", &manifest)]);
    let outside = rootfs_tar(&[("manifest.json", br#"[{"Config":"../../etc/passwd","Layers":[]}]"#)]);
    let fewer = saved(&layer, br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    for (name, bytes, expected) in [
        ("two.tar", both, "it holds 2 images (x:1, x:1)"),
        ("evil.tar", evil, "digest of the uncompressed layer is"),
        ("missing.tar", missing, &format!("blobs/sha256/{} is missing", Digest::of(&config).hex()) as &str),
        ("outside.tar", outside, "../../etc/passwd is missing"),
        ("fewer.tar", fewer, "its manifest has 1 layers, its configuration 0"),
        ("cut.tar", layer[..600].to_vec(), "read the layer"),
        ("empty.tar", Vec::new(), "the file is empty"),
        ("text.tar", vec![b'x'; 2000], "no tar header"),
        ("root.tar.xz", b"\xfd7zXZ\0\0\0".to_vec(), "unpack"),
    ] {
        let text = host.refuses(&host.file(name, &bytes));
        assert!(text.contains(expected), "{name}: {text}");
        assert!(text.contains(name), "{text}");
    }
    let absent = import(&host.store, &host.directory.path().join("absent"));
    assert!(matches!(absent, Err(ImportError::File(_))));
}

#[test]
fn what_is_loaded_may_name_its_parts_as_it_likes() {
    if !is_root() {
        return;
    }
    let (layer, config, _) = image();
    let parts: [(&str, &[u8]); 3] = [
        ("manifest.json", br#"[{"Config":"the/configuration","RepoTags":["x:1"],"Layers":["a layer"]}]"#),
        ("the/configuration", &config),
        ("a layer", &layer),
    ];
    let host = Host::new();
    let loaded = super::load(&host.store, &host.file("odd.tar", &rootfs_tar(&parts))).unwrap();
    assert_eq!(loaded.iter().map(|image| host.hello(&image.id)).collect::<Vec<_>>(), ["hello"]);
}

#[test]
fn archives_have_their_limits() {
    if !is_root() {
        return;
    }
    let (layer, config, _) = image();
    let host = Host::new();
    let id = Digest::of(&config);
    let saved_as = |names: &str| format!(r#"{{"Config":"c.json","RepoTags":[{names}],"Layers":["l.tar"]}}"#);
    let listing =
        |listing: String| rootfs_tar(&[("manifest.json", format!("[{listing}]").as_bytes()), ("c.json", &config), ("l.tar", &layer)]);
    let many_images = listing(vec![saved_as(""); 1_001].join(","));
    let many_names = listing(saved_as(&(0..10_001).map(|number| format!(r#""x:{number}""#)).collect::<Vec<_>>().join(",")));
    let large = |name: &str, size: usize| rootfs_tar(&[("manifest.json", saved_as("").as_bytes()), (name, &vec![b' '; size])]);
    let descriptor = |kind: &str, digest: &str, size: usize| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#);
    let index = |line: &str| format!(r#"{{"schemaVersion":2,"manifests":[{line}]}}"#);
    // An index that leads to an index that leads to …
    let mut indexes = vec![index(&descriptor(media_type::OCI_MANIFEST, &id.to_string(), 1))];
    for _ in 0..5 {
        let inner = indexes.last().unwrap().clone();
        indexes.push(index(&descriptor(media_type::OCI_INDEX, &Digest::of(inner.as_bytes()).to_string(), inner.len())));
    }
    let names: Vec<String> = indexes.iter().map(|index| format!("blobs/sha256/{}", Digest::of(index.as_bytes()).hex())).collect();
    let mut nested: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(indexes.iter().map(String::as_bytes)).collect();
    nested.extend([("oci-layout", &b"{}"[..]), ("index.json", indexes.last().unwrap().as_bytes())]);
    let layers = vec![descriptor(media_type::OCI_LAYER, &id.to_string(), 1); 501].join(",");
    let config_line = descriptor(media_type::OCI_CONFIG, &id.to_string(), config.len());
    let tall = format!(r#"{{"schemaVersion":2,"config":{config_line},"layers":[{layers}]}}"#);
    let tall_name = format!("blobs/sha256/{}", Digest::of(tall.as_bytes()).hex());
    let tall_index = index(&descriptor(media_type::OCI_MANIFEST, &Digest::of(tall.as_bytes()).to_string(), tall.len()));
    let tall = rootfs_tar(&[("oci-layout", b"{}"), ("index.json", tall_index.as_bytes()), (&tall_name, tall.as_bytes())]);
    for (name, bytes, expected) in [
        ("images.tar", many_images, "it holds 1001 images, at most 1000 are taken"),
        ("names.tar", many_names, "it holds 10001 names, at most 10000 are taken"),
        ("manifest.tar", large("manifest.json", (4 << 20) + 1), "manifest.json is larger than 4194304 bytes"),
        ("index.tar", rootfs_tar(&nested), "its indexes nest deeper than 4"),
        ("layers.tar", tall, "manifest has 501 layers; at most 500 can be mounted"),
    ] {
        let error = super::load(&host.store, &host.file(name, &bytes)).unwrap_err();
        assert!(chain(&error).contains(expected), "{name}: {}", chain(&error));
    }
    let huge = rootfs_tar(&[
        ("manifest.json", format!("[{}]", saved_as("")).as_bytes()),
        ("c.json", &vec![b' '; (8 << 20) + 1]),
        ("l.tar", &layer),
    ]);
    let text = chain(&super::load(&host.store, &host.file("config.tar", &huge)).unwrap_err());
    assert!(text.contains("c.json is larger than 8388608 bytes"), "{text}");
}

#[test]
fn a_layout_directory_is_not_left_through_links() {
    if !is_root() {
        return;
    }
    let (layer, config, manifest) = image();
    let host = Host::new();
    let layout = host.directory.path().join("layout");
    write_oci_layout(&layout, &[&layer, &config], &manifest);
    let blob = layout.join("blobs/sha256").join(Digest::of(&config).hex());
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink(host.file("config", &config), &blob).unwrap();
    let text = host.refuses(&layout);
    assert!(text.contains("is missing"), "{text}");
}
