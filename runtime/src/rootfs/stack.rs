//! Layers as one file system that is mounted nowhere: overlayfs, as every kernel we run on takes it.
//!
//! Since Linux 6.7 a file system context takes layers one by one. Before, there is only the one page of options of mount(2), where `,` and
//! `:` separate, and which cannot but mount somewhere: descriptors stand in for the paths there, and "somewhere" is a mount namespace that
//! lasts as long as the call.

use super::{Root, attach, copy_of_mount, detached, explained, finish};
use crate::sys::{self, MountAttributes, Reach, set_mount_attributes};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsopen, open_tree,
};
use rustix::process::{chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CString;
use std::io;
use std::path::Path;

/// Whatever the module's defaults are: a changed directory or file is wholly in the upper directory, so that it can become a layer.
const PLAIN: [(&str, &str); 3] = [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")];
/// Options that mount(2) takes: a page with its terminating zero.
const OPTION_BYTES_MAX: usize = 4095;

/// Where changes go, and a directory for the kernel on the same file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changes<'a> {
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
}

/// Layers, lowest first, below the changes. At least one layer, two without changes.
///
/// Errors: `EINVAL` above 500 layers; `E2BIG` above some 220 on a kernel before 6.7.
pub(crate) fn mount(layers: &[&Path], changes: Option<Changes<'_>>) -> io::Result<OwnedFd> {
    let layers = distinct(layers);
    let Some(top) = layers.last() else { return Err(Errno::INVAL.into()) };
    if !takes_layers_singly(text(top)?)? {
        return mount_by_call(&layers, changes);
    }
    let lower = layers.iter().rev().map(|layer| Ok(("lowerdir+", text(layer)?)));
    let upper = changes.into_iter().flat_map(|changes| [("upperdir", changes.upper), ("workdir", changes.work)]);
    let upper = upper.map(|(name, path)| Ok((name, escaped(path)?))).collect::<io::Result<Vec<_>>>()?;
    let upper = upper.iter().map(|(name, path)| Ok((*name, path.as_str())));
    let options: Vec<_> = lower.chain(upper).chain(changes.into_iter().flat_map(|_| PLAIN.map(Ok))).collect::<io::Result<_>>()?;
    detached("overlay", &options, MountAttrFlags::empty())
}

/// As [`mount`], with layers that are themselves detached mounts. Errors: `EINVAL` on a kernel before 6.15.
pub(super) fn mount_detached(layers: &[OwnedFd], changes: Changes<'_>) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers.iter().rev() {
        fsconfig_set_fd(&context, "lowerdir+", layer.as_fd()).map_err(|errno| {
            let error = explained(context.as_fd(), errno);
            io::Error::new(error.kind(), format!("{error}; a user namespace over layers needs Linux 6.15"))
        })?;
    }
    // Overlay itself works in them as the host's root, whom an id map would leave without a name.
    for (name, path) in [("upperdir", changes.upper), ("workdir", changes.work)] {
        fsconfig_set_string(&context, name, escaped(path)?)?;
    }
    for (name, value) in PLAIN {
        fsconfig_set_string(&context, name, value)?;
    }
    finish(context.as_fd(), MountAttrFlags::empty())
}

/// The layers, each only where it is uppermost. The same layer twice is refused by overlayfs (`ELOOP`), and images have that: what the
/// lower one adds or hides the upper one adds or hides too.
pub(super) fn distinct<'a>(layers: &[&'a Path]) -> Vec<&'a Path> {
    let later = |index: usize, layer: &Path| layers[index + 1..].contains(&layer);
    layers.iter().enumerate().filter(|(index, layer)| !later(*index, layer)).map(|(_, layer)| *layer).collect()
}

/// Whether this kernel knows `lowerdir+`. Asked, because distributions carry things back.
fn takes_layers_singly(layer: &str) -> io::Result<bool> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Before 6.5 a context takes down anything, even an option that lacks its value, and fails only when it is used.
    Ok(fsconfig_set_flag(&context, "lowerdir+").is_err() && fsconfig_set_string(&context, "lowerdir+", layer).is_ok())
}

fn mount_by_call(layers: &[&Path], changes: Option<Changes<'_>>) -> io::Result<OwnedFd> {
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let place = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    apart(|| {
        let lower: Vec<OwnedFd> = layers.iter().rev().map(|layer| open(layer)).collect::<Result<_, _>>()?;
        let mut options = format!("lowerdir={}", lower.iter().map(place).collect::<Vec<_>>().join(":"));
        let upper = changes.map(|changes| Ok::<_, Errno>([open(changes.upper)?, open(changes.work)?])).transpose()?;
        if let Some([upper, work]) = &upper {
            options += &format!(",upperdir={},workdir={}", place(upper), place(work));
            options.extend(PLAIN.map(|(name, value)| format!(",{name}={value}")));
        }
        if options.len() > OPTION_BYTES_MAX {
            let problem = format!("{} layers: a kernel before 6.7 takes some 220", layers.len());
            return Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, problem));
        }
        let options = CString::new(options).map_err(io::Error::other)?;
        // Any directory will do, since nobody else sees what is mounted on it.
        let target = layers[0];
        rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())?;
        Ok(open_tree(CWD, target, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
    })
}

