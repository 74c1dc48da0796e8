//! The store as its users see it, after crashes too.

use super::{Expected, ImageStore, Named, Roots, StoreError};
use crate::image::config::ImageConfig;
use crate::image::layer::{LayerError, Times};
use crate::image::platform::Platform;
use crate::image::tests::{describe_tree, is_root, rootfs_tar};
use spec::value::Digest;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a test run as a child which store to import into.
const CHILD_STORE: &str = "RUNTIME_TEST_CHILD_STORE";

fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    rootfs_tar(&files.iter().map(|(name, content)| (*name, content.as_bytes())).collect::<Vec<_>>())
}

fn image_of(store: &ImageStore, layers: &[Digest]) -> Digest {
    let mut config = ImageConfig::empty(&Platform::host());
    config.rootfs.diff_ids = layers.to_vec();
    store.put_image(&config).unwrap()
}

/// Names below a directory of the store.
fn names(root: &Path, part: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(root.join(part)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_image_is_found_by_its_names_and_lists_its_layers_lowest_first() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let low = store.import_layer(&layer(&[("low", "1")])[..]).unwrap();
    let high = store.import_layer(&layer(&[("high", "22")])[..]).unwrap();
    let id = image_of(&store, &[low.diff_id, high.diff_id]);
    assert_eq!(image_of(&store, &[low.diff_id, high.diff_id]), id);
    store.tag("docker.io/library/x:1", &id).unwrap();
    store.tag("shop-web", &id).unwrap();
    assert_eq!(store.find("shop-web").unwrap(), Some(id));
    assert_eq!(store.find("shop").unwrap(), None);
    let image = ImageStore::open_at(directory.path()).unwrap().image(&id).unwrap();
    assert_eq!(image.layers, [store.layer_dir(&low.diff_id), store.layer_dir(&high.diff_id)]);
    assert_eq!(fs::read_to_string(image.layers[1].join("high")).unwrap(), "22");
    let [summary] = &store.list().unwrap()[..] else { panic!("one image") };
    assert_eq!((summary.size_bytes, summary.keys.len()), (3, 2));
    store.untag("shop-web").unwrap();
    store.untag("shop-web").unwrap();
    assert_eq!(store.find("shop-web").unwrap(), None);
}

#[test]
fn an_image_without_its_layers_and_a_name_without_its_image_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let absent = Digest::of(b"absent");
    let mut config = ImageConfig::empty(&Platform::host());
    config.rootfs.diff_ids.push(absent);
    assert!(matches!(store.put_image(&config), Err(StoreError::NoLayer(missing)) if missing == absent));
    assert!(matches!(store.tag("x", &absent), Err(StoreError::NoImage(missing)) if missing == absent));
    assert!(matches!(store.image(&absent), Err(StoreError::NoImage(_))));
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn whoever_looks_is_not_troubled_by_images_that_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let has_looked = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !has_looked.load(Ordering::Relaxed) {
                let id = image_of(&store, &[]);
                store.tag("x", &id).unwrap();
                store.remove(&id).unwrap();
            }
        });
        let looked = (0..300).try_for_each(|_| store.list().and(store.garbage(&Roots::default())).map(drop));
        has_looked.store(true, Ordering::Relaxed);
        looked.unwrap();
    });
}

#[test]
fn collection_keeps_what_is_named_or_a_root_and_waits_for_nobody() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let add = |name: &str| store.import_layer(&layer(&[(name, "12345")])[..]).unwrap().diff_id;
    let (shared, named, rooted, loose, cached) = (add("shared"), add("named"), add("rooted"), add("loose"), add("cached"));
    let named_image = image_of(&store, &[shared, named]);
    let rooted_image = image_of(&store, &[rooted]);
    let loose_image = image_of(&store, &[shared, loose]);
    store.tag("name", &named_image).unwrap();
    let roots = Roots { images: BTreeSet::from([rooted_image]), layers: BTreeSet::from([cached]), ..Roots::default() };
    let lease = store.lease().unwrap();
    assert!(matches!(store.gc(&roots), Err(StoreError::Busy)));
    drop(lease);
    let freed = store.gc(&roots).unwrap();
    assert_eq!((freed.images, freed.layers), (1, 1));
    assert!(freed.bytes > 5);
    assert!([shared, named, rooted, cached].iter().all(|diff_id| store.has_layer(diff_id)));
    assert!(!store.has_layer(&loose) && !store.has_image(&loose_image));
    store.remove(&named_image).unwrap();
    assert_eq!(store.find("name").unwrap(), None);
    store.gc(&Roots::default()).unwrap();
    for part in ["layers", "images", "records", "blobs/sha256", "scratch"] {
        assert!(names(directory.path(), part).is_empty(), "{part}");
    }
}

