//! Processes held by descriptor: found again without mistake, waited for, and asked how they ended.

use crate::container::state::ProcessRef;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::io;
use std::time::{Duration, Instant};

/// How a process ended, as shells count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitStatus {
    /// The code, or 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// From the status word of wait(2).
    pub(crate) fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) { Self::Signal(libc::WTERMSIG(status)) } else { Self::Code(libc::WEXITSTATUS(status)) }
    }
}

/// Opens exactly this process; `None` if it is gone, also if its number has been given to another.
pub fn open(process: ProcessRef) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(None) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The descriptor is fixed to whoever has the number now; the start time says whether that is the one we mean.
    Ok((start_time(process.pid)? == Some(process.start_time)).then_some(pidfd))
}

/// Opens a child that nobody has reaped yet: its number is still its own.
pub fn open_child(child: &std::process::Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// When a process started, in clock ticks since boot; `None` if it is gone. Field 22 of proc_pid_stat(5).
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse_start_time(&stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a signal; fine if the process has ended.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: spec::value::Signal) -> io::Result<()> {
    match sys::pidfd_send_signal(pidfd, signal.number()) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        sent => sent,
    }
}

/// Waits until the process has ended; false if that took longer than `timeout`.
pub fn wait(pidfd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps a child that has ended and says how; `None` while it runs.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    let Some(status) = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)? else { return Ok(None) };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(Some(ExitStatus::Code(code))),
        (None, Some(signal)) => Ok(Some(ExitStatus::Signal(signal))),
        (None, None) => Ok(None),
    }
}

/// How a process ended that is not our child: kept by the kernel for whoever holds its pidfd (Linux 6.15). `None` if it has ended
/// but its parent has not reaped it yet, or the kernel cannot say.
pub fn exit_status_of_stranger(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    match sys::pidfd_exit_status(pidfd.as_fd()) {
        Ok(status) => Ok(status.map(ExitStatus::from_wait_status)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOTTY | libc::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The program's name stands in parentheses and may hold anything, so fields are counted from the last one.
fn parse_start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_named_like_fields_does_not_shift_them() {
        let stat = "42 (a) R 1 (b) S 1 42 42 0 -1 4194560 100 0 0 0 0 0 0 0 20 0 1 0 987654 1000 10 18446744073709551615";
        assert_eq!(parse_start_time(stat), Some(987_654));
    }

    #[test]
    fn a_number_given_to_another_is_not_the_same_process() {
        let pid = std::process::id() as i32;
        let start_time = start_time(pid).unwrap().unwrap();
        assert!(open(ProcessRef { pid, start_time }).unwrap().is_some());
        assert!(open(ProcessRef { pid, start_time: start_time + 1 }).unwrap().is_none());
    }

    #[test]
    fn a_stranger_says_how_it_ended() {
        let mut child =
            std::process::Command::new("/bin/sh").args(["-c", "read x; exit 7"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_raw(child.id() as i32).unwrap(), PidfdFlags::empty()).unwrap();
        assert!(!wait(pidfd.as_fd(), Some(Duration::from_millis(1))).unwrap());
        drop(child.stdin.take());
        assert!(wait(pidfd.as_fd(), None).unwrap());
        child.wait().unwrap();
        assert_eq!(exit_status_of_stranger(pidfd.as_fd()).unwrap(), Some(ExitStatus::Code(7)));
    }
}