/// What a detached mount has at a path, as a mount of its own. Links are followed inside it.
pub(super) fn part(tree: OwnedFd, path: &str) -> io::Result<OwnedFd> {
    // Before Linux 6.15 only what is mounted somewhere can be copied.
    apart(|| {
        let here = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        attach(tree.as_fd(), here.as_fd())?;
        copy_of_mount(Root::new(tree).open(path, OFlags::PATH)?.as_fd(), "")
    })
}

/// Runs something in a mount namespace that ends with it; nothing mounted there is seen elsewhere.
fn apart<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let open = |path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let (home, root, directory) = (open("/proc/thread-self/ns/mnt", OFlags::RDONLY)?, open("/", OFlags::PATH)?, open(".", OFlags::PATH)?);
    sys::unshare_mounts()?;
    let own = |root: OwnedFd| set_mount_attributes(root.as_fd(), MountAttributes::PRIVATE, Reach::All);
    let result = open("/", OFlags::PATH).map_err(io::Error::from).and_then(own).and_then(|()| run());
    // Entering a mount namespace changes root and directory to its root.
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Mount))?;
    fchdir(&root)?;
    chroot(".")?;
    fchdir(&directory)?;
    result
}

/// A path as `upperdir` and `workdir` take it: overlayfs has always undone backslashes there (ovl_unescape), and not in `lowerdir+`.
fn escaped(path: &Path) -> io::Result<String> {
    Ok(text(path)?.replace('\\', r"\\"))
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    type Mount = fn(&[&Path], Option<Changes<'_>>) -> io::Result<OwnedFd>;

    fn read(root: &OwnedFd, name: &str) -> String {
        fs::read_to_string(format!("/proc/self/fd/{}/{name}", root.as_raw_fd())).unwrap()
    }

    /// The way of older kernels works on newer ones too.
    #[test]
    fn old_and_new_kernels_are_given_the_same_tree_and_the_host_sees_none() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: stacks of layers, without root");
        }
        let by_context: Mount = mount;
        for way in [by_context, |layers, changes| mount_by_call(&distinct(layers), changes)] {
            // What separates options and layers, and what escapes that, in every path.
            let ground = tempfile::Builder::new().prefix(r"stack:a,b\").tempdir().unwrap();
            let [low, high, upper, work] = ["low", "high", "upper", "work"].map(|name| ground.path().join(name));
            for (directory, text) in [(&low, "low"), (&high, "high"), (&upper, ""), (&work, "")] {
                fs::create_dir(directory).unwrap();
                if !text.is_empty() {
                    fs::write(directory.join(text), text).unwrap();
                    fs::write(directory.join("both"), text).unwrap();
                }
            }
            let (home, here) = (fs::read_link("/proc/thread-self/ns/mnt").unwrap(), std::env::current_dir().unwrap());
            // One layer twice, as in images that repeat an empty one.
            let root = way(&[&low, &high, &low, &high], Some(Changes { upper: &upper, work: &work })).unwrap();
            assert_eq!(["low", "high", "both"].map(|name| read(&root, name)), ["low", "high", "high"]);
            fs::write(format!("/proc/self/fd/{}/new", root.as_raw_fd()), "new").unwrap();
            assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "new");
            let plain = way(&[&low, &high], None).unwrap();
            assert_eq!(read(&plain, "both"), "high");
            assert_eq!(fs::read_link("/proc/thread-self/ns/mnt").unwrap(), home);
            assert_eq!(std::env::current_dir().unwrap(), here);
            let seen = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            assert!(!seen.contains("stack:a,b"));
        }
    }

    #[test]
    fn too_many_layers_for_an_old_kernel_are_named() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: stacks of layers, without root");
        }
        let ground = tempfile::tempdir().unwrap();
        let layers: Vec<_> = (0..300).map(|number| ground.path().join(number.to_string())).collect();
        layers.iter().for_each(|layer| fs::create_dir(layer).unwrap());
        let error = mount_by_call(&layers.iter().map(|layer| layer.as_path()).collect::<Vec<_>>(), None).unwrap_err();
        assert_eq!(error.to_string(), "300 layers: a kernel before 6.7 takes some 220");
    }
}
