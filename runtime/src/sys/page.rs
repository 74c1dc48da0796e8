//! The size of a page of memory.

/// In bytes.
pub(crate) fn page_size() -> u64 {
    // SAFETY: takes no pointers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).expect("POSIX gives every system a page size")
}
