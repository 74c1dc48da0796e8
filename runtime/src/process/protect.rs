//! Our own executable, out of reach of what we start: run from a read-only mount that exists nowhere else.
//!
//! Between clone and exec `/proc/self/exe` of a container's process is our binary, and a program may be a link to `/proc/self/exe`. Opened
//! for writing through there, the mount says no. The file and its page cache are shared with every other shim; a sealed copy in memory,
//! the usual answer, would cost each shim its own.

use super::error::{During, StartError, Step};
use crate::sys::{self, MountAttributes, Reach, set_mount_attributes};
use rustix::fd::AsFd;
use rustix::fs::{CWD, StatVfsMountFlags, statvfs};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;

const OWN: &str = "/proc/self/exe";
/// Set for the second run, so that a mount that will not become read-only cannot make us run for ever.
const MARK: &str = "AGENT_SHIM_PROTECTED";

/// Makes sure that this process runs from a read-only mount, executing itself again if it does not. To be called first thing in `main`:
/// arguments, environment and inheritable descriptors survive, nothing else does.
pub fn protect_own_binary() -> Result<(), StartError> {
    let protect = || -> io::Result<()> {
        if statvfs(OWN)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        if std::env::var_os(MARK).is_some() {
            return Err(io::Error::other("its mount stays writable"));
        }
        let mount = open_tree(CWD, OWN, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        set_mount_attributes(mount.as_fd(), MountAttributes::READ_ONLY, Reach::One)?;
        let args = std::env::args_os().map(c_string).collect::<io::Result<Vec<_>>>()?;
        let env = std::env::vars_os().map(|(name, value)| {
            let mut variable = name;
            variable.push("=");
            variable.push(value);
            c_string(variable)
        });
        let env = env.chain([Ok(CString::new(format!("{MARK}=1"))?)]).collect::<io::Result<Vec<_>>>()?;
        match sys::execveat_self(mount.as_fd(), &args, &env)? {}
    };
    protect().during(Step::Exec, OWN)
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}
