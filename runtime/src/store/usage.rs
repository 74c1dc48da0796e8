//! How much disk a tree takes. Trees may be hostile: nothing is resolved by name, symbolic links are never followed.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Directories within directories that are counted: one open descriptor each, well under the usual limit of 1024. What lies deeper
/// counts nothing.
const DEPTH_MAX: usize = 512;
/// st_blocks is in these units, whatever the file system (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// What trees take. A file with several names counts once; what has names elsewhere too is told apart.
#[derive(Debug, Default)]
pub struct Footprint {
    /// Of directories, and of files with one name.
    own_bytes: u64,
    /// Files with several names, by device and inode.
    linked: HashMap<(u64, u64), Linked>,
}

#[derive(Debug)]
struct Linked {
    /// Names that were met.
    names: u64,
    /// Names that there are.
    links: u64,
    bytes: u64,
}

impl Footprint {
    /// Of what is at `path` and below it; nothing if it is absent. What cannot be read counts nothing.
    pub fn of(path: &Path) -> Self {
        let mut footprint = Self::default();
        footprint.add(path);
        footprint
    }

    /// Counts another tree with those counted so far.
    pub fn add(&mut self, path: &Path) {
        let Ok(stat) = rustix::fs::lstat(path) else { return };
        self.count(&stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && let Ok(directory) = open(CWD, path)
        {
            self.directory(&directory, 1);
        }
    }

    /// Bytes of disk, each file once.
    pub fn bytes(&self) -> u64 {
        self.own_bytes + self.linked.values().map(|file| file.bytes).sum::<u64>()
    }

    /// Bytes of disk that would be free without it: not those of files that have names elsewhere.
    pub fn freed(&self) -> u64 {
        self.own_bytes + self.linked.values().filter(|file| file.names >= file.links).map(|file| file.bytes).sum::<u64>()
    }

    /// Bytes of disk with its part of what it has in common with others: those of all of them add up to what there is.
    pub fn share(&self) -> u64 {
        self.own_bytes + self.linked.values().map(|file| file.bytes * file.names.min(file.links) / file.links).sum::<u64>()
    }

    /// Whether it has files that have names elsewhere.
    pub fn is_shared(&self) -> bool {
        self.linked.values().any(|file| file.names < file.links)
    }

    fn directory(&mut self, directory: &OwnedFd, depth: usize) {
        let Ok(entries) = Dir::read_from(directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            self.count(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && depth < DEPTH_MAX
                && let Ok(below) = open(directory, name)
            {
                self.directory(&below, depth + 1);
            }
        }
    }

    fn count(&mut self, stat: &Stat) {
        let bytes = stat.st_blocks as u64 * BLOCK_BYTES;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory || stat.st_nlink <= 1 {
            self.own_bytes += bytes;
            return;
        }
        let file = self.linked.entry((stat.st_dev, stat.st_ino)).or_insert(Linked { names: 0, links: stat.st_nlink as _, bytes });
        file.names += 1;
    }
}

/// Bytes of disk that one tree takes, see [`Footprint::bytes`].
pub fn tree_bytes(path: &Path) -> u64 {
    Footprint::of(path).bytes()
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
        let (first, second, mut both) = (Footprint::of(&one), Footprint::of(&two), Footprint::of(&one));
        both.add(&two);
        assert_eq!(first.bytes(), empty + (256 << 10));
        assert_eq!(both.bytes(), first.bytes() + second.bytes() - (256 << 10), "the file is one");
        assert!(first.is_shared() && second.is_shared() && !both.is_shared());
        assert_eq!((first.freed(), both.freed()), (empty, both.bytes()));
        assert_eq!(first.share() - empty, (256 << 10) * 2 / 3);
        assert_eq!(tree_bytes(&ground.path().join("absent")), 0);
    }
}
