//! `attach`: joins a client to what a running container reads and writes, or to one that is about to start, from its first byte.

use super::client::{self, ANSWER_MAX};
use super::config::ContainerConfig;
use super::document::read_config;
use super::error::ContainerError;
use super::list::{read_state, running_process};
use super::lock::{self, Lock};
use super::start::{adopt_locked, start_before};
use crate::places::Places;
use crate::process::TerminalSize;
use crate::shim::protocol::{LINE_BYTES_MAX, Reply, Request};
use crate::shim::{fifo, frame};
use spec::value::ContainerId;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What a client wants of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachRequest {
    /// How large the client's terminal is; unknown, and of no importance to a container without one, if `None`.
    pub size: Option<TerminalSize>,
    /// Whether the client's input is the container's. Nothing comes of it unless the container's standard input is open.
    pub stdin: bool,
}

/// A client's connection to a container. Dropping it ends that, and nothing else.
#[derive(Debug)]
pub struct Attachment {
    pub(super) places: Places,
    pub(super) id: ContainerId,
    pub(super) socket: UnixStream,
    /// Frames, or the start of one, that came with the answer.
    pub(super) received: Vec<u8>,
    pub(super) input: Input,
    /// Whether the container has a terminal.
    pub tty: bool,
}

/// Where the client's input goes.
#[derive(Debug)]
pub(super) enum Input {
    /// Nowhere.
    None,
    /// In frames to the shim, which has the terminal.
    Terminal,
    /// Into the container's pipe. It never blocks.
    Pipe(OwnedFd),
}

/// Joins a running container.
///
/// Errors: [`ContainerError::NotRunning`]; [`ContainerError::Refused`] where as many as can be are joined already.
pub fn attach(places: &Places, id: &ContainerId, request: AttachRequest) -> Result<Attachment, ContainerError> {
    let held = lock::lock(places, id)?;
    attach_locked(places, id, request, &held)
}

fn attach_locked(places: &Places, id: &ContainerId, request: AttachRequest, held: &Lock) -> Result<Attachment, ContainerError> {
    let config = read_config(places, id)?;
    let not_running = || ContainerError::NotRunning { id: id.clone() };
    if running_process(&adopt_locked(places, id, held)?).is_none() {
        return Err(not_running());
    }
    match join(places, &config, request) {
        // It ended, and its shim with it, between the two.
        Err(ContainerError::Shim { .. }) if running_process(&read_state(places, id)?).is_none() => Err(not_running()),
        joined => joined,
    }
}

fn join(places: &Places, config: &ContainerConfig, request: AttachRequest) -> Result<Attachment, ContainerError> {
    let broken = |source| ContainerError::Shim { id: config.id.clone(), source };
    let socket = client::connect(&places.container_run(&config.id)).map_err(broken)?;
    ask(&socket, request).map_err(broken)?;
    let attachment = joined(places, config, socket, request)?;
    // A few bytes for an empty socket; that its shim is gone, and why, shows where it is read.
    let _ = attachment.redraw(request.size);
    Ok(attachment)
}

/// Starts a container as [`super::start()`] does, with a client that sees it from its first byte; one that runs already is joined.
/// Where it has no terminal, the end of this client's input is the end of the container's, until it is started again.
pub fn start_attached(places: &Places, id: &ContainerId, request: AttachRequest) -> Result<Attachment, ContainerError> {
    let held = lock::lock(places, id)?;
    let config = read_config(places, id)?;
    let mut seat = Seat { config: &config, request, taken: None };
    start_before(places, id, &held, Some(&mut seat))?;
    match seat.taken {
        Some(Taken { socket, hold }) => {
            let attachment = joined(places, &config, socket, request);
            // Only now: somebody held it all the time, and the container has not seen its end.
            drop(hold);
            attachment
        }
        None => attach_locked(places, id, request, &held),
    }
}

impl Attachment {
    /// Has the program that fills the container's terminal draw it anew, or a shell its prompt: it is told of another size and then of
    /// the right one, as docker does.
    fn redraw(&self, size: Option<TerminalSize>) -> io::Result<()> {
        let Some(size) = size.filter(|size| self.tty && *size != TerminalSize::default()) else { return Ok(()) };
        let other = TerminalSize { rows: size.rows.saturating_add(1), columns: size.columns.saturating_add(1) };
        let mut frames = Vec::new();
        frame::append_size(&mut frames, other);
        frame::append_size(&mut frames, size);
        (&self.socket).write_all(&frames)
    }
}

/// A place for a client at a start that may turn out not to be one.
pub(super) struct Seat<'a> {
    config: &'a ContainerConfig,
    request: AttachRequest,
    taken: Option<Taken>,
}

struct Taken {
    socket: UnixStream,
    /// Both ends of the container's input, until the client has opened its own.
    hold: Option<OwnedFd>,
}

impl Seat<'_> {
    /// Prepares the container's input and gives what the new shim finds as its standard input: a connection on which the client has
    /// asked to attach.
    pub(super) fn take(&mut self, run: &Path) -> Result<OwnedFd, ContainerError> {
        let input = run.join("stdin");
        let hold = match wants_pipe(self.config, self.request) {
            true => Some(fifo::renew(&input).and_then(|()| fifo::open_both(&input)).map_err(ContainerError::file("make pipe", input))?),
            false => None,
        };
        let broken = |source| ContainerError::Shim { id: self.config.id.clone(), source };
        let (socket, theirs) = UnixStream::pair().map_err(broken)?;
        ask(&socket, self.request).map_err(broken)?;
        self.taken = Some(Taken { socket, hold });
        Ok(theirs.into())
    }
}

fn wants_pipe(config: &ContainerConfig, request: AttachRequest) -> bool {
    request.stdin && config.stdin_open && !config.tty
}

fn ask(mut socket: &UnixStream, AttachRequest { size, stdin }: AttachRequest) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Request::Attach { size, stdin })?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Reads the answer and opens the way for input.
fn joined(places: &Places, config: &ContainerConfig, socket: UnixStream, request: AttachRequest) -> Result<Attachment, ContainerError> {
    let id = &config.id;
    let broken = |source| ContainerError::Shim { id: id.clone(), source };
    let received = read_answer(&socket, id)?;
    socket.set_nonblocking(true).map_err(broken)?;
    let path = places.container_run(id).join("stdin");
    let input = match request.stdin && config.stdin_open {
        false => Input::None,
        true if config.tty => Input::Terminal,
        true => fifo::open_to_write(&path).map_err(ContainerError::file("open", path))?.map_or(Input::None, Input::Pipe),
    };
    Ok(Attachment { places: places.clone(), id: id.clone(), socket, received, input, tty: config.tty })
}

/// Waits for the one line of the answer; what came after it.
fn read_answer(mut socket: &UnixStream, id: &ContainerId) -> Result<Vec<u8>, ContainerError> {
    let broken = |source| ContainerError::Shim { id: id.clone(), source };
    socket.set_read_timeout(Some(ANSWER_MAX)).map_err(broken)?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ContainerError::Silent { id: id.clone(), waited_s: ANSWER_MAX.as_secs() });
            }
            Err(error) => return Err(broken(error)),
        }
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let rest = bytes.split_off(end + 1);
            return match serde_json::from_slice(&bytes).map_err(|error| broken(error.into()))? {
                Reply::State { .. } => Ok(rest),
                Reply::Error { problem } => Err(ContainerError::Refused { id: id.clone(), problem }),
            };
        }
        if bytes.len() > LINE_BYTES_MAX {
            return Err(broken(io::ErrorKind::InvalidData.into()));
        }
    }
}
