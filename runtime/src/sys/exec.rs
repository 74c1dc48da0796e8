//! execve(2) with its inheritance: which descriptors survive it, and leaving without it.

use super::checked;
use rustix::fd::{AsRawFd, BorrowedFd};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;

/// Replaces this process; returns only if that did not work.
pub(crate) fn execve(program: &CStr, args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: all strings end in NUL, both arrays in a null pointer, and all outlive the call.
    checked(unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) }.into())?;
    Err(io::Error::other("execve returned"))
}

/// Replaces this process by the program behind a descriptor.
pub(crate) fn execveat_self(program: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let (args, env) = (pointers(args), pointers(env));
    let (empty, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
    // SAFETY: as above, and the descriptor is open.
    checked(unsafe { libc::syscall(libc::SYS_execveat, program.as_raw_fd(), empty, args.as_ptr(), env.as_ptr(), flags) })?;
    Err(io::Error::other("execveat returned"))
}

/// Marks every descriptor from `first` up to be closed by the next exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now, so nobody's descriptor is taken away.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Ends a forked child at once: no exit handlers and no flushing of what the parent has buffered.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(status) }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}
