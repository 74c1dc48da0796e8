//! Pushes to a registry that keeps what it gets, cuts connections, forgets and refuses on demand.

use super::{Access, Retry, chain};
use crate::image::ImageId;
use crate::image::config::ImageConfig;
use crate::image::manifest::{Document, media_type, parse};
use crate::image::platform::Platform;
use crate::image::publish::{Origin, manifest_of};
use crate::image::registry::{PushError, PushOptions, Pushed, Tagged, push};
use crate::image::store::ImageStore;
use crate::image::tests::{is_root, rootfs_tar};
use spec::value::{Digest, ImageReference};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the registry has, what it saw, and what it is told to do wrong.
#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    /// What came of each blob that is being uploaded, by the path of the upload.
    uploads: BTreeMap<String, Vec<u8>>,
    /// Requests in short: `PATCH 0-99`.
    log: Vec<String>,
    /// The connections of the next uploads are cut, each after so many bytes.
    cuts: Vec<usize>,
    /// A cut upload is forgotten.
    forgets: bool,
    /// Larger requests are refused.
    most: Option<usize>,
    /// A repository whose blobs can be mounted.
    mounts_from: Option<&'static str>,
    /// So many requests are answered 503 first.
    busy: usize,
}

/// A registry of one repository on loopback; it ends with the test process' threads.
struct Registry {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Registry {
    fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(connection, &state)));
            }
        });
        Self { address, state }
    }

    fn reference(&self) -> ImageReference {
        format!("{}/team/app:1", self.address).parse().unwrap()
    }

    fn push(&self, store: &ImageStore, id: &ImageId, tagged: Tagged) -> Result<Pushed, PushError> {
        let retry = Retry { attempts: 3, first_wait: Duration::from_millis(1) };
        let access = Access { retry, ..Access::default() };
        push(store, id, &self.reference(), &PushOptions { access: &access, tagged, progress: &|_| {} })
    }

    /// What it saw since the last time, without the questions whether something is there.
    fn log(&self) -> Vec<String> {
        let mut log = std::mem::take(&mut self.state.lock().unwrap().log);
        log.retain(|line| !line.starts_with("HEAD"));
        log
    }

    /// Whether it has all of the image that the tag stands for.
    fn has_all(&self) -> bool {
        let state = self.state.lock().unwrap();
        let Document::Manifest(manifest) = parse(&state.manifests["1"], None).unwrap() else { panic!("an image") };
        manifest.layers.iter().chain([&manifest.config]).all(|blob| state.blobs.contains_key(&blob.digest.to_string()))
    }
}

