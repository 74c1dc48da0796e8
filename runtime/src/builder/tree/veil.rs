//! What rules hide of a directory that is shown as it is: a layer of whiteouts to be put over it.

use super::TreeError;
use super::root::{make_directory, modified, open_directory};
use super::scan::{Content, Entry, names};
use crate::builder::tree::Owner;
use rustix::fs::{AtFlags, FileType, Mode, Stat};
use std::os::fd::{AsFd as _, OwnedFd};

/// Names that are there and not to be seen, in a directory and below it.
#[derive(Debug, Default)]
pub(crate) struct Veil {
    hidden: Vec<Vec<u8>>,
    below: Vec<(Vec<u8>, Stat, Veil)>,
}

impl Veil {
    /// Of a directory, by what a scan with the rules has seen of it.
    pub(crate) fn of(directory: &OwnedFd, seen: &[Entry]) -> Result<Self, TreeError> {
        let mut veil = Self::default();
        for name in names(directory, b"")? {
            let Ok(at) = seen.binary_search_by(|entry| entry.name.cmp(&name)) else {
                veil.hidden.push(name);
                continue;
            };
            if let Content::Directory(children) = &seen[at].content {
                let inner = open_directory(directory, &name).map_err(TreeError::of("open", &name))?;
                let below = Self::of(&inner, children)?;
                if !below.is_empty() {
                    veil.below.push((name, seen[at].stat, below));
                }
            }
        }
        Ok(veil)
    }

    /// Whether nothing is hidden.
    pub(crate) fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.below.is_empty()
    }

    /// Writes it as a layer into an empty directory. Directories on the way look as those that they stand over.
    pub(crate) fn write(&self, to: &OwnedFd) -> Result<(), TreeError> {
        for name in &self.hidden {
            let made = rustix::fs::mknodat(to, name.as_slice(), FileType::CharacterDevice, Mode::empty(), rustix::fs::makedev(0, 0));
            made.map_err(TreeError::of("hide", name))?;
        }
        for (name, stat, below) in &self.below {
            let failed = || TreeError::of("hide something in", name);
            make_directory(to, name, Owner { user: stat.st_uid, group: stat.st_gid }).map_err(failed())?;
            let inner = open_directory(to, name).map_err(failed())?;
            below.write(&inner)?;
            rustix::fs::fchmod(&inner, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(failed())?;
            let times = modified(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default());
            rustix::fs::utimensat(to.as_fd(), name.as_slice(), &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed())?;
        }
        Ok(())
    }
}
