//! From a commit's tree to files. The tree is hostile until shown otherwise.
//!
//! Everything is written below a directory that we have just made, and only ever created, never opened: an entry that comes twice,
//! or lies below a symlink, fails. Symlinks may point anywhere inside; that is asked of the kernel when all is written.

use crate::source::time_limit::TimeLimit;
use crate::source::{CommitId, FetchError};
use git2::{Blob, Oid, Repository, Tree};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// How much a checkout may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Files, directories and symlinks.
    pub(super) entries: u64,
    /// Bytes in all.
    pub(super) bytes: u64,
    /// Bytes of one file: it is held in memory once while it is written.
    pub(super) file_bytes: u64,
}

/// For everything that is not a test. A large monorepo has some hundred thousand files, a site some hundred.
pub(super) const LIMITS: Limits = Limits { entries: 200_000, bytes: 8 << 30, file_bytes: 512 << 20 };
/// Directories below each other; also the depth of our recursion.
const DEPTH_MAX: usize = 64;
/// A path within the checkout: with the checkout's own path before it, it must stay below the kernel's 4096.
const PATH_BYTES_MAX: usize = 3072;

/// What was left out.
#[derive(Debug, Default)]
pub(super) struct Exported {
    /// For people.
    pub(super) notes: Vec<String>,
    /// Submodules: their commits by their paths.
    pub(super) submodules: BTreeMap<String, CommitId>,
}

/// Writes a folder of a commit into a directory, which must not exist.
pub(super) fn export(
    repository: &Repository,
    commit: &CommitId,
    folder: Option<&str>,
    into: &Path,
    (limits, limit): (Limits, TimeLimit),
) -> Result<Exported, FetchError> {
    let mut export =
        Export { repository, commit, into, limits, limit, entries: 0, bytes: 0, symlinks: Vec::new(), exported: Exported::default() };
    let tree = export.find_folder(folder)?;
    export.directory(&tree, Path::new(""), 0)?;
    export.check_symlinks()?;
    Ok(export.exported)
}

struct Export<'a> {
    repository: &'a Repository,
    commit: &'a CommitId,
    into: &'a Path,
    limits: Limits,
    limit: TimeLimit,
    entries: u64,
    bytes: u64,
    symlinks: Vec<PathBuf>,
    exported: Exported,
}

