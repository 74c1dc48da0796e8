//! Cache mounts: directories that outlive builds, named by an id, shared by all builds of a store and by nothing else.
//!
//! ```text
//! <build-cache>/mounts/<hex>/cache.json   its id and when it was used last; <hex> is the digest of the id
//! <build-cache>/mounts/<hex>/root         what commands see; appears with its first content by one rename
//! <build-cache>/mounts/<hex>.lock         held by the commands that use it: shared, or alone
//! ```
//!
//! One that is private and wanted by two commands at once exists several times, as `<hex>-1` and so on.

use super::error::StepError;
use crate::image::store::ImageStore;
use crate::store::usage::tree_bytes;
use crate::store::{FileError, Lock, atomic, remove};
use serde::{Deserialize, Serialize};
use spec::value::Digest;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Copies of one private cache: as many as commands that use it at once, so many only by mistake.
const COPIES_MAX: u32 = 64;
/// Between two looks at a cache that another is making: most begin empty.
const MAKING_POLL: Duration = Duration::from_millis(1);

/// Whether two commands may have a cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Yes.
    Shared,
    /// No: the second one gets another of its own.
    Private,
    /// No: one after the other.
    Locked,
}

/// The caches of one store.
#[derive(Debug, Clone)]
pub struct CacheMounts {
    directory: PathBuf,
}

/// A cache, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name on disk: unique, unlike its id.
    pub name: String,
    /// What builds call it.
    pub id: String,
    /// Bytes of disk, its record included.
    pub size_bytes: u64,
    /// When a command last began to use it.
    pub last_used: SystemTime,
    /// Whether a command uses it now.
    pub in_use: bool,
}

/// What a command wants of a cache.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The cache's name among all builds.
    pub id: &'a str,
    /// What it begins with, if not with nothing.
    pub variant: Option<&'a Digest>,
    /// Whether others may have it at the same time.
    pub sharing: Sharing,
    /// Whether it is still wanted: asked while another command has it.
    pub is_wanted: &'a dyn Fn() -> bool,
}

/// Gives a new cache its content, mode and owner.
type Fill<'a> = dyn FnMut(&Path) -> Result<(), StepError> + 'a;

/// A cache in use.
#[derive(Debug)]
pub(crate) struct Claim {
    directory: PathBuf,
    _lock: Lock,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: String,
    /// Seconds since 1970.
    last_used: u64,
}

impl Claim {
    /// What the command sees.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl CacheMounts {
    /// The caches kept beside a store's layers.
    pub fn of(store: &ImageStore) -> Self {
        Self { directory: store.directory().join("build-cache/mounts") }
    }

    /// All of them, by id.
    pub fn list(&self) -> Result<Vec<CacheMount>, FileError> {
        let mut mounts = Vec::new();
        for name in self.names()? {
            let directory = self.directory.join(&name);
            let in_use = Lock::try_exclusive(&self.lock_path(&name))?.is_none();
            // One without a record was begun by a process that died, or is just being made.
            let Some(record) = read(&directory) else { continue };
            let last_used = UNIX_EPOCH + Duration::from_secs(record.last_used);
            mounts.push(CacheMount { size_bytes: tree_bytes(&directory), name, id: record.id, last_used, in_use });
        }
        mounts.sort_by(|a, b| (&a.id, &a.name).cmp(&(&b.id, &b.name)));
        Ok(mounts)
    }

    /// Removes one by its name on disk, with its content; `false` if a command uses it. Fine if it is absent.
    pub fn remove(&self, name: &str) -> Result<bool, FileError> {
        let Some(lock) = Lock::try_exclusive(&self.lock_path(name))? else { return Ok(false) };
        remove::remove_tree(&self.directory.join(name))?;
        lock.remove()?;
        Ok(true)
    }

    /// A cache for one command, made if absent. Errors: [`StepError::Stopped`] when it is not wanted any more.
    pub(crate) fn claim(&self, wish: Wish<'_>, fill: &mut Fill<'_>) -> Result<Claim, StepError> {
        let Wish { id, variant, sharing, .. } = wish;
        fs::create_dir_all(&self.directory).map_err(FileError::of("create", &self.directory))?;
        let name = match variant {
            None => Digest::of(id.as_bytes()).hex(),
            Some(variant) => Digest::of(format!("{id}\n{variant}").as_bytes()).hex(),
        };
        let (name, lock) = match sharing {
            Sharing::Shared => (name.clone(), self.shared(&name, wish, fill)?),
            Sharing::Locked => (name.clone(), self.alone(&name, wish, fill)?),
            Sharing::Private => self.private(&name, id, fill)?,
        };
        let directory = self.directory.join(&name);
        note(&directory, id)?;
        Ok(Claim { directory: directory.join("root"), _lock: lock })
    }

