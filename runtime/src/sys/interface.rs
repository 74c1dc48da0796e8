//! The loopback link of a new network namespace.

use super::checked;
use rustix::fd::AsRawFd;
use rustix::net::{AddressFamily, SocketType, socket};
use std::io;

/// Sets `lo` up in the caller's network namespace.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let request =
        Request { name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0", flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short, rest: [0; 22] };
    // SAFETY: the socket is open; the request has the layout and size of struct ifreq and is only read.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into())?;
    Ok(())
}

/// struct ifreq of netdevice(7) with its union as flags.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}
