//! What can be made whole again is: from the compressed form of a layer, else from wherever the caller can fetch the image from.
//!
//! Whatever a container has mounted is left as it is: the kernel does not take a change beneath an overlay well.

use super::images::ImageRecord;
use super::verify::{Finding, Subject};
use super::{Expected, ImageStore, StoreError};
use crate::image::ImageId;
use crate::image::config::ImageConfig;
use crate::image::manifest::{self, Descriptor, Document};
use crate::store::{FileError, atomic, remove};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::Serialize;
use spec::value::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// An image that has to be fetched again to be whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Which.
    pub id: ImageId,
    /// Its names.
    pub names: Vec<String>,
    /// The manifest it came by.
    pub manifest: Option<Digest>,
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "text", rename_all = "camelCase")]
pub enum Repaired {
    /// It is whole, or gone where nobody needs it; how.
    Done(String),
    /// It is as it was; why, and what to do.
    Left(String),
}

/// Fetches an image again, into the store; the reason if that is not possible.
pub type Fetch<'a> = dyn FnMut(&Lost) -> Result<(), String> + 'a;

impl ImageStore {
    /// Repairs what [`Self::verify`] found, in the order found. `in_use` names the containers that have a layer mounted.
    pub fn repair(
        &self,
        findings: &[Finding],
        in_use: &dyn Fn(&Digest) -> Option<String>,
        fetch: &mut Fetch<'_>,
    ) -> Result<Vec<Repaired>, StoreError> {
        let _lease = self.lease()?;
        let mut repair = Repair { store: self, in_use, fetch, done: BTreeMap::new() };
        findings.iter().map(|finding| repair.one(&finding.subject)).collect()
    }
}

struct Repair<'a, 'b> {
    store: &'a ImageStore,
    in_use: &'a dyn Fn(&Digest) -> Option<String>,
    fetch: &'a mut Fetch<'b>,
    /// Images that were fetched again, or could not be: several findings may be about one.
    done: BTreeMap<ImageId, Result<(), String>>,
}

impl Repair<'_, '_> {
    fn one(&mut self, subject: &Subject) -> Result<Repaired, StoreError> {
        match subject {
            Subject::Stray(path) => {
                remove::remove_tree(path)?;
                Ok(Repaired::Done("removed".to_owned()))
            }
            Subject::Name(path) => {
                atomic::remove_file(path)?;
                Ok(Repaired::Done("removed; give the image its name again, or pull it".to_owned()))
            }
            Subject::Blob(digest) => self.blob(digest),
            Subject::Layer(diff_id) => self.layer(diff_id),
            Subject::Image(id) => self.image(id),
        }
    }

    fn blob(&mut self, digest: &Digest) -> Result<Repaired, StoreError> {
        // Nothing reads a broken one to any use.
        self.store.remove_blob(digest)?;
        if self.store.has_image(digest) {
            return self.image(digest);
        }
        if let Some(id) = self.image_with_manifest(digest)? {
            return self.image(&id);
        }
        Ok(Repaired::Done("removed; it is made again when it is needed".to_owned()))
    }

    fn layer(&mut self, diff_id: &Digest) -> Result<Repaired, StoreError> {
        if let Some(user) = (self.in_use)(diff_id) {
            return Ok(Repaired::Left(format!("{user} has it mounted: stop it and repair again")));
        }
        if self.unpack_again(diff_id)? {
            return Ok(Repaired::Done("unpacked again from its compressed form".to_owned()));
        }
        if self.store.record_again(diff_id)? {
            return Ok(Repaired::Done("its record was made again from its files".to_owned()));
        }
        let users = self.images_with_layer(diff_id)?;
        let Some(user) = users.first().copied() else {
            self.store.remove_layer(diff_id)?;
            return Ok(Repaired::Done("removed; no image has it".to_owned()));
        };
        let aside = self.store.scratch()?;
        let place = self.store.layer_path(diff_id);
        let kept = aside.path().join("layer");
        fs::rename(&place, &kept).map_err(FileError::of("move aside", &place))?;
        let fetched = self.fetch(&user);
        if self.store.has_layer(diff_id) {
            return Ok(Repaired::Done(format!("fetched again with image {}", user.short())));
        }
        fs::rename(&kept, &place).map_err(FileError::of("move back", &place))?;
        Ok(Repaired::Left(self.remedy(&user, &fetched)?))
    }

