//! What rustix cannot ask of a pidfd: the exit status of a process that is not our child (Linux 6.15), and real-time signals.

use super::checked;
use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// struct pidfd_info in its first published size.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    /// pid, tgid, ppid and eight kinds of user and group ids.
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;
/// `PIDFD_GET_INFO`: _IOWR(0xFF, 11, struct pidfd_info).
const GET_INFO: u64 = (3 << 30) | ((size_of::<PidfdInfo>() as u64) << 16) | (0xFF << 8) | 11;

/// The wait status of a process that has ended and been reaped; `None` while it has not.
///
/// Errors: `ENOTTY` or `EINVAL` on a kernel before 6.13, `ESRCH` on one before 6.15 or if nobody held a pidfd when it ended.
pub(crate) fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the descriptor is open; the request number carries the size of `info`, which the kernel fills.
    checked(unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) }.into())?;
    Ok((info.mask & INFO_EXIT != 0).then_some(info.exit_code))
}

/// Sends any signal, real-time ones included.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open; without siginfo the kernel fills in what kill(2) would.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) })?;
    Ok(())
}
