//! The named pipes a container writes its output to.

use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Makes the pipe exist, readable by us alone. Anything else in its place is an error.
pub fn ensure(path: &Path) -> io::Result<()> {
    match rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if std::fs::symlink_metadata(path)?.file_type().is_fifo() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