/// Answers one request and closes.
fn serve(mut connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut head = Vec::new();
    for line in reader.by_ref().lines() {
        match line? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let mut words = head[0].split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let header = |name: &str| {
        let found = head[1..].iter().filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let cut = if method == "PATCH" { state.lock().unwrap().cuts.pop() } else { None };
    let mut body = vec![0; cut.unwrap_or(length)];
    let refuses = state.lock().unwrap().most.is_some_and(|most| length > most);
    reader.read_exact(&mut body)?;
    let mut state = state.lock().unwrap();
    if cut.is_some() {
        state.log.push("cut".to_owned());
        let upload = path.split('?').next().unwrap_or_default()["/v2/team/app/".len()..].to_owned();
        if state.forgets {
            state.uploads.remove(&upload);
        } else {
            state.uploads.entry(upload).or_default().extend(body);
        }
        return Ok(());
    }
    if refuses {
        state.log.push("refused".to_owned());
        return answer(&mut connection, 413, "", b"");
    }
    if state.busy > 0 {
        state.busy -= 1;
        return answer(&mut connection, 503, "", b"");
    }
    let (status, headers, content) = state.answer(&method, &path, header("content-range").as_deref(), body);
    drop(state);
    answer(&mut connection, status, &headers, if method == "HEAD" { b"" } else { &content })
}

fn answer(connection: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(connection, "HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n", body.len())?;
    connection.write_all(body)
}

impl State {
    fn answer(&mut self, method: &str, path: &str, range: Option<&str>, body: Vec<u8>) -> (u16, String, Vec<u8>) {
        let nothing = |status| (status, String::new(), Vec::new());
        let path = path.strip_prefix("/v2/team/app/").unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let of = if path.starts_with("upload/") { "upload" } else { path };
        self.log.push(format!("{method} {}", range.unwrap_or(if query.contains("mount=") { "mount" } else { of })));
        let uploading = |path: &str| format!("Location: /v2/team/app/{path}?state=a%2Fb\r\n");
        match (method, path) {
            ("HEAD", blob) => nothing(if self.blobs.contains_key(&blob["blobs/".len()..]) { 200 } else { 404 }),
            ("POST", _) => match query.strip_prefix("mount=").and_then(|rest| rest.split_once("&from=")) {
                Some((digest, from)) if self.mounts_from == Some(from) => {
                    self.blobs.insert(digest.to_owned(), Vec::new());
                    nothing(201)
                }
                Some(_) | None => {
                    let path = format!("upload/{}", self.log.len());
                    self.uploads.insert(path.clone(), Vec::new());
                    (202, uploading(&path), Vec::new())
                }
            },
            ("GET", upload) if upload.starts_with("upload/") => match self.uploads.get(upload) {
                Some(bytes) => (204, format!("{}Range: 0-{}\r\n", uploading(upload), bytes.len().saturating_sub(1)), Vec::new()),
                None => nothing(404),
            },
            ("PATCH", upload) => {
                let from = range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0);
                let bytes = self.uploads.get_mut(upload).unwrap();
                assert_eq!(bytes.len(), from, "every byte is sent once");
                bytes.extend(body);
                (202, uploading(upload), Vec::new())
            }
            ("PUT", upload) if upload.starts_with("upload/") => {
                let mut bytes = self.uploads.remove(upload).unwrap();
                bytes.extend(body);
                let (_, digest) = query.rsplit_once("digest=").unwrap();
                if Digest::of(&bytes).to_string() != digest {
                    return (400, String::new(), br#"{"errors":[{"code":"DIGEST_INVALID"}]}"#.to_vec());
                }
                self.blobs.insert(digest.to_owned(), bytes);
                nothing(201)
            }
            ("PUT", manifest) => {
                self.manifests.insert(manifest["manifests/".len()..].to_owned(), body);
                nothing(201)
            }
            ("GET", manifest) => match self.manifests.get(&manifest["manifests/".len()..]) {
                Some(bytes) => (200, String::new(), bytes.clone()),
                None => nothing(404),
            },
            (other, path) => panic!("{other} {path}"),
        }
    }
}

fn host() -> (tempfile::TempDir, ImageStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    (directory, store)
}

/// An image with a layer of so many bytes that do not compress.
fn image(store: &ImageStore, bytes: usize, architecture: &str) -> ImageId {
    // A block that comes again is too far away for deflate to see.
    let block: Vec<u8> = (0..1_u32 << 12).flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes()).collect();
    let noise: Vec<u8> = block.into_iter().cycle().take(bytes).collect();
    let mut config = ImageConfig::empty(&Platform { architecture: architecture.to_owned(), ..Platform::host() });
    config.rootfs.diff_ids.push(store.import_layer(&rootfs_tar(&[("noise", &noise)])[..]).unwrap().diff_id);
    store.put_image(&config).unwrap()
}

/// More than is sent with one request.
const LARGE: usize = 5 << 20;

#[test]
fn what_is_there_is_not_sent_again() {
    if !is_root() {
        return;
    }
    let ((_directory, store), registry) = (host(), Registry::start(State { busy: 2, ..State::default() }));
    let id = image(&store, 1000, "amd64");
    let pushed = registry.push(&store, &id, Tagged::Image).unwrap();
    assert_eq!((pushed.origin, pushed.digest), (Origin::Made, manifest_of(&store, &id).unwrap().digest));
    let mut log = registry.log();
    log.sort();
    assert_eq!(log, ["POST blobs/uploads/", "POST blobs/uploads/", "PUT manifests/1", "PUT upload", "PUT upload"].map(str::to_owned));
    assert!(registry.has_all());
    let again = registry.push(&store, &id, Tagged::Image).unwrap();
    assert_eq!((again.origin, again.digest), (Origin::Kept, pushed.digest));
    assert_eq!(registry.log(), ["PUT manifests/1"]);
}

#[test]
fn a_cut_upload_goes_on_where_it_was_cut() {
    if !is_root() {
        return;
    }
    for (forgets, expected) in [(false, "PATCH 1000000-"), (true, "PATCH upload")] {
        let ((_directory, store), registry) = (host(), Registry::start(State { cuts: vec![1_000_000], forgets, ..State::default() }));
        let id = image(&store, LARGE, "amd64");
        registry.push(&store, &id, Tagged::Image).unwrap();
        let log = registry.log();
        assert!(log.iter().any(|line| line == "cut") && log.iter().any(|line| line.starts_with(expected)), "{log:?}");
        assert!(registry.has_all());
    }
}

#[test]
fn an_upload_that_moves_on_between_its_cuts_is_not_given_up() {
    if !is_root() {
        return;
    }
    let ((_directory, store), registry) = (host(), Registry::start(State { cuts: vec![5_000_000; 6], ..State::default() }));
    let id = image(&store, 32 << 20, "amd64");
    registry.push(&store, &id, Tagged::Image).unwrap();
    assert_eq!(registry.log().iter().filter(|line| *line == "cut").count(), 6);
    assert!(registry.has_all());
}

#[test]
fn a_registry_that_takes_no_large_requests_gets_pieces() {
    if !is_root() {
        return;
    }
    let ((_directory, store), registry) = (host(), Registry::start(State { most: Some(33 << 20), ..State::default() }));
    let id = image(&store, 40 << 20, "amd64");
    registry.push(&store, &id, Tagged::Image).unwrap();
    let log = registry.log();
    assert!(log.contains(&"refused".to_owned()) && log.contains(&"PATCH 0-33554431".to_owned()), "{log:?}");
    assert!(registry.has_all());
}

#[test]
fn a_blob_is_mounted_from_where_it_was_seen() {
    if !is_root() {
        return;
    }
    for (known, expected) in [("other/app", 0), ("gone/app", 1)] {
        let ((_directory, store), registry) = (host(), Registry::start(State { mounts_from: Some("other/app"), ..State::default() }));
        let id = image(&store, LARGE, "amd64");
        let layer = manifest_of(&store, &id).unwrap().layers[0].digest;
        store.remember_place(&layer, &registry.address, known);
        store.remember_place(&layer, "elsewhere.example", "other/app");
        registry.push(&store, &id, Tagged::Image).unwrap();
        let log = registry.log();
        assert_eq!(log.iter().filter(|line| line.starts_with("PATCH")).count(), expected, "{log:?}");
        assert_eq!(log.iter().filter(|line| *line == "POST mount").count(), 1, "{log:?}");
        assert_eq!(store.places_of([&layer], &registry.address, known, 9)[&layer], ["team/app"]);
    }
}

#[test]
fn an_index_keeps_the_images_of_other_platforms() {
    if !is_root() {
        return;
    }
    let ((_directory, store), registry) = (host(), Registry::start(State::default()));
    let (here, there, newer) = (image(&store, 100, "amd64"), image(&store, 200, "arm64"), image(&store, 300, "amd64"));
    for (id, architectures) in [(here, &["amd64"][..]), (there, &["amd64", "arm64"]), (newer, &["arm64", "amd64"])] {
        let pushed = registry.push(&store, &id, Tagged::Index).unwrap();
        let bytes = registry.state.lock().unwrap().manifests["1"].clone();
        assert_eq!(pushed.digest, Digest::of(&bytes));
        let Document::Index(index) = parse(&bytes, Some(media_type::OCI_INDEX)).unwrap() else { panic!("an index") };
        let found: Vec<_> = index.manifests.iter().map(|entry| entry.platform.as_ref().unwrap().architecture.as_str()).collect();
        assert_eq!(found, architectures);
        for entry in &index.manifests {
            assert!(registry.state.lock().unwrap().manifests.contains_key(&entry.digest.to_string()));
        }
    }
}

#[test]
fn a_blob_that_was_damaged_here_is_made_again() {
    if !is_root() {
        return;
    }
    let ((_directory, store), registry) = (host(), Registry::start(State::default()));
    let id = image(&store, 1000, "amd64");
    let blob = manifest_of(&store, &id).unwrap().layers[0].clone();
    fs::write(store.directory().join("blobs/sha256").join(blob.digest.hex()), vec![0; blob.size as usize]).unwrap();
    registry.push(&store, &id, Tagged::Image).unwrap();
    assert!(registry.has_all() && store.blob_is_sound(&blob).unwrap());
}

#[test]
fn what_cannot_be_pushed_says_why() {
    if !is_root() {
        return;
    }
    let ((_directory, store), registry) = (host(), Registry::start(State { busy: 99, ..State::default() }));
    let id = image(&store, 100, "amd64");
    let text = chain(&registry.push(&store, &id, Tagged::Image).unwrap_err());
    assert!(text.starts_with("put blob sha256:") && text.contains("of registry 127.0.0.1:") && text.contains("503"), "{text}");
    let gone = format!("{}/a:1", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let access = Access::default();
    let options = PushOptions { access: &access, tagged: Tagged::Image, progress: &|_| {} };
    let unmade = image(&store, 200, "amd64");
    let text = chain(&push(&store, &unmade, &gone.parse().unwrap(), &options).unwrap_err());
    assert!(text.contains("nothing listens there"), "{text}");
    let layer = store.layers_of(&unmade).unwrap()[0];
    assert!(store.layer(&layer).unwrap().unwrap().blob.is_none(), "nothing is compressed for nobody");
    let pinned = format!("{}/a@{id}", registry.address).parse().unwrap();
    assert!(matches!(push(&store, &id, &pinned, &options), Err(PushError::Pinned { .. })));
}
