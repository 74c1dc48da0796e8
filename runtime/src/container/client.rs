//! Asking a shim over its control socket.

use super::error::ContainerError;
use super::state::ContainerState;
use crate::places::Places;
use crate::shim::protocol::{LINE_BYTES_MAX, Reply, Request};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use spec::value::ContainerId;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a shim may take for anything that does not wait for the container: it has nothing to do that takes a second.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Asks, and waits for the answer at most this long (without end if `None`).
pub(super) fn ask(
    places: &Places,
    id: &ContainerId,
    request: &Request,
    answer_max: Option<Duration>,
) -> Result<ContainerState, ContainerError> {
    let broken = |source| ContainerError::Shim { id: id.clone(), source };
    let mut stream = connect(&places.container_run(id)).map_err(broken)?;
    stream.set_write_timeout(Some(ANSWER_MAX)).map_err(broken)?;
    stream.set_read_timeout(answer_max).map_err(broken)?;
    let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = String::new();
    let read = BufReader::new(stream.take(LINE_BYTES_MAX as u64)).read_line(&mut answer);
    match read {
        Ok(0) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => match serde_json::from_str(&answer).map_err(|error| broken(error.into()))? {
            Reply::State { state } => Ok(state),
            Reply::Error { problem } => Err(ContainerError::Refused { id: id.clone(), problem }),
        },
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ContainerError::Silent { id: id.clone(), waited_s: answer_max.unwrap_or_default().as_secs() })
        }
        Err(error) => Err(broken(error)),
    }
}

/// Connects to `<run>/control.sock` by way of a descriptor of the directory: its path may be longer than the 107 bytes that
/// fit into a socket address (unix(7)).
pub(super) fn connect(run: &Path) -> io::Result<UnixStream> {
    let directory = rustix::fs::openat(CWD, run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/control.sock", directory.as_raw_fd()))?;
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}
