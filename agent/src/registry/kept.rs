//! What was pushed here: manifests byte for byte under the names they were pushed as, and the blobs that the store does not keep.
//!
//! The store has the layers of images that this host can run. Everything else that registries hold (indexes, images of other
//! platforms, signatures, charts) is kept as it came. A tag stands for one manifest, an index for its manifests; a manifest that no
//! tag, no index and no push by digest names any more goes, and its blobs with it if they are nobody else's.
//!
//! ```text
//! names/<SHA-256 of repository:tag or repository@digest>.json    what the name stands for
//! blobs/<hex>                                                    manifests, and blobs as they came
//! uploads/                                                       what is on its way, see [`super::upload`]
//! changing                                                       locked by whoever gives or takes a name
//! ```
//!
//! Several processes may serve one directory, each at an address of its own: what another one wrote is read when the directory of
//! names has changed. Names and blobs change only under one lock: whoever holds it and finds a blob without a name may remove it.

use super::document::{self, Document};
use super::names::key_of;
use runtime::image::ImageId;
use runtime::image::manifest::MANIFEST_BYTES_MAX;
use runtime::store::{FileError, Lock, atomic};
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// A repository and a tag or digest in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub repository: String,
    pub reference: String,
}

impl Place {
    pub(super) fn new(repository: &str, reference: &str) -> Self {
        Self { repository: repository.to_owned(), reference: reference.to_owned() }
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub digest: Digest,
    pub size: u64,
    /// The image of the store that has the same name: of an index the one that runs here.
    pub image: Option<ImageId>,
    pub document: Arc<Document>,
}

/// A name as it is written down.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    place: Place,
    digest: Digest,
    #[serde(rename = "mediaType")]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<ImageId>,
}

/// All that was pushed.
pub(super) struct Kept {
    directory: PathBuf,
    known: Mutex<Known>,
}

/// What was read of the names.
#[derive(Default)]
struct Known {
    entries: BTreeMap<Place, Entry>,
    /// Files by name: which one it was, and what it said.
    files: BTreeMap<OsString, (FileMark, Option<Place>)>,
    /// When the directory was changed for the last time that is known.
    changed: Option<SystemTime>,
}

/// Tells a file from one that took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileMark {
    inode: u64,
    modified: Option<SystemTime>,
}

/// What can happen within this time looks as if it happened at once: time stamps of files are coarse.
const TIME_STAMP: Duration = Duration::from_millis(100);

impl Kept {
    /// Reads what a directory has, making it if needed. A name whose manifest cannot be read stands for nothing.
    pub(super) fn open(directory: &Path) -> Result<Self, FileError> {
        for part in ["names", "blobs"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(FileError::of("create", &path))?;
        }
        let mut known = Known::default();
        refresh(directory, &mut known).map_err(FileError::of("list", directory))?;
        Ok(Self { directory: directory.to_owned(), known: Mutex::new(known) })
    }

    /// For whoever gives or takes names: what they need does not go meanwhile.
    pub(super) fn change(&self) -> Result<Lock, FileError> {
        Lock::exclusive(&self.directory.join("changing"))
    }

    /// Blobs that no name keeps. While names change what is on its way to one is among them.
    pub(super) fn nameless(&self) -> Result<Vec<PathBuf>, FileError> {
        let needed: BTreeSet<String> = self.needed().iter().map(Digest::hex).collect();
        let blobs = self.directory.join("blobs");
        let listed = || fs::read_dir(&blobs)?.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>();
        let mut files = listed().map_err(FileError::of("list", &blobs))?;
        files.retain(|path| !path.file_name().and_then(|name| name.to_str()).is_some_and(|name| needed.contains(name)));
        Ok(files)
    }

    /// The manifests that have names, and all blobs that they name.
    pub(super) fn needed(&self) -> BTreeSet<Digest> {
        self.known().entries.values().flat_map(|entry| std::iter::once(&entry.digest).chain(named(entry))).copied().collect()
    }

    /// What a tag, or a digest under whatever name, stands for.
    pub(super) fn find(&self, repository: &str, reference: &str) -> Option<(Place, Entry)> {
        let entries = &self.known().entries;
        let place = Place::new(repository, reference);
        if let Some(entry) = entries.get(&place) {
            return Some((place, entry.clone()));
        }
        let digest: Digest = reference.parse().ok()?;
        let same = |(place, entry): &(&Place, &Entry)| place.repository == repository && entry.digest == digest;
        entries.iter().find(same).map(|(place, entry)| (place.clone(), entry.clone()))
    }

    /// All names of a repository.
    pub(super) fn of_repository(&self, repository: &str) -> Vec<(Place, Entry)> {
        let entries = &self.known().entries;
        entries.iter().filter(|(place, _)| place.repository == repository).map(|(place, entry)| (place.clone(), entry.clone())).collect()
    }

    /// All names.
    pub(super) fn all(&self) -> Vec<(Place, Entry)> {
        self.known().entries.iter().map(|(place, entry)| (place.clone(), entry.clone())).collect()
    }