#[test]
fn what_would_go_is_what_goes_and_names_go_first() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let add = |name: &str| store.import_layer(&layer(&[(name, &"x".repeat(9_000))])[..]).unwrap().diff_id;
    let (low, mine, theirs) = (add("low"), add("mine"), add("theirs"));
    let (kept, unused) = (image_of(&store, &[low, mine]), image_of(&store, &[low, theirs]));
    for (name, id) in [("site", kept), ("by-hand", kept), ("old", unused)] {
        store.tag(name, &id).unwrap();
    }
    assert!(store.garbage(&Roots::default()).unwrap().is_empty());
    let roots = Roots { named: Named::Only(BTreeSet::from(["site".to_owned()])), ..Roots::default() };
    let garbage = store.garbage(&roots).unwrap();
    assert_eq!(garbage.names, BTreeSet::from(["old".to_owned()]), "a name of an image that is kept stays");
    assert_eq!(garbage.images, BTreeSet::from([unused]));
    assert_eq!(garbage.layers.keys().copied().collect::<Vec<_>>(), [theirs]);
    assert!(garbage.bytes() >= 9_000, "{}", garbage.bytes());
    let before = store.usage().unwrap().total();
    assert_eq!(store.gc(&roots).unwrap().bytes, garbage.bytes());
    assert_eq!(store.usage().unwrap().total(), before - garbage.bytes());
    assert_eq!(store.names_of_images().unwrap().into_keys().collect::<Vec<_>>(), ["by-hand", "site"]);
}

#[test]
fn a_layer_with_another_digest_than_promised_leaves_nothing() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let expected = Expected { diff_id: Some(Digest::of(b"other")), blob: None };
    let error = store.unpack_layer(&layer(&[("file", "x")])[..], &expected).unwrap_err();
    assert!(matches!(error, StoreError::Layer(LayerError::Digest { what: "uncompressed layer", .. })));
    assert!(names(directory.path(), "layers").is_empty());
    assert!(names(directory.path(), "scratch").is_empty());
}

#[test]
fn a_layer_of_an_earlier_boot_counts_only_if_it_was_synced() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let synced = store.import_layer(&layer(&[("synced", "")])[..]).unwrap().diff_id;
    image_of(&store, &[synced]);
    let unsynced = store.import_layer(&layer(&[("unsynced", "")])[..]).unwrap().diff_id;
    assert!(ImageStore::open_at(directory.path()).unwrap().has_layer(&unsynced));
    for diff_id in [synced, unsynced] {
        let record = directory.path().join("layers").join(diff_id.hex()).join("layer.json");
        let text = fs::read_to_string(&record).unwrap().replace(&store.boot, "another boot");
        fs::write(&record, text).unwrap();
    }
    let store = ImageStore::open_at(directory.path()).unwrap();
    assert!(store.has_layer(&synced));
    assert!(!store.has_layer(&unsynced));
}

#[test]
fn many_importers_of_one_layer_end_with_one_layer() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let stream = layer(&[("a", "1"), ("b", "2")]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| store.import_layer(&stream[..]).unwrap());
        }
    });
    assert_eq!(names(directory.path(), "layers").len(), 1);
    assert!(names(directory.path(), "scratch").is_empty());
}

/// Not a test of its own: what [`a_killed_import_leaves_nothing`] runs as a child.
#[test]
fn child_that_imports_from_standard_input() {
    if let Some(directory) = std::env::var_os(CHILD_STORE) {
        let store = ImageStore::open_at(Path::new(&directory)).unwrap();
        store.import_layer(std::io::stdin()).unwrap();
    }
}

#[test]
fn a_killed_import_leaves_nothing() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let content = "x".repeat(100_000);
    let files: Vec<_> = (0..40).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let stream = layer(&files.iter().map(|name| (name.as_str(), content.as_str())).collect::<Vec<_>>());
    for part in [600, stream.len() / 3, stream.len() - 1024, stream.len()] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "image::store::tests::child_that_imports_from_standard_input"])
            .env(CHILD_STORE, directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&stream[..part]).unwrap();
        while !fs::read_dir(directory.path().join("scratch"))
            .is_ok_and(|mut entries| entries.any(|e| e.unwrap().path().join("root").exists()))
        {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(30));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(pipe);
        assert!(names(directory.path(), "layers").is_empty());
        let store = ImageStore::open_at(directory.path()).unwrap();
        assert!(names(directory.path(), "scratch").is_empty(), "killed after {part} bytes");
        // The lock of the dead child keeps nobody out.
        store.gc(&Roots::default()).unwrap();
    }
    let store = ImageStore::open_at(directory.path()).unwrap();
    let found = store.import_layer(&stream[..]).unwrap();
    assert_eq!(found.entries, 40);
}

