//! Opening sockets inside a container's network namespace: the thread goes in, opens, and comes back. Only this
//! thread: namespaces are a thread's own.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

/// Runs `open` inside the namespace pinned at `path`.
///
/// Panics if there is no way back: every later socket would be opened in the wrong place.
pub fn inside<T>(path: &Path, open: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/thread-self/ns/net")?;
    let other = File::open(path)?;
    move_into_link_name_space(other.as_fd(), Some(LinkNameSpaceType::Network))?;
    let result = open();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).expect("a namespace we hold open can be entered");
    result
}
