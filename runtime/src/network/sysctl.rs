//! Kernel settings of the network namespace of this thread: `/proc/sys/net` shows whoever looks their own.

use super::error::NetworkError;
use std::fs;
use std::io;
use std::path::Path;

/// What to do when the kernel does not have a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Carry on: without IPv6 there is nothing to disable.
    Ignore,
    /// It is an error.
    Refuse,
}

/// Sets `net/<key>`, unless it already has the value: a host may have mounted `/proc/sys` read-only and be set up right.
pub(super) fn set(key: &str, value: &str, missing: Missing) -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys/net").join(key);
    let result = fs::read_to_string(&path)
        .and_then(|found| if found.split_whitespace().eq(value.split_whitespace()) { Ok(()) } else { fs::write(&path, value) });
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Ignore => Ok(()),
        other => other.map_err(NetworkError::file("set", &path)),
    }
}
