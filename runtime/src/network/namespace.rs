//! Network namespaces: made on a thread that ends, pinned by a bind mount, entered only by threads made for it.

use super::error::NetworkError;
use crate::places::Places;
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::thread::LinkNameSpaceType;
use spec::value::ContainerId;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// `NSFS_MAGIC` of linux/magic.h: the file system a pinned namespace is on.
const NSFS_MAGIC: u64 = 0x6e73_6673;
/// The namespace of this thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Where the namespace of a container is pinned.
pub(super) fn pin_path(places: &Places, id: &ContainerId) -> PathBuf {
    places.container_run(id).join("netns")
}

/// The pinned namespace of a container, or `None` if there is none: a bare file is what an interrupted start leaves.
pub(super) fn open(places: &Places, id: &ContainerId) -> Result<Option<OwnedFd>, NetworkError> {
    let failed = |source: rustix::io::Errno| NetworkError::Namespace { action: "open", id: id.to_string(), source: source.into() };
    let pinned = match rustix::fs::open(pin_path(places, id), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(pinned) => pinned,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let found = rustix::fs::fstatfs(&pinned).map_err(failed)?.f_type;
    Ok((found as u64 == NSFS_MAGIC).then_some(pinned))
}

/// Runs something on a thread inside a namespace.
pub(super) fn within<T: Send>(
    id: &ContainerId,
    namespace: impl AsFd + Send,
    run: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    on_a_thread(id, move || {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| NetworkError::Namespace { action: "enter", id: id.to_string(), source: error.into() })?;
        run()
    })
}

/// Makes a namespace, runs something on a thread inside it, and pins it if that went well: a pinned namespace is a finished
/// one. Otherwise it ends with the thread.
pub(super) fn within_new<T: Send>(
    places: &Places,
    id: &ContainerId,
    run: impl FnOnce(&OwnedFd) -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    let failed = |action| move |source: io::Error| NetworkError::Namespace { action, id: id.to_string(), source };
    let path = pin_path(places, id);
    let directory = places.container_run(id);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(NetworkError::file("create", &directory))?;
    fs::write(&path, "").map_err(NetworkError::file("create", &path))?;
    let pinned = within_unpinned(id, |namespace| {
        let result = run(namespace)?;
        rustix::mount::mount_bind(OWN, &path).map_err(|error| failed("pin")(error.into()))?;
        Ok(result)
    });
    pinned.map(|(result, _)| result)
}

/// Makes a namespace and runs something on a thread inside it. It lives as long as its descriptor, whatever is in it or pins it.
pub(super) fn within_unpinned<T: Send>(
    id: &(impl Display + Sync + ?Sized),
    run: impl FnOnce(&OwnedFd) -> Result<T, NetworkError> + Send,
) -> Result<(T, OwnedFd), NetworkError> {
    let failed = |action| move |source: io::Error| NetworkError::Namespace { action, id: id.to_string(), source };
    on_a_thread(id, || {
        unshare_network().map_err(failed("make"))?;
        let namespace = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let namespace = namespace.map_err(|error| failed("open")(error.into()))?;
        Ok((run(&namespace)?, namespace))
    })
}

/// Unpins the namespace of a container, which ends with its last process; fine if there is none.
pub(super) fn remove(places: &Places, id: &ContainerId) -> Result<(), NetworkError> {
    let path = pin_path(places, id);
    loop {
        // A crash between two attempts may have mounted twice; what is not a mount point is EINVAL.
        match rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => break,
            Err(error) => return Err(NetworkError::Namespace { action: "unpin", id: id.to_string(), source: error.into() }),
        }
    }
    super::record::remove_file(&path)
}

/// Moves this thread, and only it, into a namespace of its own.
pub(super) fn unshare_network() -> io::Result<()> {
    // Unsafe only with FILES, which is not asked for.
    #[expect(deprecated, reason = "the other form is unsafe for a flag that is not used here")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).map_err(io::Error::from)
}

/// Namespaces are a thread's own: one that leaves its namespace is never used for anything else.
fn on_a_thread<T: Send>(
    id: &(impl Display + Sync + ?Sized),
    run: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, run);
        let failed = |source| NetworkError::Namespace { action: "start a thread for", id: id.to_string(), source };
        match thread.map_err(failed)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
