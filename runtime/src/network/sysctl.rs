//! Kernel settings of the network namespace of this thread: `/proc/sys/net` shows whoever looks their own.

use super::error::NetworkError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What to do when the kernel does not have a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Carry on: without IPv6 there is nothing to disable.
    Ignore,
    /// It is an error.
    Refuse,
}

/// Sets `net/<key>`. A setting that cannot be written is fine if it has the value: a host may have mounted `/proc/sys` read-only
/// and be set up right.
pub(super) fn set(key: &str, value: &str, missing: Missing) -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys/net").join(key);
    let written = File::options().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    let Err(error) = written else { return Ok(()) };
    if error.kind() == io::ErrorKind::NotFound && missing == Missing::Ignore {
        return Ok(());
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found.split_whitespace().eq(value.split_whitespace()) { Ok(()) } else { Err(NetworkError::file("set", &path)(error)) }
}
