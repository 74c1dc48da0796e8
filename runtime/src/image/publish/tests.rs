//! Images as others get them.

use super::{Origin, manifest_of};
use crate::image::ImageId;
use crate::image::archive;
use crate::image::config::ImageConfig;
use crate::image::layer::Times;
use crate::image::manifest::{Document, media_type, parse};
use crate::image::platform::Platform;
use crate::image::store::{ImageStore, Roots};
use crate::image::tests::{gzip, is_root, rootfs_tar, write_oci_layout};
use spec::value::Digest;
use std::fs;
use std::io::Read;

fn store() -> (tempfile::TempDir, ImageStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open_at(&directory.path().join("images")).unwrap();
    (directory, store)
}

/// An image of one layer of these files, made here.
fn made_here(store: &ImageStore, files: &[(&str, &str)]) -> (ImageId, Digest) {
    let scratch = store.scratch().unwrap();
    let upper = scratch.subdirectory("upper").unwrap();
    for (name, content) in files {
        fs::write(upper.join(name), content).unwrap();
    }
    let layer = store.commit_layer(&upper, Times::default()).unwrap().diff_id;
    let mut config = ImageConfig::empty(&Platform::host());
    config.rootfs.diff_ids.push(layer);
    (store.put_image(&config).unwrap(), layer)
}

/// An image that came with a manifest: its layer's files stand in an order that packing them again does not give.
fn imported(directory: &std::path::Path, store: &ImageStore) -> (ImageId, Vec<u8>, Digest, Digest) {
    let tar = rootfs_tar(&[("z", b"last"), ("a", b"first")]);
    let (layer, diff_id) = (gzip(&tar), Digest::of(&tar));
    let mut config = ImageConfig::empty(&Platform::host());
    config.rootfs.diff_ids.push(diff_id);
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = format!(
        "{{ \"schemaVersion\": 2, \"config\": {{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":{}}}, \"layers\": [\
         {{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":{}}}]}}",
        media_type::OCI_CONFIG,
        Digest::of(&config),
        config.len(),
        media_type::OCI_LAYER_GZIP,
        Digest::of(&layer),
        layer.len()
    );
    let layout = directory.join("layout");
    write_oci_layout(&layout, &[&layer, &config], manifest.as_bytes());
    (archive::import(store, &layout).unwrap(), manifest.into_bytes(), diff_id, Digest::of(&layer))
}

#[test]
fn an_image_made_here_is_compressed_once_and_alike_everywhere() {
    if !is_root() {
        return;
    }
    let (_directory, here) = store();
    let (id, diff_id) = made_here(&here, &[("a", "1"), ("b", "2")]);
    assert_eq!(here.list().unwrap()[0].manifest, None);
    let published = manifest_of(&here, &id).unwrap();
    assert_eq!((published.origin, published.config.digest), (Origin::Made, id));
    assert!(matches!(parse(&published.manifest, None).unwrap(), Document::Manifest(manifest) if manifest.layers == published.layers));
    let mut unpacked = Vec::new();
    let blob = here.open_blob(&published.layers[0].digest).unwrap().unwrap();
    assert_eq!(blob.metadata().unwrap().len(), published.layers[0].size);
    flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut unpacked).unwrap();
    assert_eq!(Digest::of(&unpacked), diff_id);
    let again = manifest_of(&here, &id).unwrap();
    assert_eq!((again.origin, again.digest), (Origin::Kept, published.digest));
    assert_eq!(here.list().unwrap()[0].manifest, Some(published.digest));

    let (_directory, elsewhere) = store();
    let (id, _) = made_here(&elsewhere, &[("a", "1"), ("b", "2")]);
    assert_eq!(manifest_of(&elsewhere, &id).unwrap().manifest, published.manifest);
}

#[test]
fn an_image_that_came_with_a_manifest_goes_by_it_as_long_as_its_blobs_are_here() {
    if !is_root() {
        return;
    }
    let (directory, store) = store();
    let (id, manifest, diff_id, blob) = imported(directory.path(), &store);
    let published = manifest_of(&store, &id).unwrap();
    assert_eq!((published.origin, &published.manifest), (Origin::Kept, &manifest));
    drop(published);

    store.remove_blob(&blob).unwrap();
    let remade = manifest_of(&store, &id).unwrap();
    assert_eq!(remade.origin, Origin::Remade { was: Digest::of(&manifest) });
    let record = store.layer(&diff_id).unwrap().unwrap();
    assert_eq!(record.blob.as_ref().map(|blob| blob.digest), Some(remade.layers[0].digest));
    // Its files are packed in another order than they came: the configuration says so, and the image here stays what it is.
    let config: ImageConfig = serde_json::from_slice(&store.blob(&remade.config.digest).unwrap()).unwrap();
    assert_eq!(config.rootfs.diff_ids, [record.blob_diff_id.unwrap()]);
    assert_ne!(remade.config.digest, id);
    let again = manifest_of(&store, &id).unwrap();
    assert_eq!((again.digest, again.origin), (remade.digest, remade.origin));
    assert_eq!(store.list().unwrap()[0].manifest, Some(Digest::of(&manifest)));
}

#[test]
fn blobs_of_layers_are_collected_with_them_and_not_before() {
    if !is_root() {
        return;
    }
    let (directory, store) = store();
    let (id, _, _, blob) = imported(directory.path(), &store);
    let (made, _) = made_here(&store, &[("made", "here")]);
    store.tag("kept", &id).unwrap();
    store.tag("made", &made).unwrap();
    let published = manifest_of(&store, &made).unwrap();
    assert!(store.gc(&Roots::default()).is_err(), "what is published is in use");
    let layer = published.layers[0].digest;
    drop(published);
    store.gc(&Roots::default()).unwrap();
    assert!(store.has_blob(&blob) && store.has_blob(&layer));
    store.untag("made").unwrap();
    store.gc(&Roots::default()).unwrap();
    assert!(store.has_blob(&blob) && !store.has_blob(&layer));
    store.untag("kept").unwrap();
    store.gc(&Roots::default()).unwrap();
    assert_eq!(fs::read_dir(store.directory().join("blobs/sha256")).unwrap().count(), 0);
}
