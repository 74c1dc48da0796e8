//! Small files, read with as few calls as can be: a look at a host reads thousands of them.

use rustix::buffer::spare_capacity;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use std::fmt::Display;
use std::io;
use std::path::Path;

/// What nearly every file fits into.
const USUAL_BYTES: usize = 4 * 1024;

/// Reads a file below a directory (or at an absolute path), at most this much of it. Ends at a read that does not fill what is free:
/// files on disks have more only behind a full one, and files of the kernel's making (cgroup, proc) of one value come in one piece.
pub(crate) fn read_at(directory: impl AsFd, path: impl AsRef<Path>, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = rustix::fs::openat(directory, path.as_ref(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::with_capacity(USUAL_BYTES.min(bytes_max));
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut bytes)))?;
        if read == 0 || bytes.len() < bytes.capacity() || bytes.len() >= bytes_max {
            bytes.truncate(bytes_max);
            return Ok(bytes);
        }
        bytes.reserve(bytes.len());
    }
}

/// The paths of files of one directory, made one after the other in the same place.
#[derive(Debug)]
pub(crate) struct FilesOf {
    path: String,
    directory_bytes: usize,
}

impl FilesOf {
    /// Those of the directory with this path.
    pub(crate) fn new(directory: &impl Display) -> Self {
        let path = format!("{directory}/");
        Self { directory_bytes: path.len(), path }
    }

    /// The path of the file with this name, until another is asked for.
    pub(crate) fn path(&mut self, name: &str) -> &str {
        self.path.truncate(self.directory_bytes);
        self.path.push_str(name);
        &self.path
    }

    /// The path of the directory.
    pub(crate) fn directory(&self) -> &str {
        &self.path[..self.directory_bytes - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;

    #[test]
    fn paths_of_a_directory_follow_each_other() {
        let mut files = FilesOf::new(&"web@1");
        assert_eq!(files.path("config.json"), "web@1/config.json");
        assert_eq!(files.path("lock"), "web@1/lock");
        assert_eq!(files.directory(), "web@1");
    }

    #[test]
    fn files_of_any_length_are_read_up_to_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, USUAL_BYTES - 1, USUAL_BYTES, USUAL_BYTES + 1, 5 * USUAL_BYTES] {
            let content = vec![7; length];
            std::fs::write(&path, &content).unwrap();
            assert_eq!(read_at(CWD, &path, 10 * USUAL_BYTES).unwrap(), content);
            assert_eq!(read_at(CWD, &path, 100).unwrap().len(), length.min(100));
            assert_eq!(read_at(CWD, &path, 2 * USUAL_BYTES).unwrap().len(), length.min(2 * USUAL_BYTES));
        }
        assert_eq!(read_at(CWD, "/nowhere", 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