    /// The repositories that something was pushed to.
    pub(super) fn repositories(&self) -> BTreeSet<String> {
        self.known().entries.keys().map(|place| place.repository.clone()).collect()
    }

    /// The exact bytes of a manifest.
    pub(super) fn bytes(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        read_bytes(&self.directory, digest)
    }

    /// Lets a name stand for a manifest whose blobs are here. Names that are gone with what it stood for before are returned.
    pub(super) fn put(&self, place: &Place, bytes: &[u8], entry: Entry) -> Result<Vec<Place>, FileError> {
        let mut known = self.known();
        atomic::write(&self.blob_path(&entry.digest), bytes)?;
        let (digest, media_type, image) = (entry.digest, entry.document.media_type.clone(), entry.image);
        let record = Record { place: place.clone(), digest, media_type, image };
        atomic::write_json(&self.name_path(place), &record)?;
        let before = known.entries.insert(place.clone(), entry);
        match before.filter(|before| before.digest != digest) {
            Some(before) => self.clear(&mut known.entries, place, &before),
            None => Ok(Vec::new()),
        }
    }

    /// Forgets a name, and what only it kept; all names that are gone. Fine if there is none.
    pub(super) fn remove(&self, place: &Place) -> Result<Vec<Place>, FileError> {
        self.remove_from(&mut self.known().entries, place)
    }

    fn remove_from(&self, entries: &mut BTreeMap<Place, Entry>, place: &Place) -> Result<Vec<Place>, FileError> {
        let Some(before) = entries.remove(place) else { return Ok(Vec::new()) };
        atomic::remove_file(&self.name_path(place))?;
        let mut gone = self.clear(entries, place, &before)?;
        gone.push(place.clone());
        Ok(gone)
    }

    /// Removes what nothing names any more after a name stands for something else: the manifests of an index, then blobs.
    fn clear(&self, entries: &mut BTreeMap<Place, Entry>, place: &Place, before: &Entry) -> Result<Vec<Place>, FileError> {
        let mut gone = Vec::new();
        let is_gone = !entries.iter().any(|(other, entry)| other.repository == place.repository && entry.digest == before.digest);
        for member in before.document.manifests.iter().filter(|_| is_gone) {
            let by_digest = Place::new(&place.repository, &member.digest.to_string());
            let is_of_index = |(other, entry): (&Place, &Entry)| {
                other.repository == place.repository && entry.document.manifests.iter().any(|it| it.digest == member.digest)
            };
            if !entries.iter().any(is_of_index) {
                gone.extend(self.remove_from(entries, &by_digest)?);
            }
        }
        let needed: BTreeSet<&Digest> = entries.values().flat_map(|entry| std::iter::once(&entry.digest).chain(named(entry))).collect();
        for digest in std::iter::once(&before.digest).chain(named(before)).filter(|digest| !needed.contains(digest)) {
            atomic::remove_file(&self.blob_path(digest))?;
        }
        Ok(gone)
    }

    /// Whether a manifest that is here names the blob.
    pub(super) fn needs(&self, digest: &Digest) -> bool {
        self.known().entries.values().any(|entry| named(entry).any(|it| it == digest))
    }

    /// A blob that is kept here.
    pub(super) fn open_blob(&self, digest: &Digest) -> Option<File> {
        File::open(self.blob_path(digest)).ok()
    }

    /// Keeps a blob, from the file it is in if both are on one file system.
    pub(super) fn keep_blob(&self, digest: &Digest, path: &Path, content: &mut File) -> io::Result<()> {
        let to = self.blob_path(digest);
        if to.exists() {
            return Ok(());
        }
        content.sync_all()?;
        if fs::hard_link(path, &to).is_ok() {
            return Ok(());
        }
        let part = to.with_extension("part");
        let mut copy = File::create(&part)?;
        io::copy(content, &mut copy)?;
        copy.sync_all()?;
        fs::rename(&part, &to)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.directory, digest)
    }

    /// Names have slashes; their digests have none.
    fn name_path(&self, place: &Place) -> PathBuf {
        let key = key_of("", &place.repository, &place.reference);
        self.directory.join("names").join(format!("{}.json", Digest::of(key.as_bytes()).hex()))
    }

    /// What is known now.
    fn known(&self) -> MutexGuard<'_, Known> {
        // A thread that panicked left maps as good as before: what is on disk comes first.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = refresh(&self.directory, &mut known) {
            tracing::warn!(directory = ?self.directory, %error, "read the names of what was pushed");
        }
        known
    }
}

