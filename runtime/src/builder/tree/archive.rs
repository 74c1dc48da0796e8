//! Archives that ADD unpacks: tar, plain or with gzip, bzip2, xz or zstd, told by their content and never by their name.

use super::TreeError;
use super::root::{LastLink, Missing, Owner, Root, chown, is_directory, modified, open_file};
use crate::image::layer::stream::decompressed;
use crate::store::remove::remove_tree_at;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

/// Most bytes an archive may unpack to: larger than any root file system in use, smaller than a disk a bomb should fill.
const BYTES_MAX: u64 = 64 << 30;
/// Most entries: each costs an inode.
const ENTRIES_MAX: usize = 4_000_000;
/// Most bytes looked at to tell an archive: its first header, with extensions before it.
const HEADER_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of one entry's extension headers.
const EXTENSION_BYTES_MAX: usize = 1 << 20;

/// Whether a file is an archive: told by its content, with or without compression.
pub(crate) fn is_archive(directory: &OwnedFd, name: &[u8]) -> bool {
    let Ok(file) = open_file(directory, name) else { return false };
    let Ok(Some(stream)) = decompressed(File::from(file)) else { return false };
    let mut archive = tar::Archive::new(stream.take(HEADER_BYTES_MAX));
    archive.entries().is_ok_and(|mut entries| matches!(entries.next(), Some(Ok(_))))
}

/// Unpacks the file `name` of `directory` into `destination`, a path of `root`. `false` if it is no archive.
/// The destination belongs to `parents` if it is made here.
pub(crate) fn unpack(
    directory: &OwnedFd,
    name: &[u8],
    root: &Root,
    destination: &[u8],
    (parents, owners): (Owner, ArchiveOwners),
) -> Result<bool, TreeError> {
    let file = File::from(open_file(directory, name).map_err(TreeError::of("open", name))?);
    let Some(stream) = decompressed(file).map_err(TreeError::io("read", name))? else { return Ok(false) };
    let mut archive = tar::Archive::new(stream.take(BYTES_MAX));
    let mut entries = archive.entries().map_err(TreeError::io("read", name))?.raw(false);
    // A file that does not begin like an archive is none.
    let Some(Ok(first)) = entries.next() else { return Ok(false) };
    let target = Root::of(root.ensure_directory(destination, parents)?);
    let mut directories = Vec::new();
    let mut unpacking = Unpacking { root: &target, owners, directories: &mut directories };
    unpacking.entry(first)?;
    for (count, entry) in entries.enumerate() {
        if count > ENTRIES_MAX {
            return Err(TreeError::limit(name, format!("an archive of more than {ENTRIES_MAX} entries")));
        }
        unpacking.entry(entry.map_err(TreeError::io("read the archive", name))?)?;
    }
    // Directories last: what is put into one changes its time.
    for (path, seconds) in directories.into_iter().rev() {
        let spot = target.find(&path, Missing::Fail, LastLink::Keep)?;
        let name = spot.name.as_deref().unwrap_or(b".");
        rustix::fs::utimensat(&*spot.directory, name, &modified(seconds, 0), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(TreeError::of("set the time of", &path))?;
    }
    Ok(true)
}

/// Whose the files of an archive are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArchiveOwners {
    /// Those it says. `--chown` does not change that.
    AsWritten,
    /// All root's: a build context.
    Root,
}

