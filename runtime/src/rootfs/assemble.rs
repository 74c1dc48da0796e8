//! The order in which a root file system comes together, in the init stage: own the root, let go of the host, mount, mask, seal.

use super::beneath::{Kind, Links, refuse_kernel_files};
use super::device::{Devices, Terminal};
use super::etc::EtcFile;
use super::kernel::KernelTrees;
use super::sources::{Role, Sources, owns_network};
use super::{Root, attach, copy_up, detached, make_read_only};
use crate::container::config::{ContainerConfig, MountConfig, NetworkConfig};
use crate::process::{During, StartError, Step};
use crate::sys::{MountAttributes, Reach, set_mount_attributes};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::{chdir, fchdir, pivot_root};
use spec::value::{ByteSize, MountTarget};
use std::io;

/// What the init stage is asked to put together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Assembly<'a> {
    pub(crate) config: &'a ContainerConfig,
    /// Whether the program gets a terminal.
    pub(crate) terminal: bool,
}

/// Makes `/` the container's and fills it. Returns its root and, if asked for, a terminal that is also /dev/console.
///
/// The caller is alone in new mount, pid, IPC and cgroup namespaces and has entered its network.
pub(crate) fn assemble(assembly: Assembly<'_>, mut sources: Sources) -> Result<(Root, Option<Terminal>), StartError> {
    let config = assembly.config;
    // Before the host's procfs and sysfs go: a user namespace may only mount what it can see whole already.
    let kernel = KernelTrees::new(&mut sources, owns_network(config))?;
    let root = sources.take(&Role::Root).and_then(pivot).during(Step::PivotRoot, "")?;

    kernel.attach(&root, &mut sources)?;
    let devices = Devices::mount(&root, &mut sources, config.user_namespace.map(|ids| ids.count))?;
    let terminal = assembly.terminal.then(|| devices.open_console().during(Step::Terminal, "/dev/console")).transpose()?;
    for (index, mount) in config.mounts.iter().enumerate() {
        place(&root, &mut sources, index, mount)?;
    }
    for file in EtcFile::ALL {
        place_etc(&root, &mut sources, config, file).during(Step::Mount, file.target())?;
    }
    set_network_parameters(config, &kernel)?;
    devices.null().during(Step::Device, "/dev/null").and_then(|null| kernel.mask(null.as_fd()))?;
    if config.read_only_root {
        set_mount_attributes(root.as_fd(), MountAttributes::READ_ONLY, Reach::One).during(Step::Mount, "/ read-only")?;
    }
    Ok((root, terminal))
}

/// Puts the new root over the old one, changes places, and drops the old one with everything on it: from here on no path leads to the
/// host. No directory of the host is needed to mount on.
fn pivot(root: OwnedFd) -> io::Result<Root> {
    let host = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    set_mount_attributes(host.as_fd(), MountAttributes::PRIVATE, Reach::All)?;
    attach(root.as_fd(), host.as_fd())?;
    fchdir(&root)?;
    // The old root ends up over the new one, at the same place: pivot_root(2), "pivot_root(".", ".")".
    pivot_root(".", ".")?;
    fchdir(&host)?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(Root::new(root))
}

fn place(root: &Root, sources: &mut Sources, index: usize, mount: &MountConfig) -> Result<(), StartError> {
    match mount {
        MountConfig::Bind { target, read_only, copy_up, .. } => {
            let source = sources.take(&Role::Bind(index)).during(Step::Mount, target)?;
            if *copy_up {
                fill_from_image(root, &source, target).during(Step::CopyUp, target)?;
                if *read_only {
                    make_read_only(source.as_fd()).during(Step::Mount, target)?;
                }
            }
            put_over(root, &source, target).during(Step::Mount, target)
        }
        MountConfig::Layers { target, .. } => {
            let source = sources.take(&Role::Bind(index)).during(Step::Mount, target)?;
            put_over(root, &source, target).during(Step::Mount, target)
        }
        MountConfig::Tmpfs { target, size, mode, executable } => {
            let inert = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let attributes = if *executable { inert } else { inert | MountAttrFlags::MOUNT_ATTR_NOEXEC };
            tmpfs(*size, *mode, attributes).and_then(|mount| put_over(root, &mount, target)).during(Step::Mount, target)
        }
    }
}

fn put_over(root: &Root, mount: &OwnedFd, target: &MountTarget) -> io::Result<()> {
    let kind = kind_of(mount)?;
    let place = root.ensure(target.as_str(), kind, Links::Follow)?;
    refuse_kernel_files(place.as_fd())?;
    attach(mount.as_fd(), place.as_fd())
}

fn kind_of(mount: &OwnedFd) -> io::Result<Kind> {
    let is_directory = FileType::from_raw_mode(fstat(mount)?.st_mode) == FileType::Directory;
    Ok(if is_directory { Kind::Directory } else { Kind::File })
}

fn fill_from_image(root: &Root, source: &OwnedFd, target: &MountTarget) -> io::Result<()> {
    if kind_of(source)? == Kind::File {
        return Ok(());
    }
    match root.open_directory(target.as_str()) {
        Ok(image) => {
            refuse_kernel_files(image.as_fd())?;
            copy_up::fill(image.as_fd(), source.as_fd())
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn tmpfs(size: Option<ByteSize>, mode: u32, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let (mode, size) = (format!("{mode:o}"), size.map(|size| size.bytes().to_string()));
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    detached("tmpfs", &options, attributes)
}

/// A file that the user mounts himself is left to him.
fn place_etc(root: &Root, sources: &mut Sources, config: &ContainerConfig, file: EtcFile) -> io::Result<()> {
    let source = sources.take(&Role::Etc(file))?;
    if config.mounts.iter().any(|mount| mount.target().as_str() == file.target()) {
        return Ok(());
    }
    attach(source.as_fd(), root.ensure(file.target(), Kind::File, Links::Follow)?.as_fd())
}

/// As Docker does: a service that is not root may take any port, and ping, in a network of its own.
fn set_network_parameters(config: &ContainerConfig, kernel: &KernelTrees) -> Result<(), StartError> {
    if config.network == NetworkConfig::Host || config.user_namespace.is_some() {
        return Ok(());
    }
    for (path, value) in [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")] {
        kernel.set_parameter(path, value).during(Step::Sysctl, path)?;
    }
    Ok(())
}