/// Reads what another process changed.
fn refresh(root: &Path, known: &mut Known) -> io::Result<()> {
    let directory = root.join("names");
    let changed = fs::metadata(&directory)?.modified()?;
    if known.changed == Some(changed) {
        return Ok(());
    }
    let mut files = BTreeMap::new();
    for file in fs::read_dir(&directory)? {
        let file = file?;
        // One that goes at this moment changes the directory again.
        let Ok(found) = file.metadata() else { continue };
        let mark = FileMark { inode: found.ino(), modified: found.modified().ok() };
        let place = match known.files.remove(&file.file_name()) {
            Some((same, place)) if same == mark => place,
            Some(_) | None => read(root, &file.path()).map(|(place, entry)| {
                known.entries.insert(place.clone(), entry);
                place
            }),
        };
        if place.is_none() {
            tracing::debug!(path = ?file.path(), "not the name of something that was pushed");
        }
        files.insert(file.file_name(), (mark, place));
    }
    known.files = files;
    let named: BTreeSet<&Place> = known.files.values().filter_map(|(_, place)| place.as_ref()).collect();
    known.entries.retain(|place, _| named.contains(place));
    let is_settled = changed.elapsed().is_ok_and(|since| since > TIME_STAMP);
    known.changed = is_settled.then_some(changed);
    Ok(())
}

/// What a file says that a name stands for.
fn read(root: &Path, path: &Path) -> Option<(Place, Entry)> {
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let bytes = read_bytes(root, &record.digest).ok()?;
    let document = Arc::new(document::parse(&bytes, Some(&record.media_type)).ok()?);
    let entry = Entry { digest: record.digest, size: bytes.len() as u64, image: record.image, document };
    Some((record.place, entry))
}

fn read_bytes(root: &Path, digest: &Digest) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(blob_path(root, digest))?.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs").join(digest.hex())
}

fn named(entry: &Entry) -> impl Iterator<Item = &Digest> {
    entry.document.blobs.iter().map(|part| &part.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(kept: &Kept, layer: &str) -> (Vec<u8>, Entry) {
        let blob = Digest::of(layer.as_bytes());
        fs::write(kept.blob_path(&blob), layer).unwrap();
        let part = format!(r#"{{"digest":"{blob}","size":{}}}"#, layer.len());
        entry(format!(r#"{{"schemaVersion":2,"config":{part},"layers":[{part}]}}"#))
    }

    fn index(members: &[&Entry]) -> (Vec<u8>, Entry) {
        let parts: Vec<_> = members.iter().map(|it| format!(r#"{{"digest":"{}","size":{}}}"#, it.digest, it.size)).collect();
        entry(format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, parts.join(",")))
    }

    fn entry(text: String) -> (Vec<u8>, Entry) {
        let bytes = text.into_bytes();
        let document = Arc::new(document::parse(&bytes, None).unwrap());
        let entry = Entry { digest: Digest::of(&bytes), size: bytes.len() as u64, image: None, document };
        (bytes, entry)
    }

    #[test]
    fn what_nothing_names_goes_and_all_else_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::open(directory.path()).unwrap();
        let put =
            |reference: &str, (bytes, entry): &(Vec<u8>, Entry)| kept.put(&Place::new("a/b", reference), bytes, entry.clone()).unwrap();
        let blobs = || fs::read_dir(directory.path().join("blobs")).unwrap().count();
        let (one, two, three) = (manifest(&kept, "one"), manifest(&kept, "two"), manifest(&kept, "three"));
        put(&one.1.digest.to_string(), &one);
        put(&two.1.digest.to_string(), &two);
        put("1", &index(&[&one.1, &two.1]));
        put("2", &two);
        assert_eq!(blobs(), 3 + 3, "layers, one of them of nobody yet, and documents");
        // The index gets other members: only what it alone had goes.
        let gone = put("1", &index(&[&two.1]));
        assert_eq!(gone, [Place::new("a/b", &one.1.digest.to_string())]);
        assert_eq!(kept.find("a/b", &one.1.digest.to_string()).map(|(place, _)| place), None);
        assert!(kept.needs(&Digest::of(b"two")) && !kept.needs(&Digest::of(b"one")));

        // Another process sees it, and what happens later.
        let again = Kept::open(directory.path()).unwrap();
        put("3", &two);
        assert!(again.find("a/b", "3").is_some());
        again.remove(&Place::new("a/b", "3")).unwrap();
        assert!(kept.find("a/b", "3").is_none());
        assert_eq!(again.repositories(), BTreeSet::from(["a/b".to_owned()]));
        assert_eq!(again.bytes(&again.find("a/b", "2").unwrap().1.digest).unwrap(), two.0);
        let gone = again.remove(&Place::new("a/b", "1")).unwrap();
        assert_eq!(gone.len(), 2, "the index and its member by digest; the tag on the member stays");
        assert!(again.find("a/b", &two.1.digest.to_string()).is_some());
        again.remove(&Place::new("a/b", "2")).unwrap();
        assert_eq!((again.repositories().len(), blobs()), (0, 1), "the layer that nobody named yet");
        assert_eq!(kept.nameless().unwrap().len(), 1, "whose turn it is may remove it");
        put("3", &three);
        assert!(kept.nameless().unwrap().is_empty());
    }
}