    fn image(&mut self, id: &ImageId) -> Result<Repaired, StoreError> {
        if let Some(record) = self.whole(id) {
            if self.store.origins(id).is_err() {
                let fetched = self.fetch(id);
                return Ok(match self.store.origins(id) {
                    Ok(_) => Repaired::Done("fetched again".to_owned()),
                    Err(_) => Repaired::Left(self.remedy(id, &fetched)?),
                });
            }
            if record.manifest.is_some_and(|manifest| !self.store.has_blob(&manifest)) {
                let _ = self.fetch(id);
                if self.store.manifest_of(id)?.is_none() {
                    self.store.forget_manifest(id)?;
                    return Ok(Repaired::Done("forgot its manifest; it is published by a new one".to_owned()));
                }
            }
            return Ok(Repaired::Done("whole".to_owned()));
        }
        for layer in self.configured_layers(id).unwrap_or_default() {
            if !self.store.has_layer(&layer) {
                self.unpack_again(&layer)?;
            }
        }
        if self.whole(id).is_some() {
            return Ok(Repaired::Done("unpacked again from its compressed form".to_owned()));
        }
        if self.record_again(id)? {
            return Ok(Repaired::Done("its record was made again from its configuration".to_owned()));
        }
        let fetched = self.fetch(id);
        if self.whole(id).is_some() {
            return Ok(Repaired::Done("fetched again".to_owned()));
        }
        Ok(Repaired::Left(self.remedy(id, &fetched)?))
    }

    /// The record of an image of which all is here that it names.
    fn whole(&self, id: &ImageId) -> Option<ImageRecord> {
        let record = self.store.record(id).ok()?;
        let is_right = record.id == *id && self.configured_layers(id).as_deref() == Some(&record.layers);
        (is_right && record.layers.iter().all(|layer| self.store.has_layer(layer))).then_some(record)
    }

    /// The layers that the configuration of an image names, if that is what it was.
    fn configured_layers(&self, id: &ImageId) -> Option<Vec<Digest>> {
        let bytes = self.store.blob(id).ok().filter(|bytes| Digest::of(bytes) == *id)?;
        Some(serde_json::from_slice::<ImageConfig>(&bytes).ok()?.rootfs.diff_ids)
    }

    /// Writes the record of an image anew from its configuration; false if not all is here that it names.
    fn record_again(&self, id: &ImageId) -> Result<bool, StoreError> {
        if !self.configured_layers(id).is_some_and(|layers| layers.iter().all(|layer| self.store.has_layer(layer))) {
            return Ok(false);
        }
        // The last manifest of its origin is the one that names it; without, it is published by a new one.
        let origins = self.store.origins(id).unwrap_or_default();
        let manifest = origins.iter().rev().find_map(|origin| self.store.blob(origin.manifests.last()?).ok());
        atomic::remove_file(&self.store.image_path(id))?;
        self.store.put_image_bytes(&self.store.blob(id)?, manifest.as_deref())?;
        Ok(true)
    }

    /// Fetches an image once. Its record is out of the way meanwhile: one that is there would be taken to be whole.
    fn fetch(&mut self, id: &ImageId) -> Result<(), String> {
        if let Some(known) = self.done.get(id) {
            return known.clone();
        }
        let lost = self.lost(id).map_err(|error| error.to_string())?;
        let record = self.store.image_path(id);
        let before = fs::read(&record).ok();
        let fetched = atomic::remove_file(&record).map_err(|error| error.to_string()).and_then(|()| (self.fetch)(&lost));
        if !self.store.has_image(id)
            && let Some(before) = before
            && let Err(error) = atomic::write(&record, &before)
        {
            return Err(error.to_string());
        }
        self.done.insert(*id, fetched.clone());
        fetched
    }

    fn lost(&self, id: &ImageId) -> Result<Lost, StoreError> {
        let names = self.store.names_of_images()?.into_iter().filter(|(_, named)| named == id).map(|(name, _)| name).collect();
        Ok(Lost { id: *id, names, manifest: self.store.record(id).ok().and_then(|record| record.manifest) })
    }

    /// Why an image is still broken, and what to do.
    fn remedy(&self, id: &ImageId, fetched: &Result<(), String>) -> Result<String, StoreError> {
        let lost = self.lost(id)?;
        let name = lost.names.first().cloned().unwrap_or_else(|| id.to_string());
        let why = fetched.as_ref().err().map_or_else(|| "what was fetched is another image".to_owned(), Clone::clone);
        Ok(format!("{why}; build, load or pull {name} again, after agent image rm {name} and agent system prune --all"))
    }

    fn images_with_layer(&self, diff_id: &Digest) -> Result<Vec<ImageId>, StoreError> {
        let ids = self.store.digests("images", ".json")?.into_iter();
        Ok(ids.filter(|id| self.store.record(id).is_ok_and(|record| record.layers.contains(diff_id))).collect())
    }

