//! The content of a site's files, beyond the manifests: digests of what is mounted, built from or imported, and texts of environment
//! files. Paths are relative to the site's root and never leave it, not through symlinks either.

use super::manifests::open_inside;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use sha2::{Digest as _, Sha256};
use spec::value::Digest;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Entries of a mounted tree: what is larger is data, and belongs into a volume.
const ENTRIES_MAX: usize = 100_000;
/// Bytes of a mounted tree or an archive; they are read whenever the site is loaded.
const BYTES_MAX: u64 = 4 << 30;
/// Directories below each other.
const DEPTH_MAX: usize = 64;

/// Digest of a file's bytes, or of a tree: over all entries in order of their paths, each with kind, permission bits, and content or
/// link target. Owners and times are not part of it. Pipes, sockets and devices are refused with [`io::ErrorKind::InvalidInput`].
pub fn content_digest(path: &Path) -> io::Result<Digest> {
    if fs::symlink_metadata(path)?.is_file() {
        let mut walk = Walk { hash: Sha256::new(), entries: 1, bytes: 0 };
        return walk.bytes_of(path);
    }
    let mut walk = Walk { hash: Sha256::new(), entries: 0, bytes: 0 };
    walk.entry(path, Path::new(""), 0)?;
    Ok(Digest::from_bytes(walk.hash.finalize().into()))
}

/// The real path of something in a site, symlinks followed. One that leaves the site gives [`io::ErrorKind::CrossesDevices`].
pub fn resolve_inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    openat2(&descriptor, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)?;
    fs::canonicalize(root.join(path))
}

/// The text of a file in a site, at most `bytes_max` long.
pub fn read_text(root: &Path, path: &Path, bytes_max: u64) -> io::Result<String> {
    let descriptor = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    open_inside(descriptor.as_fd(), path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {bytes_max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

struct Walk {
    hash: Sha256,
    entries: usize,
    bytes: u64,
}

impl Walk {
    fn entry(&mut self, root: &Path, path: &Path, depth: usize) -> io::Result<()> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX || depth > DEPTH_MAX {
            let limits = format!("{} has more than {ENTRIES_MAX} entries or {DEPTH_MAX} levels: use a volume", root.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, limits));
        }
        // `join` with an empty path would append a slash, and a slash follows a symlink.
        let here = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
        let metadata = fs::symlink_metadata(&here)?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            self.field(b"link");
            self.field(path.as_os_str().as_bytes());
            self.field(fs::read_link(&here)?.as_os_str().as_bytes());
            return Ok(());
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is neither file, directory nor symlink", here.display())));
        }
        self.field(if kind.is_dir() { b"directory" } else { b"file" });
        self.field(path.as_os_str().as_bytes());
        self.field(&(metadata.permissions().mode() & 0o7777).to_be_bytes());
        if !kind.is_dir() {
            return self.file(&here);
        }
        let mut names = fs::read_dir(&here)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        names.iter().try_for_each(|name| self.entry(root, &path.join(name), depth + 1))
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let own = self.bytes_of(path)?;
        self.field(own.as_bytes());
        Ok(())
    }

    fn bytes_of(&mut self, path: &Path) -> io::Result<Digest> {
        let mut file = File::open(path)?.take(BYTES_MAX - self.bytes + 1);
        let mut own = Sha256::new();
        self.bytes += io::copy(&mut file, &mut HashWriter(&mut own))?;
        if self.bytes > BYTES_MAX {
            let limits = format!("{} and what lies beside it exceed {BYTES_MAX} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, limits));
        }
        Ok(Digest::from_bytes(own.finalize().into()))
    }

    /// Lengths go first, so that no two trees give the same bytes.
    fn field(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_copy_has_the_same_digest_and_every_change_another() {
        let make = || {
            let tree = tempfile::tempdir().unwrap();
            fs::create_dir(tree.path().join("a")).unwrap();
            fs::write(tree.path().join("a/x"), "1").unwrap();
            symlink("a/x", tree.path().join("l")).unwrap();
            fs::set_permissions(tree.path(), Permissions::from_mode(0o755)).unwrap();
            tree
        };
        let original = content_digest(make().path()).unwrap();
        assert_eq!(content_digest(make().path()).unwrap(), original);
        let changes: [&dyn Fn(&Path); 6] = [
            &|tree| fs::write(tree.join("a/x"), "2").unwrap(),
            &|tree| fs::write(tree.join("a/y"), "").unwrap(),
            &|tree| fs::rename(tree.join("a/x"), tree.join("a/z")).unwrap(),
            &|tree| fs::set_permissions(tree.join("a/x"), Permissions::from_mode(0o755)).unwrap(),
            &|tree| fs::create_dir(tree.join("b")).unwrap(),
            &|tree| {
                fs::remove_file(tree.join("l")).unwrap();
                symlink("a/y", tree.join("l")).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let tree = make();
            change(tree.path());
            assert_ne!(content_digest(tree.path()).unwrap(), original, "change {number}");
        }
    }

    #[test]
    fn a_single_file_is_its_bytes() {
        let site = tempfile::tempdir().unwrap();
        fs::write(site.path().join("x"), "1").unwrap();
        assert_eq!(content_digest(&site.path().join("x")).unwrap(), Digest::of(b"1"));
    }

    #[test]
    fn nothing_is_read_outside_the_site() {
        let site = tempfile::tempdir().unwrap();
        symlink("/etc", site.path().join("etc")).unwrap();
        symlink("real", site.path().join("alias")).unwrap();
        fs::write(site.path().join("real"), "A=1").unwrap();
        for path in ["../x", "/etc/passwd", "etc/passwd"] {
            assert_eq!(read_text(site.path(), Path::new(path), 100).unwrap_err().kind(), io::ErrorKind::CrossesDevices, "{path}");
            assert!(resolve_inside(site.path(), Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(read_text(site.path(), Path::new("alias"), 100).unwrap(), "A=1");
        assert!(resolve_inside(site.path(), Path::new("alias")).unwrap().ends_with("real"));
        assert_eq!(read_text(site.path(), Path::new("real"), 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
