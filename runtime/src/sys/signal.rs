//! Signal mask and dispositions, which exec would hand on.

/// Unblocks every signal and sets every disposition to its default: the Rust runtime ignores SIGPIPE, a shim blocks SIGCHLD.
pub(crate) fn reset_signals() {
    (1..=SIGNALS).for_each(set_default);
    unblock_signals();
}

/// How many signals the kernel has, _NSIG; the C library hides the two that it uses itself.
const SIGNALS: libc::c_int = 64;

fn set_default(signal: libc::c_int) {
    /// struct sigaction of the kernel: handler (SIG_DFL is 0), flags, restorer, mask.
    const DEFAULT: [usize; 4] = [0; 4];
    let no_old = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the action is as large as the kernel's, only read, and installs no code of ours. KILL and STOP are refused, which is as good.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), no_old, size_of::<u64>()) };
}

fn unblock_signals() {
    // SAFETY: all-zero is a valid, empty sigset_t, and the old mask is not asked for. Cannot fail with SIG_SETMASK.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &std::mem::zeroed(), std::ptr::null_mut()) };
}
