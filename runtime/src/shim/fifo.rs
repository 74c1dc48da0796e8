//! The named pipes of a container: two it writes its output to, and one that it reads, where its input stays open.

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
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

/// A new pipe in the place of an old one: nothing that was written to that is read by the next process.
pub fn renew(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => ensure(path),
    }
}

/// The end that a container reads. It can be opened without anybody at the other end, and then waits for input as any pipe.
pub fn open_to_read(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlags::RDONLY)
}

/// The end that a client writes to, which never blocks it. `Ok(None)` if nobody reads any more.
pub fn open_to_write(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(pipe) => Ok(Some(pipe)),
        Err(Errno::NXIO | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Both ends in one: held by a reader its input never ends.
pub fn open_both(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlags::RDWR)
}

/// Opens without waiting for the other end; reading and writing then wait as usual.
fn open(path: &Path, access: OFlags) -> io::Result<OwnedFd> {
    let pipe = rustix::fs::open(path, access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    rustix::io::ioctl_fionbio(&pipe, false)?;
    Ok(pipe)
}