struct Unpacking<'a> {
    root: &'a Root,
    owners: ArchiveOwners,
    directories: &'a mut Vec<(Vec<u8>, i64)>,
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), TreeError> {
        use tar::EntryType;
        let path = entry.path_bytes().into_owned();
        let header = |what: io::Error| TreeError::io("read the header of", &path)(what);
        let kind = entry.header().entry_type();
        let seconds = i64::try_from(entry.header().mtime().map_err(header)?).unwrap_or(0);
        let mode = entry.header().mode().map_err(header)? & 0o7777;
        let owner = match self.owners {
            ArchiveOwners::Root => Owner::ROOT,
            ArchiveOwners::AsWritten => {
                Owner { user: id(entry.header().uid().map_err(header)?), group: id(entry.header().gid().map_err(header)?) }
            }
        };
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink) {
            return Ok(());
        }
        let spot = self.root.find(&path, Missing::Create(Owner::ROOT), LastLink::Keep)?;
        let Some(name) = spot.name.as_deref() else {
            // The archive's own root says nothing about the directory it is unpacked into.
            return Ok(());
        };
        self.make_way(&spot.directory, name, &path, kind == EntryType::Directory)?;
        let failed = |operation| TreeError::of(operation, &path);
        match kind {
            EntryType::Directory => {
                match rustix::fs::mkdirat(&*spot.directory, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed("create")(error)),
                }
                self.directories.push((path.clone(), seconds));
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                rustix::fs::symlinkat(target.as_slice(), &*spot.directory, name).map_err(failed("link"))?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let first = self.root.find(&target, Missing::Fail, LastLink::Keep)?;
                let first_name = first.name.as_deref().unwrap_or_default();
                return rustix::fs::linkat(&*first.directory, first_name, &*spot.directory, name, AtFlags::empty()).map_err(failed("link"));
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let number = |part: io::Result<Option<u32>>| match kind {
                    // A pipe has none, and GNU tar leaves the fields empty.
                    EntryType::Fifo => Ok(0),
                    _ => part.map(Option::unwrap_or_default).map_err(header),
                };
                let device = rustix::fs::makedev(number(entry.header().device_major())?, number(entry.header().device_minor())?);
                let file_type = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                rustix::fs::mknodat(&*spot.directory, name, file_type, Mode::RUSR, device).map_err(failed("create"))?;
            }
            _ => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&*spot.directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed("create"))?;
                io::copy(&mut entry, &mut File::from(file)).map_err(TreeError::io("unpack", &path))?;
            }
        }
        chown(&*spot.directory, name, owner).map_err(failed("set the owner of"))?;
        if kind != EntryType::Symlink {
            rustix::fs::chmodat(&*spot.directory, name, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(failed("set the mode of"))?;
            attributes(&mut entry, &spot.directory, name, &path)?;
        }
        rustix::fs::utimensat(&*spot.directory, name, &modified(seconds, 0), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the time of"))
    }

    /// Removes what an entry replaces: anything but a directory under a directory.
    fn make_way(&self, directory: &OwnedFd, name: &[u8], path: &[u8], for_directory: bool) -> Result<(), TreeError> {
        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(TreeError::of("stat", path)(error)),
            Ok(stat) if is_directory(&stat) && for_directory => Ok(()),
            Ok(stat) if is_directory(&stat) => remove_tree_at(directory, name).map_err(TreeError::of("replace", path)),
            Ok(_) => rustix::fs::unlinkat(directory, name, AtFlags::empty()).map_err(TreeError::of("replace", path)),
        }
    }
}

/// Extended attributes from `SCHILY.xattr.` records: those that mean the same everywhere.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>, directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), TreeError> {
    let Some(extensions) = entry.pax_extensions().map_err(TreeError::io("read the header of", path))? else { return Ok(()) };
    let mut bytes = 0;
    for extension in extensions {
        let extension = extension.map_err(TreeError::io("read the header of", path))?;
        bytes += extension.value_bytes().len();
        if bytes > EXTENSION_BYTES_MAX {
            return Err(TreeError::limit(path, "extension headers too long".to_owned()));
        }
        let Some(attribute) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        if attribute.starts_with(b"user.") || attribute == b"security.capability" {
            let file = open_file(directory, name).map_err(TreeError::of("open", path))?;
            match rustix::fs::fsetxattr(&file, attribute, extension.value_bytes(), XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(error) => return Err(TreeError::of("set an attribute of", path)(error)),
            }
        }
    }
    Ok(())
}

/// An id that does not fit is nobody's.
fn id(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(65534)
}
