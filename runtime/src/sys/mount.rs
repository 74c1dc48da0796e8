//! mount_setattr(2).

use super::checked;
use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// What to change on a mount.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttributes<'a> {
    /// `MOUNT_ATTR_*` to set.
    set: u64,
    /// `MS_*` propagation, or 0 to leave it.
    propagation: u64,
    /// Ids are mapped through this user namespace.
    id_map: Option<BorrowedFd<'a>>,
}

impl<'a> MountAttributes<'a> {
    /// Read-only.
    pub(crate) const READ_ONLY: Self = Self { set: 0x1, propagation: 0, id_map: None };
    /// Nothing mounted here or below is seen elsewhere, nor the other way round.
    pub(crate) const PRIVATE: Self = Self { set: 0, propagation: libc::MS_PRIVATE, id_map: None };

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        let id_map = if other.id_map.is_some() { other.id_map } else { self.id_map };
        Self { set: self.set | other.set, propagation: self.propagation | other.propagation, id_map }
    }

    /// Owners as seen through a user namespace: id n on disk is its id n inside.
    pub(crate) fn id_mapped(namespace: BorrowedFd<'a>) -> Self {
        Self { set: 0x0010_0000, propagation: 0, id_map: Some(namespace) }
    }
}

/// How far a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// This mount.
    One,
    /// This mount and all below it.
    All,
}

/// struct mount_attr of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes the mount whose root the descriptor is.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: MountAttributes<'_>, reach: Reach) -> io::Result<()> {
    let user_namespace = attributes.id_map.map_or(0, |fd| u64::try_from(fd.as_raw_fd()).expect("an open descriptor is not negative"));
    let attr = MountAttr { set: attributes.set, clear: 0, propagation: attributes.propagation, user_namespace };
    let flags = libc::AT_EMPTY_PATH | if reach == Reach::All { libc::AT_RECURSIVE } else { 0 };
    let (fd, empty) = (mount.as_raw_fd(), c"".as_ptr());
    // SAFETY: the descriptor is open, the path an empty string, and `attr` is as large as said and only read.
    checked(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, empty, flags, &raw const attr, size_of::<MountAttr>()) })?;
    Ok(())
}
