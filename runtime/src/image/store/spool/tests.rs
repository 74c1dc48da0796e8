//! Blobs that come in pieces, from sources that fail, lie and die.

use crate::image::layer::LayerError;
use crate::image::manifest::{Descriptor, media_type};
use crate::image::store::{ImageStore, Limits, StoreError, no_room};
use crate::image::tests::{gzip, is_root, rootfs_tar};
use spec::value::Digest;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Tells a test run as a child which store to fetch into.
const CHILD_STORE: &str = "RUNTIME_TEST_SPOOL_STORE";

/// A layer whose blob is large enough to be cut in pieces, always the same.
struct Layer {
    bytes: Vec<u8>,
    blob: Descriptor,
    diff_id: Digest,
}

fn layer() -> Layer {
    layer_of(&[("first", b"1"), ("noise", &noise()), ("last", b"2")])
}

fn noise() -> Vec<u8> {
    (0..100_000_u32).flat_map(|n| Digest::of(&n.to_le_bytes()).as_bytes()[..8].to_vec()).collect()
}

fn layer_of(files: &[(&str, &[u8])]) -> Layer {
    let tar = rootfs_tar(files);
    let bytes = gzip(&tar);
    let blob = Descriptor {
        media_type: media_type::OCI_LAYER_GZIP.to_owned(),
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: Default::default(),
    };
    Layer { bytes, blob, diff_id: Digest::of(&tar) }
}

/// A store, and what it asks a source for.
struct Fetching {
    directory: tempfile::TempDir,
    store: ImageStore,
    asked: Mutex<Vec<u64>>,
}

impl Fetching {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open_at(directory.path()).unwrap();
        Self { directory, store, asked: Mutex::default() }
    }

    /// Fetches from a source that has these bytes and then fails, or ends.
    fn fetch(&self, layer: &Layer, bytes: &[u8], end: Result<(), io::ErrorKind>) -> Result<(), StoreError> {
        let fetched = self.store.unpack_blob(&layer.blob, &layer.diff_id, |position| {
            self.asked.lock().unwrap().push(position);
            Ok(bytes[position as usize..].chain(Ending(end)))
        });
        fetched.map(drop)
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }

    fn partial(&self, layer: &Layer) -> Option<u64> {
        fs::metadata(partial(self.directory.path(), layer)).ok().map(|found| found.len())
    }

    fn has_all_of(&self, layer: &Layer) -> bool {
        let kept = self.store.blob(&layer.blob.digest).is_ok_and(|kept| kept == layer.bytes);
        kept && self.store.has_layer(&layer.diff_id) && self.partial(layer).is_none()
    }
}

fn partial(store: &Path, layer: &Layer) -> std::path::PathBuf {
    store.join("partial").join(layer.blob.digest.hex())
}

struct Ending(Result<(), io::ErrorKind>);

impl Read for Ending {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.map(|()| 0).map_err(Into::into)
    }
}

#[test]
fn only_the_rest_is_asked_for_after_a_break() {
    if !is_root() {
        return;
    }
    let (layer, fetching) = (layer(), Fetching::new());
    let half = layer.bytes.len() / 2;
    fetching.fetch(&layer, &layer.bytes[..half], Err(io::ErrorKind::ConnectionReset)).unwrap_err();
    assert_eq!(fetching.partial(&layer), Some(half as u64));
    assert!(!fetching.store.has_layer(&layer.diff_id));
    fetching.fetch(&layer, &layer.bytes, Ok(())).unwrap();
    assert_eq!(fetching.asked(), [0, half as u64]);
    assert!(fetching.has_all_of(&layer));
}

#[test]
fn a_damaged_beginning_is_fetched_anew() {
    if !is_root() {
        return;
    }
    let (layer, fetching) = (layer(), Fetching::new());
    // As a power cut leaves a file: long, and empty.
    fs::write(partial(fetching.directory.path(), &layer), vec![0; 200_000]).unwrap();
    fetching.fetch(&layer, &layer.bytes, Ok(())).unwrap();
    assert_eq!(fetching.asked(), [200_000, 0]);
    assert!(fetching.has_all_of(&layer));
    // More than the whole blob is no beginning of it.
    let (layer, fetching) = (self::layer(), Fetching::new());
    fs::write(partial(fetching.directory.path(), &layer), [&layer.bytes[..], b"more"].concat()).unwrap();
    fetching.fetch(&layer, &layer.bytes, Ok(())).unwrap();
    assert_eq!(fetching.asked(), [0]);
}

