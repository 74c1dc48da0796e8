//! Signals as something to read: signalfd(2), for a loop that also waits for other things.

use super::checked;
use rustix::fd::{FromRawFd, OwnedFd};
use std::io;

/// Keeps these signals from being delivered to this process; they wait until they are read from a [`signalfd`].
/// A child inherits this; starting a container process undoes it there.
pub(crate) fn block_signals(signals: &[i32]) -> io::Result<()> {
    // SAFETY: the set outlives the call and the old mask is not asked for.
    checked(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set_of(signals), std::ptr::null_mut()) }.into())?;
    Ok(())
}

/// A descriptor that is readable while one of these (blocked) signals waits; each is read as a `signalfd_siginfo` of 128 bytes.
pub(crate) fn signalfd(signals: &[i32]) -> io::Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set outlives the call; -1 asks for a new descriptor.
    let descriptor = checked(unsafe { libc::signalfd(-1, &set_of(signals), flags) }.into())?;
    let descriptor = i32::try_from(descriptor).expect("descriptors are small");
    // SAFETY: the kernel has just opened it; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: all-zero is a valid, empty sigset_t.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: `set` is ours and initialised; a number that is no signal is refused, which leaves it out.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}
