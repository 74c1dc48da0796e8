//! /dev: a small tmpfs with the six harmless devices, terminals, shared memory and message queues.

use super::beneath::{Kind, Links, is_same};
use super::sources::{Role, Sources};
use super::{Root, attach, copy_of_mount, detached};
use crate::process::{During, StartError, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, major, makedev, minor, mkdirat, mknodat, openat, symlinkat};
use rustix::mount::MountAttrFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use std::io;

/// Name, major and minor number of every node.
pub(super) const NODES: [(&str, u32, u32); 6] =
    [("full", 1, 7), ("null", 1, 3), ("random", 1, 8), ("tty", 5, 0), ("urandom", 1, 9), ("zero", 1, 5)];
/// Name and target of every link.
const LINKS: [(&str, &str); 6] = [
    ("core", "/proc/kcore"),
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];
/// Size of /dev/shm, as Docker's.
const SHARED_MEMORY: &str = "64m";
/// The group that owns terminals, in every distribution.
const TTY_GROUP: u32 = 5;
/// statfs(2) type of devpts.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// The container's /dev.
#[derive(Debug)]
pub(super) struct Devices {
    tree: OwnedFd,
    terminals: OwnedFd,
}

/// Both sides of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// For whoever watches.
    pub(crate) master: OwnedFd,
    /// For the program.
    pub(crate) slave: OwnedFd,
}

impl Devices {
    /// Mounts and fills it. `ids` is how many ids the user namespace has, if there is one.
    pub(super) fn mount(root: &Root, sources: &mut Sources, ids: Option<u32>) -> Result<Self, StartError> {
        let tree = detached("tmpfs", &[("mode", "0755"), ("size", "64k")], MountAttrFlags::MOUNT_ATTR_NOSUID);
        let tree = tree.during(Step::Mount, "/dev")?;
        let target = root.ensure("/dev", Kind::Directory, Links::Refuse);
        target.and_then(|target| attach(tree.as_fd(), target.as_fd())).during(Step::Mount, "/dev")?;
        for (name, major, minor) in NODES {
            let made = match ids {
                None => make_node(tree.as_fd(), name, makedev(major, minor)),
                Some(_) => sources.take(&Role::Device(name)).and_then(|node| place_node(tree.as_fd(), name, &node, makedev(major, minor))),
            };
            made.during(Step::Device, format_args!("/dev/{name}"))?;
        }
        for (name, target) in LINKS {
            symlinkat(target, &tree, name).during(Step::Device, format_args!("/dev/{name}"))?;
        }
        let terminals = mount_terminals(tree.as_fd(), ids).during(Step::Mount, "/dev/pts")?;
        let inert = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let memory = detached("tmpfs", &[("mode", "1777"), ("size", SHARED_MEMORY)], inert);
        memory.and_then(|mount| attach_new(tree.as_fd(), "shm", &mount)).during(Step::Mount, "/dev/shm")?;
        let queues = detached("mqueue", &[], inert);
        queues.and_then(|mount| attach_new(tree.as_fd(), "mqueue", &mount)).during(Step::Mount, "/dev/mqueue")?;
        Ok(Self { tree, terminals })
    }

    /// The null device, checked by number: everything masked will be it.
    pub(super) fn null(&self) -> io::Result<OwnedFd> {
        let null = openat(&self.tree, "null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        check_device(null.as_fd(), makedev(1, 3))?;
        Ok(null)
    }

    /// A new terminal, which also becomes /dev/console.
    pub(super) fn open_console(&self) -> io::Result<Terminal> {
        let multiplexer = openat(&self.terminals, "ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let terminal = pair(multiplexer)?;
        let name = minor(fstat(&terminal.slave)?.st_rdev).to_string();
        let copy = copy_of_mount(self.terminals.as_fd(), &name)?;
        if !is_same(terminal.slave.as_fd(), copy.as_fd())? {
            return Err(io::Error::other("the terminal was exchanged"));
        }
        let place = make_file(self.tree.as_fd(), "console")?;
        attach(copy.as_fd(), place.as_fd())?;
        Ok(terminal)
    }
}

/// A new terminal of a running container's devpts, whatever lies at that path checked by descriptor.
pub(crate) fn open_terminal(root: &Root) -> io::Result<Terminal> {
    let multiplexer = root.open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK)?;
    if fstatfs(&multiplexer)?.f_type as u64 != DEVPTS_MAGIC {
        return Err(io::Error::other("/dev/pts is not a devpts"));
    }
    check_device(multiplexer.as_fd(), makedev(5, 2))?;
    rustix::fs::fcntl_setfl(&multiplexer, OFlags::empty())?;
    pair(multiplexer)
}

/// The other side is opened through the master itself, not by its path (CVE-2025-52565).
fn pair(master: OwnedFd) -> io::Result<Terminal> {
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok(Terminal { master, slave })
}

fn make_node(tree: BorrowedFd<'_>, name: &str, number: u64) -> io::Result<()> {
    Ok(mknodat(tree, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)?)
}

/// A node of the host, put over an empty file.
fn place_node(tree: BorrowedFd<'_>, name: &str, node: &OwnedFd, number: u64) -> io::Result<()> {
    check_device(node.as_fd(), number)?;
    attach(node.as_fd(), make_file(tree, name)?.as_fd())
}

fn check_device(file: BorrowedFd<'_>, number: u64) -> io::Result<()> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == number {
        return Ok(());
    }
    Err(io::Error::other(format!("not the character device {}:{}", major(number), minor(number))))
}

fn mount_terminals(tree: BorrowedFd<'_>, ids: Option<u32>) -> io::Result<OwnedFd> {
    let group = TTY_GROUP.to_string();
    // Every devpts is an instance of its own since Linux 4.7.
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
    if ids.is_none_or(|count| count > TTY_GROUP) {
        options.push(("gid", group.as_str()));
    }
    let terminals = detached("devpts", &options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    attach_new(tree, "pts", &terminals)?;
    Ok(terminals)
}

fn attach_new(tree: BorrowedFd<'_>, name: &str, mount: &OwnedFd) -> io::Result<()> {
    mkdirat(tree, name, Mode::from_raw_mode(0o755))?;
    let place = openat(tree, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    attach(mount.as_fd(), place.as_fd())
}

fn make_file(tree: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(tree, name, flags | OFlags::WRONLY, Mode::from_raw_mode(0o666))?;
    Ok(openat(tree, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}