    fn image_with_manifest(&self, manifest: &Digest) -> Result<Option<ImageId>, StoreError> {
        let mut ids = self.store.digests("images", ".json")?.into_iter();
        Ok(ids.find(|id| self.store.record(id).is_ok_and(|record| record.manifest == Some(*manifest))))
    }

    /// Makes a layer anew from its blob and puts it in the place of the old one; false without a blob that gives it.
    fn unpack_again(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let recorded = self.store.layer(diff_id).ok().flatten();
        let candidates = match recorded.and_then(|record| Some((record.blob?, record.blob_diff_id))) {
            Some(blob) => vec![blob],
            None => self.blobs_by_manifests(diff_id)?.into_iter().map(|blob| (blob, None)).collect(),
        };
        for (blob, blob_diff_id) in candidates {
            let Some(file) = self.store.open_blob(&blob.digest)? else { continue };
            let lock = self.store.lock_layer(diff_id)?;
            let scratch = self.store.scratch()?;
            let expected = Expected { diff_id: Some(blob_diff_id.unwrap_or(*diff_id)), blob: Some(&blob) };
            let made = self.store.unpack_into(&scratch, file, &expected);
            let is_made = made.is_ok();
            if let Ok(mut record) = made {
                (record.diff_id, record.blob_diff_id) = (*diff_id, blob_diff_id);
                atomic::write_json(&scratch.path().join("layer.json"), &record)?;
                replace(scratch.path(), &self.store.layer_path(diff_id))?;
                self.store.sync_layers(&[*diff_id])?;
            }
            lock.remove()?;
            if is_made {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The blobs that manifests of the store name for a layer whose own record is gone.
    fn blobs_by_manifests(&self, diff_id: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        let mut blobs = Vec::new();
        for id in self.images_with_layer(diff_id)? {
            let Some((_, bytes)) = self.store.manifest_of(&id)? else { continue };
            if let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes, None) {
                let layers = self.store.record(&id)?.layers;
                blobs.extend(manifest.layers.into_iter().zip(layers).filter(|(_, layer)| layer == diff_id).map(|(blob, _)| blob));
            }
        }
        Ok(blobs)
    }
}

/// Puts a finished directory in the place of another, in one step; what was there then is where the finished one was, and goes with it.
fn replace(made: &Path, place: &Path) -> Result<(), FileError> {
    match rustix::fs::renameat_with(CWD, made, CWD, place, RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => fs::rename(made, place).map_err(FileError::of("rename to", place)),
        exchanged => exchanged.map_err(FileError::of("exchange", place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::archive;
    use crate::image::layer::Times;
    use crate::image::publish::manifest_of;
    use crate::image::store::{Roots, Travelled};
    use crate::image::tests::{describe_tree, gzip, is_root, rootfs_tar, write_oci_layout};
    use crate::image::{config::ImageConfig, platform::Platform};

    struct Ground {
        directory: tempfile::TempDir,
        store: ImageStore,
        image: ImageId,
        layer: Digest,
        blob: Digest,
    }

    /// A store with a pulled image: one layer in an order that packing does not give again.
    fn ground() -> Ground {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open_at(&directory.path().join("images")).unwrap();
        let layer = rootfs_tar(&[("z", b"last"), ("a", b"first")]);
        let (packed, diff_id) = (gzip(&layer), Digest::of(&layer));
        let mut config = ImageConfig::empty(&Platform::host());
        config.rootfs.diff_ids.push(diff_id);
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
            manifest::media_type::OCI_CONFIG,
            Digest::of(&config),
            config.len(),
            manifest::media_type::OCI_LAYER_GZIP,
            Digest::of(&packed),
            packed.len()
        );
        let layout = directory.path().join("layout");
        write_oci_layout(&layout, &[&packed, &config], manifest.as_bytes());
        let image = archive::import(&store, &layout).unwrap();
        store.tag("docker.io/library/x:1", &image).unwrap();
        assert_eq!(found(&store), Vec::<String>::new());
        Ground { directory, store, image, layer: diff_id, blob: Digest::of(&packed) }
    }

    /// As it is before anybody has compared its layer with what it came as.
    fn unseal(ground: &Ground) {
        let mut record = ground.store.layer(&ground.layer).unwrap().unwrap();
        record.seal = None;
        ground.store.write_layer_record(&record).unwrap();
    }

    fn found(store: &ImageStore) -> Vec<String> {
        let findings = store.verify(&mut |_| {}).unwrap().findings;
        findings.iter().map(|finding| format!("{:?}: {}", finding.subject, finding.problem)).collect()
    }

    /// Repairs without a registry, from which an image is imported again if it is told where from.
    fn repair(ground: &Ground, layout: Option<&Path>, in_use: Option<&str>) -> Vec<Repaired> {
        let findings = ground.store.verify(&mut |_| {}).unwrap().findings;
        assert!(!findings.is_empty());
        let mut fetch = |lost: &Lost| {
            assert_eq!(lost.names, ["docker.io/library/x:1"]);
            let layout = layout.ok_or("no registry is known")?;
            archive::import(&ground.store, layout).map(drop).map_err(|error| error.to_string())
        };
        ground.store.repair(&findings, &|_| in_use.map(str::to_owned), &mut fetch).unwrap()
    }

    #[test]
    fn a_changed_file_of_a_layer_is_found_and_unpacked_again() {
        if !is_root() {
            return;
        }
        let ground = ground();
        let root = ground.store.layer_dir(&ground.layer);
        let before = describe_tree(&root);
        fs::write(root.join("a"), "evil!").unwrap();
        let [finding] = &found(&ground.store)[..] else { panic!("one finding") };
        assert!(finding.starts_with("Layer(") && finding.contains("not those it was made of"), "{finding}");
        let left = repair(&ground, None, Some("web@1"));
        assert!(matches!(&left[..], [Repaired::Left(why)] if why.starts_with("web@1 has it mounted")), "{left:?}");
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "evil!", "nothing is changed beneath a container");
        assert_eq!(repair(&ground, None, None), [Repaired::Done("unpacked again from its compressed form".to_owned())]);
        assert_eq!(describe_tree(&root), before);
        assert_eq!(found(&ground.store), Vec::<String>::new());
    }

    #[test]
    fn damage_is_found_whatever_became_of_what_a_layer_came_as() {
        if !is_root() {
            return;
        }
        let everything = Roots { travelled: Travelled::Drop, ..Roots::default() };
        // Its blob was dropped in good order.
        let ground = ground();
        unseal(&ground);
        ground.store.gc(&everything).unwrap();
        assert!(!ground.store.has_blob(&ground.blob));
        assert_eq!(found(&ground.store), Vec::<String>::new());
        fs::write(ground.store.layer_dir(&ground.layer).join("a"), "first!").unwrap();
        assert!(found(&ground.store)[0].contains("its files are not those it was made of"), "{:?}", found(&ground.store));
        // What is damaged does not travel.
        assert!(matches!(manifest_of(&ground.store, &ground.image), Err(StoreError::Damaged(layer)) if layer == ground.layer));
        // It was damaged before: then its blob, which can mend it, stays.
        let ground = self::ground();
        unseal(&ground);
        fs::write(ground.store.layer_dir(&ground.layer).join("a"), "evil!").unwrap();
        assert_eq!(ground.store.gc(&everything).unwrap().bytes, 0);
        assert_eq!(repair(&ground, None, None), [Repaired::Done("unpacked again from its compressed form".to_owned())]);
        // It never had one: an archive of docker's.
        let store = ImageStore::open_at(&ground.directory.path().join("other")).unwrap();
        let layer = store.import_layer(&rootfs_tar(&[("z", b"last"), ("a", b"first")])[..]).unwrap().diff_id;
        assert_eq!(found(&store), Vec::<String>::new());
        fs::write(store.layer_dir(&layer).join("a"), "worst").unwrap();
        assert!(found(&store)[0].contains("its files are not those it was made of"), "{:?}", found(&store));
        // Its blob is damaged, and nobody has looked before.
        let ground = self::ground();
        unseal(&ground);
        fs::write(ground.store.blob_path(&ground.blob), "x").unwrap();
        let [blob, layer] = &found(&ground.store)[..] else { panic!("two findings") };
        assert!(blob.starts_with("Blob(") && layer.contains("its files cannot be checked"), "{blob}; {layer}");
        let layout = ground.directory.path().join("layout");
        assert!(repair(&ground, Some(&layout), None).iter().all(|outcome| matches!(outcome, Repaired::Done(_))));
        assert_eq!(found(&ground.store), Vec::<String>::new());
    }

    #[test]
    fn a_layer_without_its_blob_is_fetched_again_or_told_how_to_be() {
        if !is_root() {
            return;
        }
        let ground = ground();
        ground.store.remove_blob(&ground.blob).unwrap();
        // The seal of the first look tells.
        let root = ground.store.layer_dir(&ground.layer);
        fs::write(root.join("a"), "evil!").unwrap();
        let left = repair(&ground, None, None);
        assert!(matches!(&left[..], [Repaired::Left(why)] if why.contains("no registry is known; build, load or pull")), "{left:?}");
        assert!(root.join("a").exists() && ground.store.has_image(&ground.image), "it is as it was");
        let layout = ground.directory.path().join("layout");
        let done = repair(&ground, Some(&layout), None);
        assert!(matches!(&done[..], [Repaired::Done(how)] if how.starts_with("fetched again")), "{done:?}");
        assert_eq!(found(&ground.store), Vec::<String>::new());
    }

    #[test]
    fn broken_documents_records_and_strays_are_found_and_repaired() {
        if !is_root() {
            return;
        }
        let ground = ground();
        let images = ground.directory.path().join("images");
        let layout = ground.directory.path().join("layout");
        let config = images.join("blobs/sha256").join(ground.image.hex());
        let blob = images.join("blobs/sha256").join(ground.blob.hex());
        let record = images.join("images").join(format!("{}.json", ground.image.hex()));
        let layer_record = images.join("layers").join(ground.layer.hex()).join("layer.json");
        let name = fs::read_dir(images.join("records")).unwrap().next().unwrap().unwrap().path();
        let kept = fs::read(&name).unwrap();
        type Harm<'a> = &'a dyn Fn();
        let sound: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
        let mut bare = sound.clone();
        bare["layers"] = serde_json::json!([]);
        assert_ne!(bare, sound);
        let harms: [(&str, Harm<'_>); 10] = [
            ("a blob cut short", &|| fs::write(&blob, "x").unwrap()),
            ("a configuration changed", &|| fs::write(&config, "{}").unwrap()),
            ("a configuration gone", &|| fs::remove_file(&config).unwrap()),
            ("an image's record torn", &|| fs::write(&record, "{").unwrap()),
            ("an image's record without its layers", &|| fs::write(&record, bare.to_string()).unwrap()),
            ("a layer's record torn", &|| fs::write(&layer_record, "{").unwrap()),
            ("a layer gone", &|| fs::remove_dir_all(layer_record.parent().unwrap()).unwrap()),
            ("a stray directory", &|| fs::create_dir_all(images.join("layers/old/deep")).unwrap()),
            ("a stray file", &|| fs::write(images.join("partial/what"), "").unwrap()),
            ("a name torn", &|| fs::write(&name, "{").unwrap()),
        ];
        for (what, harm) in harms {
            harm();
            assert!(!found(&ground.store).is_empty(), "{what} is found");
            let outcome = repair(&ground, Some(&layout), None);
            assert!(outcome.iter().all(|outcome| matches!(outcome, Repaired::Done(_))), "{what}: {outcome:?}");
            assert_eq!(found(&ground.store), Vec::<String>::new(), "{what}");
            if !name.exists() {
                fs::write(&name, &kept).unwrap();
            }
            assert_eq!(fs::read_to_string(ground.store.layer_dir(&ground.layer).join("a")).unwrap(), "first", "{what}");
        }
        manifest_of(&ground.store, &ground.image).unwrap();
    }

    #[test]
    fn the_records_of_what_was_made_here_are_made_again_from_it() {
        if !is_root() {
            return;
        }
        let ground = ground();
        let scratch = ground.store.scratch().unwrap();
        let upper = scratch.subdirectory("upper").unwrap();
        fs::write(upper.join("file"), "text").unwrap();
        let layer = ground.store.commit_layer(&upper, Times::Keep).unwrap();
        let mut config = ImageConfig::empty(&Platform::host());
        config.rootfs.diff_ids.push(layer.diff_id);
        let image = ground.store.put_image(&config).unwrap();
        let nobody = &mut |lost: &Lost| panic!("{lost:?} is asked for");
        for torn in [ground.store.image_path(&image), ground.store.layer_path(&layer.diff_id).join("layer.json")] {
            fs::write(&torn, "{").unwrap();
            let findings = ground.store.verify(&mut |_| {}).unwrap().findings;
            let outcome = ground.store.repair(&findings, &|_| None, nobody).unwrap();
            assert!(matches!(&outcome[..], [Repaired::Done(how)] if how.contains("its record was made again")), "{outcome:?}");
            assert_eq!(found(&ground.store), Vec::<String>::new());
        }
        assert_eq!(ground.store.layer(&layer.diff_id).unwrap().unwrap(), layer);
        assert_eq!(ground.store.layers_of(&image).unwrap(), [layer.diff_id]);
    }
}