impl<'a> Export<'a> {
    fn find_folder(&self, folder: Option<&str>) -> Result<Tree<'a>, FetchError> {
        let id = Oid::from_str(self.commit.as_str()).map_err(self.failed("read a commit id"))?;
        let tree = self.repository.find_commit(id).and_then(|commit| commit.tree()).map_err(self.failed("read the commit"))?;
        let Some(folder) = folder else { return Ok(tree) };
        let missing = || FetchError::FolderMissing { commit: self.commit.clone(), folder: folder.to_owned() };
        let entry = match tree.get_path(Path::new(folder)) {
            Ok(entry) => entry,
            Err(error) if error.code() == git2::ErrorCode::NotFound => return Err(missing()),
            Err(error) => return Err(self.failed("find the folder")(error)),
        };
        if entry.kind() != Some(git2::ObjectType::Tree) {
            return Err(missing());
        }
        self.repository.find_tree(entry.id()).map_err(self.failed("read the folder"))
    }

    fn directory(&mut self, tree: &Tree<'_>, path: &Path, depth: usize) -> Result<(), FetchError> {
        if depth > DEPTH_MAX {
            return Err(FetchError::TooMuch { what: "levels", of: format!("commit {}", self.commit.short()), limit: DEPTH_MAX as u64 });
        }
        self.make_directory(path)?;
        for entry in tree {
            self.count_entry()?;
            let name = entry.name_bytes();
            let inner = path.join(OsStr::from_bytes(name));
            check_name(name).map_err(|problem| self.hostile(path, name, problem))?;
            if inner.as_os_str().len() > PATH_BYTES_MAX {
                return Err(self.hostile(path, name, "has a path that is too long"));
            }
            // Modes by gitdatamodel: nothing but these five is ever written by Git; 100664 is from its first days.
            match entry.filemode_raw() {
                0o040000 => {
                    let tree = self.repository.find_tree(entry.id()).map_err(self.failed("read a tree"))?;
                    self.directory(&tree, &inner, depth + 1)?;
                }
                0o100644 | 0o100664 => self.file(entry.id(), &inner, 0o644)?,
                0o100755 => self.file(entry.id(), &inner, 0o755)?,
                0o120000 => self.symlink(entry.id(), &inner)?,
                0o160000 => {
                    self.make_directory(&inner)?;
                    self.exported.notes.push(format!("{}: a submodule is left empty", inner.display()));
                    self.exported.submodules.extend(inner.to_str().map(|path| (path.to_owned(), entry.id().into())));
                }
                mode => return Err(self.hostile(path, name, &format!("has the unknown mode {mode:o}"))),
            }
        }
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> Result<(), FetchError> {
        let target = self.into.join(path);
        fs::create_dir(&target).map_err(|error| self.refuse_twins(error, "create", path))?;
        fs::set_permissions(&target, Permissions::from_mode(0o755)).map_err(FetchError::local("set the mode of", target))
    }

    fn file(&mut self, id: Oid, path: &Path, mode: u32) -> Result<(), FetchError> {
        let blob = self.blob(id, path, self.limits.file_bytes)?;
        let target = self.into.join(path);
        let mut file = File::create_new(&target).map_err(|error| self.refuse_twins(error, "create", path))?;
        file.write_all(blob.content())
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .map_err(FetchError::local("write", target))
    }

    fn symlink(&mut self, id: Oid, path: &Path) -> Result<(), FetchError> {
        let blob = self.blob(id, path, PATH_BYTES_MAX as u64)?;
        let target = Path::new(OsStr::from_bytes(blob.content()));
        if target.is_absolute() || target.as_os_str().is_empty() || blob.content().contains(&0) {
            return Err(self.hostile(path, b"", "is a symlink that leaves the site"));
        }
        symlink(target, self.into.join(path)).map_err(|error| self.refuse_twins(error, "create", path))?;
        self.symlinks.push(path.to_owned());
        Ok(())
    }

    /// Reads a blob after a look at its size, and counts it.
    fn blob(&mut self, id: Oid, path: &Path, bytes_max: u64) -> Result<Blob<'a>, FetchError> {
        let (size, _) = self.repository.odb().and_then(|odb| odb.read_header(id)).map_err(self.failed("look up a file"))?;
        let size = size as u64;
        self.bytes += size;
        if size > bytes_max {
            return Err(FetchError::TooMuch { what: "bytes", of: path.display().to_string(), limit: bytes_max });
        }
        if self.bytes > self.limits.bytes {
            return Err(FetchError::TooMuch { what: "bytes", of: format!("commit {}", self.commit.short()), limit: self.limits.bytes });
        }
        self.repository.find_blob(id).map_err(self.failed("read a file"))
    }

    /// No symlink may lead out, not even through another one: what `..` means after a symlink only the kernel knows.
    fn check_symlinks(&self) -> Result<(), FetchError> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.into, flags | OFlags::DIRECTORY, Mode::empty()).map_err(FetchError::system("open", self.into))?;
        for path in &self.symlinks {
            match openat2(&root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
                // It dangles inside. The checkout never changes, so it never comes to lead anywhere.
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::XDEV) => return Err(self.hostile(path, b"", "is a symlink that leaves the site")),
                Err(Errno::LOOP) => return Err(self.hostile(path, b"", "is a symlink that leads to itself")),
                Err(errno) => return Err(FetchError::system("resolve", self.into.join(path))(errno)),
            }
        }
        Ok(())
    }

    fn count_entry(&mut self) -> Result<(), FetchError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(FetchError::TooMuch { what: "files", of: format!("commit {}", self.commit.short()), limit: self.limits.entries });
        }
        if self.limit.is_over() {
            return Err(FetchError::TimedOut { repository: format!("commit {}", self.commit.short()), limit: self.limit.span });
        }
        Ok(())
    }

    fn refuse_twins(&self, error: std::io::Error, action: &'static str, path: &Path) -> FetchError {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => self.hostile(path, b"", "is there twice"),
            std::io::ErrorKind::InvalidFilename => self.hostile(path, b"", "has a name that is too long"),
            _ => FetchError::local(action, self.into.join(path))(error),
        }
    }

    fn hostile(&self, path: &Path, name: &[u8], problem: &str) -> FetchError {
        let path = if name.is_empty() { path.to_owned() } else { path.join(OsStr::from_bytes(name)) };
        let path = path.to_string_lossy().chars().take(300).collect();
        FetchError::Hostile { commit: self.commit.clone(), path, problem: problem.to_owned() }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(git2::Error) -> FetchError + use<> {
        FetchError::objects(action, self.repository.path().to_owned())
    }
}

fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err("is not a name within a directory");
    }
    // A repository within ours would run its configuration as soon as somebody calls git there.
    if name.eq_ignore_ascii_case(b".git") {
        return Err("is the name of Git's own directory");
    }
    Ok(())
}