#[test]
fn what_is_wrong_from_its_first_byte_is_not_kept() {
    if !is_root() {
        return;
    }
    let (layer, fetching) = (layer(), Fetching::new());
    let mut wrong = layer.bytes.clone();
    wrong[4] ^= 1; // the time in the header: it unpacks to the same
    fetching.fetch(&layer, &wrong, Ok(())).unwrap_err();
    fetching.fetch(&layer, &layer.bytes[..9], Ok(())).unwrap_err();
    assert_eq!(fetching.partial(&layer), None);
    assert!(!fetching.store.has_layer(&layer.diff_id) && !fetching.store.has_blob(&layer.blob.digest));
}

#[test]
fn what_is_found_wrong_is_not_kept_whatever_becomes_of_its_source() {
    if !is_root() {
        return;
    }
    let (layer, fetching) = (layer_of(&[(".wh.", b""), ("noise", &noise())]), Fetching::new());
    let error = fetching.fetch(&layer, &layer.bytes[..layer.bytes.len() / 2], Err(io::ErrorKind::ConnectionReset)).unwrap_err();
    assert!(matches!(error, StoreError::Layer(LayerError::Refused { .. })), "{error:?}");
    assert_eq!(fetching.partial(&layer), None);
}

#[test]
fn what_this_host_has_no_room_for_is_not_asked_for_twice() {
    if !is_root() {
        return;
    }
    let (layer, mut fetching) = (layer(), Fetching::new());
    let (half, has_room) = (layer.bytes.len() / 2, fetching.store.limits());
    fetching.fetch(&layer, &layer.bytes[..half], Err(io::ErrorKind::ConnectionReset)).unwrap_err();
    fetching.store = fetching.store.with_limits(Limits { floor: Some(u64::MAX), ..has_room });
    let error = fetching.fetch(&layer, &layer.bytes, Ok(())).unwrap_err();
    assert!(no_room(&error).is_some(), "{error:?}");
    assert_eq!(fetching.asked(), [0, half as u64]);
    assert_eq!(fetching.partial(&layer), None, "what came gives its room back");
    // A kept blob is no worse for it.
    let path = fetching.store.blob_path(&layer.blob.digest);
    fs::write(&path, &layer.bytes).unwrap();
    fetching.fetch(&layer, &layer.bytes, Ok(())).unwrap_err();
    assert!(path.exists());
}

#[test]
fn many_who_want_a_blob_fetch_it_once() {
    if !is_root() {
        return;
    }
    let (layer, fetching) = (layer(), Fetching::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetching.fetch(&layer, &layer.bytes, Ok(())).unwrap());
        }
    });
    assert_eq!(fetching.asked(), [0]);
    assert!(fetching.has_all_of(&layer));
}

#[test]
fn a_kept_blob_becomes_a_layer_again_unless_it_is_damaged() {
    if !is_root() {
        return;
    }
    for damaged in [false, true] {
        let (layer, fetching) = (layer(), Fetching::new());
        let kept = if damaged { vec![0; layer.bytes.len()] } else { layer.bytes.clone() };
        fs::write(fetching.store.blob_path(&layer.blob.digest), kept).unwrap();
        fetching.fetch(&layer, &layer.bytes, Ok(())).unwrap();
        assert_eq!(fetching.asked(), if damaged { vec![0] } else { vec![] });
        assert!(fetching.has_all_of(&layer));
    }
}

/// Not a test of its own: what [`a_killed_fetch_is_resumed`] runs as a child.
#[test]
fn child_that_fetches_from_standard_input() {
    if let Some(directory) = std::env::var_os(CHILD_STORE) {
        let (layer, store) = (layer(), ImageStore::open_at(Path::new(&directory)).unwrap());
        store.unpack_blob(&layer.blob, &layer.diff_id, |_| Ok(io::stdin())).unwrap();
    }
}

#[test]
fn a_killed_fetch_is_resumed() {
    if !is_root() {
        return;
    }
    let (layer, fetching) = (layer(), Fetching::new());
    let reached = layer.bytes.len() / 3;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "image::store::spool::tests::child_that_fetches_from_standard_input"])
        .env(CHILD_STORE, fetching.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&layer.bytes[..reached]).unwrap();
    while fetching.partial(&layer) != Some(reached as u64) {
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(pipe);
    fetching.fetch(&layer, &layer.bytes, Ok(())).unwrap();
    assert_eq!(fetching.asked(), [reached as u64]);
    assert!(fetching.has_all_of(&layer));
}
