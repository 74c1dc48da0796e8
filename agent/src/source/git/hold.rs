//! Locks that end when they are given up.

use rustix::fs::{FlockOperation, flock};
use std::os::fd::OwnedFd;

/// A descriptor whose flock is given up when it is dropped: not with the last copy of the descriptor, which a process that another
/// thread is just starting has until its exec.
#[derive(Debug)]
pub(in crate::source) struct Hold(pub(super) OwnedFd);

impl Drop for Hold {
    fn drop(&mut self) {
        // An unlock can only fail for want of a descriptor, and then there is no lock.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
