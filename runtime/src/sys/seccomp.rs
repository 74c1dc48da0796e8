//! seccomp(2).

use super::checked;
use std::io;

/// Puts the calling thread under a classic BPF filter for good. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn load_seccomp_filter(filter: &[libc::sock_filter]) -> io::Result<()> {
    let len = libc::c_ushort::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `program` points at `len` instructions, which the kernel copies and does not write.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })?;
    Ok(())
}
