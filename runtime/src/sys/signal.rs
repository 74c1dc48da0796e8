//! Signal mask and dispositions, which exec would hand on.

/// Unblocks every signal and sets every disposition to its default: the Rust runtime ignores SIGPIPE, a shim blocks SIGCHLD.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no code of ours. KILL, STOP and the two of the C library are refused, which is as good.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
}

fn unblock_signals() {
    // SAFETY: all-zero is a valid, empty sigset_t, and the old mask is not asked for. Cannot fail with SIG_SETMASK.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &std::mem::zeroed(), std::ptr::null_mut()) };
}
