//! The kernel's own file systems as a container sees them: /proc, /sys, /sys/fs/cgroup, with Docker's masks over what tells or does too much.
//!
//! Masks are resolved from the descriptors of the mounts made here: an image cannot put anything in their way (CVE-2025-31133).

use super::beneath::{Kind, Links};
use super::sources::{Role, Sources};
use super::{Root, attach, copy_of_mount, detached, make_read_only};
use crate::process::{During, StartError, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2, symlinkat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::io;

/// Hidden in /proc: they tell about the host's hardware, keys, timers and other containers' timing.
const MASKED_PROC: [&str; 10] =
    ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"];
/// Hidden in /sys: firmware tables, and power meters that leak what other containers compute.
const MASKED_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
/// Read-only in /proc.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// No host has more processors; only a fence around the loop over them (CONFIG_NR_CPUS of the largest distribution kernels).
const PROCESSORS_MAX: usize = 8192;

/// procfs and sysfs of the new namespaces. Made while the host's are still mounted, without which a user namespace may not.
#[derive(Debug)]
pub(super) struct KernelTrees {
    pub(super) proc: OwnedFd,
    pub(super) sys: OwnedFd,
}

impl KernelTrees {
    /// Both, not yet attached.
    pub(super) fn new(sources: &mut Sources, owns_network: bool) -> Result<Self, StartError> {
        let inert = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let proc = detached("proc", &[], inert).during(Step::Mount, "/proc")?;
        let sys = if owns_network {
            detached("sysfs", &[], inert | MountAttrFlags::MOUNT_ATTR_RDONLY).during(Step::Mount, "/sys")?
        } else {
            sources.take(&Role::Sysfs).during(Step::Mount, "/sys")?
        };
        Ok(Self { proc, sys })
    }

    /// Puts them into the root, with the container's own cgroup directories.
    pub(super) fn attach(&self, root: &Root, sources: &mut Sources) -> Result<(), StartError> {
        for (mount, path) in [(&self.proc, "/proc"), (&self.sys, "/sys")] {
            let target = root.ensure(path, Kind::Directory, Links::Refuse);
            target.and_then(|target| attach(mount.as_fd(), target.as_fd())).during(Step::Mount, path)?;
        }
        self.attach_cgroups(sources).during(Step::Mount, "/sys/fs/cgroup")
    }

    fn attach_cgroups(&self, sources: &mut Sources) -> io::Result<()> {
        let Some(target) = beneath(self.sys.as_fd(), "fs/cgroup")? else { return Ok(()) };
        let names = sources.cgroup_names();
        // v2 alone stands there itself; v1 hierarchies stand in a directory of their own each.
        if let [name] = names.as_slice()
            && name.is_empty()
        {
            return attach(sources.take(&Role::Cgroup(String::new()))?.as_fd(), target.as_fd());
        }
        let inert = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let tree = detached("tmpfs", &[("mode", "0755"), ("size", "64k")], inert)?;
        attach(tree.as_fd(), target.as_fd())?;
        for name in names {
            mkdirat(&tree, name.as_str(), Mode::from_raw_mode(0o755))?;
            let Some(place) = beneath(tree.as_fd(), &name)? else { continue };
            attach(sources.take(&Role::Cgroup(name.clone()))?.as_fd(), place.as_fd())?;
            // Programs look for each controller by its own name.
            for alias in name.split(',').filter(|alias| *alias != name) {
                symlinkat(name.as_str(), &tree, alias)?;
            }
        }
        crate::sys::set_mount_attributes(tree.as_fd(), crate::sys::MountAttributes::READ_ONLY, crate::sys::Reach::One)
    }

    /// Hides and write-protects. `null` is the container's own /dev/null, made by us.
    pub(super) fn mask(&self, null: BorrowedFd<'_>) -> Result<(), StartError> {
        let mut mask = Mask { null, empty: None };
        for path in MASKED_PROC {
            mask.over(self.proc.as_fd(), path).during(Step::Mask, format_args!("/proc/{path}"))?;
        }
        for path in MASKED_SYS {
            mask.over(self.sys.as_fd(), path).during(Step::Mask, format_args!("/sys/{path}"))?;
        }
        for processor in 0..PROCESSORS_MAX {
            let path = format!("devices/system/cpu/cpu{processor}");
            if beneath(self.sys.as_fd(), &path).during(Step::Mask, &path)?.is_none() {
                break;
            }
            mask.over(self.sys.as_fd(), &format!("{path}/thermal_throttle")).during(Step::Mask, &path)?;
        }
        for path in READ_ONLY_PROC {
            write_protect(self.proc.as_fd(), path).during(Step::Mask, format_args!("/proc/{path}"))?;
        }
        Ok(())
    }

    /// Sets a parameter of the container's own namespaces.
    pub(super) fn set_parameter(&self, path: &str, value: &str) -> io::Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(&self.proc, format!("sys/{path}"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        rustix::io::write(&file, value.as_bytes())?;
        Ok(())
    }
}

/// What is laid over a path that shall not be seen.
struct Mask<'a> {
    null: BorrowedFd<'a>,
    /// One empty directory for all; it can be copied once it is attached for the first time.
    empty: Option<OwnedFd>,
}

impl Mask<'_> {
    fn over(&mut self, tree: BorrowedFd<'_>, path: &str) -> io::Result<()> {
        let Some(target) = beneath(tree, path)? else { return Ok(()) };
        if FileType::from_raw_mode(fstat(&target)?.st_mode) != FileType::Directory {
            return attach(copy_of_mount(self.null, "")?.as_fd(), target.as_fd());
        }
        if let Some(empty) = &self.empty {
            return attach(copy_of_mount(empty.as_fd(), "")?.as_fd(), target.as_fd());
        }
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let empty = detached("tmpfs", &[("mode", "0555"), ("size", "4k")], attributes)?;
        attach(empty.as_fd(), target.as_fd())?;
        self.empty = Some(empty);
        Ok(())
    }
}

fn write_protect(tree: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let Some(target) = beneath(tree, path)? else { return Ok(()) };
    let copy = copy_of_mount(target.as_fd(), "")?;
    make_read_only(copy.as_fd())?;
    attach(copy.as_fd(), target.as_fd())
}

/// Opens a path of one of the kernel's trees without going through any link; `None` if this kernel has it not.
fn beneath(tree: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(tree, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
