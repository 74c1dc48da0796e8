//! SIGTERM, which at its shutdown a host sends to every process: the container is stopped as its configuration says. Without that
//! a host would wait for programs that, being the first of their pid namespace, ignore the signal (systemd: 90 seconds). Nobody wished
//! it stopped, so after the boot it is started again.

use crate::sys;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Hears that the host shuts down.
pub(super) struct Shutdown(OwnedFd);

impl Shutdown {
    pub(super) fn listen() -> io::Result<Self> {
        sys::block_signals(&[libc::SIGTERM])?;
        Ok(Self(sys::signalfd(&[libc::SIGTERM])?))
    }

    /// Readable when it does.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Whether it does; forgets that it was told.
    pub(super) fn take(&self) -> bool {
        // One struct signalfd_siginfo; only that there is one matters.
        rustix::io::read(&self.0, &mut [0; 128]).is_ok()
    }
}
