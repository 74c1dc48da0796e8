//! Modification times of a finished layer: what the clock gave becomes the build's fixed time.

use super::TreeError;
use super::root::{is_directory, modified, open_directory};
use super::scan::{enter, names};
use rustix::fs::AtFlags;
use std::os::fd::OwnedFd;

/// Gives every file below `root`, and the root, that was changed at or after `since` the time `epoch`; all in seconds since 1970.
///
/// Older times are kept: they came from archives and packages, are the same in every build, and Python, make and the like compare
/// them. With `latest` also no time stays after it (`SOURCE_DATE_EPOCH`).
pub(crate) fn settle(root: &OwnedFd, since: i64, epoch: i64, latest: Option<i64>) -> Result<(), TreeError> {
    let settled = |seconds: i64| seconds >= since || latest.is_some_and(|latest| seconds > latest);
    directory(root, &mut Vec::new(), epoch, &settled)
}

fn directory(this: &OwnedFd, path: &mut Vec<u8>, epoch: i64, settled: &dyn Fn(i64) -> bool) -> Result<(), TreeError> {
    for name in names(this, path)? {
        let length = enter(path, &name);
        let stat = rustix::fs::statat(this, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::of("stat", path))?;
        if is_directory(&stat) {
            directory(&open_directory(this, &name).map_err(TreeError::of("open", path))?, path, epoch, settled)?;
        } else if settled(stat.st_mtime) {
            rustix::fs::utimensat(this, name.as_slice(), &modified(epoch, 0), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(TreeError::of("set the time of", path))?;
        }
        path.truncate(length);
    }
    let stat = rustix::fs::fstat(this).map_err(TreeError::of("stat", path))?;
    if settled(stat.st_mtime) {
        rustix::fs::futimens(this, &modified(epoch, 0)).map_err(TreeError::of("set the time of", path))?;
    }
    Ok(())
}