#[test]
fn a_changed_overlay_becomes_a_layer_that_shows_the_same_tree() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let base =
        store.import_layer(&layer(&[("etc/old", "1"), ("etc/kept", "2"), ("dir/a", "3"), ("moved/x", "4"), ("copied", "5")])[..]).unwrap();
    let scratch = store.scratch().unwrap();
    let (upper, work) = (scratch.subdirectory("upper").unwrap(), scratch.subdirectory("work").unwrap());
    let (merged, again) = (scratch.subdirectory("merged").unwrap(), scratch.subdirectory("again").unwrap());
    let change = "rm etc/old; rm -r dir; mkdir dir; echo new > dir/b; cp -a moved moved2; rm -r moved; chmod 4750 copied; chown 5:6 copied; \
        ln copied linked; ln -s /etc/kept link; mkfifo pipe; touch -d @1000000000 etc/kept";
    let lower = store.layer_dir(&base.diff_id);
    overlay(&[&lower], Some((&upper, &work)), &merged, change);
    // Links between a lower file and its copy end with the overlay; the tree is compared after the change.
    let seen = scratch.path().join("seen");
    overlay(&[&upper, &lower], None, &again, &format!("cp -a . {}", seen.display()));
    let committed = store.commit_layer(&upper, Times::Keep).unwrap();
    assert!(!upper.exists());
    let seen_again = scratch.path().join("seen-again");
    overlay(&[&store.layer_dir(&committed.diff_id), &lower], None, &again, &format!("cp -a . {}", seen_again.display()));
    assert_eq!(describe_tree(&seen), describe_tree(&seen_again));
    let tree = describe_tree(&store.layer_dir(&committed.diff_id));
    for line in ["etc/old whiteout", "moved whiteout", "dir directory"] {
        assert!(tree.contains(line), "{line} in\n{tree}");
    }
    // The stream of the committed layer is the layer.
    let mut stream = Vec::new();
    store.export_layer(&committed.diff_id, &mut stream).unwrap();
    assert_eq!(Digest::of(&stream), committed.diff_id);
    let other = tempfile::tempdir().unwrap();
    let elsewhere = ImageStore::open_at(other.path()).unwrap();
    let imported = elsewhere.import_layer(&stream[..]).unwrap();
    assert_eq!((imported.diff_id, imported.entries), (committed.diff_id, committed.entries));
    assert_eq!(describe_tree(&elsewhere.layer_dir(&imported.diff_id)), tree);
}

/// Runs a script in an overlay of these layers, highest first, in a mount namespace of its own.
fn overlay(lower: &[&Path], writable: Option<(&Path, &Path)>, target: &Path, script: &str) {
    let lower: Vec<_> = lower.iter().map(|path| path.display().to_string()).collect();
    let mut options = format!("lowerdir={},redirect_dir=off,metacopy=off,index=off", lower.join(":"));
    if let Some((upper, work)) = writable {
        options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
    }
    let script = format!("set -e; mount -t overlay overlay -o {options} {0}; cd {0}; {script}", target.display());
    let status = Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &script]).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn a_changed_file_of_a_layer_made_here_is_found_without_a_blob_to_compare_with() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let scratch = store.scratch().unwrap();
    let upper = scratch.subdirectory("upper").unwrap();
    fs::write(upper.join("file"), "same").unwrap();
    let layer = store.commit_layer(&upper, Times::default()).unwrap();
    assert_eq!(store.verify(&mut |_| ()).unwrap().findings, []);
    fs::write(store.layer_dir(&layer.diff_id).join("file"), "evil").unwrap();
    let found = store.verify(&mut |_| ()).unwrap().findings;
    assert!(matches!(&found[..], [finding] if finding.problem.contains("not those it was made of")), "{found:?}");
}

#[test]
fn committing_the_same_tree_twice_keeps_one_layer() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(directory.path()).unwrap();
    let commit = |when: i64| {
        let scratch = store.scratch().unwrap();
        let upper = scratch.subdirectory("upper").unwrap();
        fs::write(upper.join("file"), "same").unwrap();
        fs::File::open(upper.join("file"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(when as u64))
            .unwrap();
        store.commit_layer(&upper, Times::default()).unwrap()
    };
    assert_eq!(commit(1_700_000_000), commit(1_800_000_000));
    assert_eq!(names(directory.path(), "layers").len(), 1);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    assert!(matches!(store.commit_layer(elsewhere.path(), Times::Keep), Err(StoreError::OtherFileSystem { .. })));
}