    /// Held with others. It is made by whoever finds it missing, alone; a removal in between begins it again. Whoever finds it missing
    /// and another at it does not wait to be alone: the other may have made it meanwhile, and use it.
    fn shared(&self, name: &str, wish: Wish<'_>, fill: &mut Fill<'_>) -> Result<Lock, StepError> {
        loop {
            let lock = Lock::shared_while(&self.lock_path(name), wish.is_wanted)?.ok_or(StepError::Stopped)?;
            if self.directory.join(name).join("root").is_dir() {
                return Ok(lock);
            }
            drop(lock);
            match Lock::try_exclusive(&self.lock_path(name))? {
                Some(_alone) => self.make(name, wish.id, fill)?,
                None => std::thread::sleep(MAKING_POLL),
            }
        }
    }

    fn alone(&self, name: &str, wish: Wish<'_>, fill: &mut Fill<'_>) -> Result<Lock, StepError> {
        let lock = Lock::exclusive_while(&self.lock_path(name), wish.is_wanted)?.ok_or(StepError::Stopped)?;
        self.make(name, wish.id, fill)?;
        Ok(lock)
    }

    fn private(&self, name: &str, id: &str, fill: &mut Fill<'_>) -> Result<(String, Lock), StepError> {
        for copy in 0..COPIES_MAX {
            let name = if copy == 0 { name.to_owned() } else { format!("{name}-{copy}") };
            if let Some(lock) = Lock::try_exclusive(&self.lock_path(&name))? {
                self.make(&name, id, fill)?;
                return Ok((name, lock));
            }
        }
        Err(StepError::Invalid(format!("cache {id} is in use {COPIES_MAX} times")))
    }

    /// With the lock held alone.
    fn make(&self, name: &str, id: &str, fill: &mut Fill<'_>) -> Result<(), StepError> {
        let directory = self.directory.join(name);
        let (root, new) = (directory.join("root"), directory.join("new"));
        if root.is_dir() {
            return Ok(());
        }
        remove::remove_tree(&new)?;
        fs::create_dir_all(&new).map_err(FileError::of("create", &new))?;
        note(&directory, id)?;
        fill(&new)?;
        fs::rename(&new, &root).map_err(FileError::of("rename to", &root))?;
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, FileError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FileError::of("list", &self.directory))?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(FileError::of("list", &self.directory))?;
        Ok(names.into_iter().filter(|name| !name.contains('.')).collect())
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.lock"))
    }
}

/// Notes that it is used now. Not worth a sync: it says only how old a cache is.
fn note(directory: &Path, id: &str) -> Result<(), FileError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let path = directory.join("cache.json");
    if read(directory).is_some_and(|record| record.last_used == now) {
        return Ok(());
    }
    let new = directory.join(format!("{}{}", atomic::TEMPORARY_PREFIX, atomic::unique()));
    let record = serde_json::to_vec(&Record { id: id.to_owned(), last_used: now }).map_err(io::Error::other);
    record.and_then(|bytes| fs::write(&new, bytes)).map_err(FileError::of("write", &new))?;
    fs::rename(&new, &path).map_err(FileError::of("rename to", &path))
}

fn read(directory: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(directory.join("cache.json")).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_ones_are_many_and_what_is_in_use_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mounts = CacheMounts { directory: directory.path().join("mounts") };
        let wish = |id, sharing| Wish { id, variant: None, sharing, is_wanted: &|| false };
        let claim = |id: &'static str, sharing| mounts.claim(wish(id, sharing), &mut |_| Ok(())).unwrap();
        let (one, two) = (claim("a", Sharing::Private), claim("a", Sharing::Private));
        assert_ne!(one.directory(), two.directory());
        let (three, four) = (claim("b", Sharing::Shared), claim("b", Sharing::Shared));
        assert_eq!(three.directory(), four.directory());
        fs::write(three.directory().join("kept"), "x".repeat(10_000)).unwrap();
        drop((one, two, three));
        let listed = mounts.list().unwrap();
        let shown: Vec<_> = listed.iter().map(|mount| (mount.id.as_str(), mount.in_use)).collect();
        assert_eq!(shown, [("a", false), ("a", false), ("b", true)]);
        assert!(listed[2].size_bytes >= 10_000);
        assert!(!mounts.remove(&listed[2].name).unwrap());
        let refused = mounts.claim(wish("b", Sharing::Locked), &mut |_| Ok(()));
        assert!(matches!(refused, Err(StepError::Stopped)), "it is in use, and nobody waits");
        drop(four);
        assert!(mounts.remove(&listed[2].name).unwrap());
        assert!(mounts.remove(&listed[0].name).unwrap());
        assert_eq!(mounts.list().unwrap().len(), 1);
        assert!(!claim("b", Sharing::Locked).directory().join("kept").exists());
    }

    #[test]
    fn one_that_begins_with_something_is_filled_once() {
        let directory = tempfile::tempdir().unwrap();
        let mounts = CacheMounts { directory: directory.path().join("mounts") };
        let mut filled = 0;
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        for variant in [&one, &one, &two] {
            let mut fill = |path: &Path| {
                filled += 1;
                fs::write(path.join("first"), "content").map_err(FileError::of("write", path))?;
                Ok(())
            };
            let wish = Wish { id: "a", variant: Some(variant), sharing: Sharing::Shared, is_wanted: &|| true };
            let claim = mounts.claim(wish, &mut fill).unwrap();
            assert!(claim.directory().join("first").exists());
        }
        assert_eq!(filled, 2);
    }
}
