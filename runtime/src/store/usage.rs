//! How much disk a tree takes. Trees may be hostile: nothing is resolved by name, symbolic links are never followed.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Directories within directories that are counted: one open descriptor each, well under the usual limit of 1024. What lies deeper
/// counts nothing.
const DEPTH_MAX: usize = 512;
/// st_blocks is in these units, whatever the file system (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// Counts trees; a file that is met by several names, in one tree or in several, counts once.
#[derive(Debug, Default)]
pub struct Counter {
    linked: HashSet<(u64, u64)>,
}

impl Counter {
    /// Bytes of disk that `path` and all below it take and that were not counted before; 0 if it is absent. What cannot be read
    /// counts nothing.
    pub fn tree(&mut self, path: &Path) -> u64 {
        let Ok(stat) = rustix::fs::lstat(path) else { return 0 };
        let own = self.own(&stat);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return own;
        }
        own + open(CWD, path).map_or(0, |directory| self.directory(&directory, 1))
    }

    fn directory(&mut self, directory: &OwnedFd, depth: usize) -> u64 {
        let Ok(entries) = Dir::read_from(directory) else { return 0 };
        let mut bytes = 0;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            bytes += self.own(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth < DEPTH_MAX {
                bytes += open(directory, name).map_or(0, |below| self.directory(&below, depth + 1));
            }
        }
        bytes
    }

    fn own(&mut self, stat: &Stat) -> u64 {
        let has_names = FileType::from_raw_mode(stat.st_mode) != FileType::Directory && stat.st_nlink > 1;
        let counted = has_names && !self.linked.insert((stat.st_dev, stat.st_ino));
        if counted { 0 } else { stat.st_blocks as u64 * BLOCK_BYTES }
    }
}

/// Bytes of disk that one tree takes, see [`Counter::tree`].
pub fn tree_bytes(path: &Path) -> u64 {
    Counter::default().tree(path)
}

fn open<Name: rustix::path::Arg>(directory: impl AsFd, name: Name) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_of_one_file_count_once_and_links_lead_nowhere() {
        let ground = tempfile::tempdir().unwrap();
        let [one, two, outside] = ["one", "two", "outside"].map(|name| ground.path().join(name));
        for directory in [&one, &two, &outside] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(outside.join("large"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(&outside, one.join("out")).unwrap();
        let empty = tree_bytes(&one);
        assert!(empty < 64 << 10, "{empty}");
        fs::write(one.join("file"), vec![1; 256 << 10]).unwrap();
        fs::hard_link(one.join("file"), one.join("again")).unwrap();
        fs::hard_link(one.join("file"), two.join("again")).unwrap();
        let mut counter = Counter::default();
        assert_eq!(counter.tree(&one), empty + (256 << 10));
        assert!(counter.tree(&two) < 64 << 10, "counted in the first tree");
        assert_eq!(tree_bytes(&ground.path().join("absent")), 0);
    }
}
