//! clone3(2) as fork, and unshare(2) of the namespaces that are made without a new process.

use super::checked;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;
use std::io;

/// Which namespaces the child gets for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Namespaces(u64);

impl Namespaces {
    /// Process ids, mounts, host name and System V IPC: what every container has.
    pub(crate) const CONTAINER: Self = Self((libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC) as u64);
    /// Network.
    pub(crate) const NETWORK: Self = Self(libc::CLONE_NEWNET as u64);
    /// Users; it owns all others of the same clone.
    pub(crate) const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// None: a plain fork.
    pub(crate) const NONE: Self = Self(0);

    /// Both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// On which side of the fork we are.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The child in the caller's pid namespace.
        pid: Pid,
        /// The child for ever.
        pidfd: OwnedFd,
    },
}

/// `CLONE_INTO_CGROUP`; a 32-bit constant in libc overflows on some targets.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// struct clone_args of clone3(2), as of Linux 5.7.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks into new namespaces and, where given, straight into a cgroup v2 directory: no write to `cgroup.procs`, no wait.
///
/// Refused with `EBUSY` in a process of more than one thread: the child may run ordinary code only because no lock can be held.
pub(crate) fn clone3(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    // A task directory has a link for itself, its parent entry and each thread.
    if rustix::fs::stat("/proc/self/task")?.st_nlink != 3 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: namespaces.0 | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).expect("an open descriptor is not negative");
    }
    // SAFETY: without CLONE_VM and a stack this is fork; we are the only thread, so the child's copy of memory is whole.
    // `args` is as large as said, and `pidfd` outlives the call.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    match Pid::from_raw(pid as libc::pid_t) {
        None => Ok(Forked::Child),
        // SAFETY: the kernel has just stored a new descriptor here; nobody else owns it.
        Some(pid) => Ok(Forked::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// A cgroup namespace rooted where the caller is now: only after it has entered its group.
pub(crate) fn unshare_control_group() -> io::Result<()> {
    // SAFETY: the flag is not FILES, the only one that can take descriptors away from other threads.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }?)
}

/// A copy of the mount namespace for this thread alone, with a root and a working directory of its own.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the flag is not FILES, the only one that can take descriptors away from other threads.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?)
}
