//! Queries over TCP: two bytes of length, then the message (RFC 1035 §4.2.2). One at a time a connection; whatever is wrong with
//! a connection ends that connection and nothing else.

use super::QUERY_BYTES_MAX;
use super::answer::{Transport, Verdict, answer, server_failure};
use super::records::Records;
use super::upstream::Upstream;
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Most connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// How long one may be idle, or an answer take.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Steps of one connection in one turn, so that none holds up the loop.
const STEPS_MAX: usize = 8;

/// The open connections.
#[derive(Default)]
pub struct Connections {
    open: Vec<Connection>,
}

struct Connection {
    client: TcpStream,
    stage: Stage,
    deadline: Instant,
}

enum Stage {
    /// Reading a query: its length and what has come of it.
    Reading(Vec<u8>),
    /// Sending it to a nameserver, the n-th.
    Asking { server: TcpStream, attempt: usize, message: Vec<u8>, sent: usize },
    /// Reading the nameserver's answer.
    Listening { server: TcpStream, message: Vec<u8>, query: Vec<u8> },
    /// Sending an answer to the client.
    Answering { message: Vec<u8>, sent: usize },
}

/// What a step came to.
enum Step {
    /// There is more to do at once.
    On(Stage),
    /// Wait until a descriptor is ready.
    Wait(Stage),
    /// The connection is over.
    Close,
}

impl Connections {
    /// Accepts what waits at the listener, as far as there is room.
    pub fn accept(&mut self, listener: &TcpListener, now: Instant) {
        while self.has_room() {
            let Ok((client, _)) = listener.accept() else { return };
            if client.set_nonblocking(true).is_ok() {
                self.open.push(Connection { client, stage: Stage::Reading(Vec::new()), deadline: now + IDLE_MAX });
            }
        }
    }

    /// Whether another connection would be taken.
    pub fn has_room(&self) -> bool {
        self.open.len() < CONNECTIONS_MAX
    }

    /// Descriptors to wait for, and for what.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.open.iter().map(|connection| match &connection.stage {
            Stage::Reading(_) => (connection.client.as_fd(), PollFlags::IN),
            Stage::Asking { server, .. } => (server.as_fd(), PollFlags::OUT),
            Stage::Listening { server, .. } => (server.as_fd(), PollFlags::IN),
            Stage::Answering { .. } => (connection.client.as_fd(), PollFlags::OUT),
        })
    }

    /// When [`Connections::turn`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.open.iter().map(|connection| connection.deadline).min()
    }

    /// Goes on with every connection as far as it goes, and drops those that are over.
    pub fn turn(&mut self, networks: &[&Records], upstream: &mut Upstream, now: Instant) {
        self.open.retain_mut(|connection| {
            for _ in 0..STEPS_MAX {
                let stage = std::mem::replace(&mut connection.stage, Stage::Reading(Vec::new()));
                match step(&mut connection.client, stage, networks, upstream) {
                    Ok(Step::On(stage)) => {
                        connection.stage = stage;
                        connection.deadline = now + IDLE_MAX;
                    }
                    Ok(Step::Wait(stage)) => {
                        connection.stage = stage;
                        return now < connection.deadline;
                    }
                    Ok(Step::Close) | Err(_) => return false,
                }
            }
            true
        });
    }
}

fn step(client: &mut TcpStream, stage: Stage, networks: &[&Records], upstream: &mut Upstream) -> io::Result<Step> {
    match stage {
        Stage::Reading(mut message) => match read_message(client, &mut message, QUERY_BYTES_MAX)? {
            Progress::Blocked => Ok(Step::Wait(Stage::Reading(message))),
            Progress::Closed => Ok(Step::Close),
            Progress::Done => Ok(judge(message, networks, upstream)),
        },
        Stage::Asking { mut server, attempt, message, mut sent } => match write_message(&mut server, &message, &mut sent) {
            Ok(Progress::Done) => Ok(Step::On(Stage::Listening { server, message: Vec::new(), query: message })),
            Ok(Progress::Blocked) => Ok(Step::Wait(Stage::Asking { server, attempt, message, sent })),
            Ok(Progress::Closed) | Err(_) => Ok(Step::On(ask(message, attempt + 1, upstream))),
        },
        Stage::Listening { mut server, mut message, query } => match read_message(&mut server, &mut message, usize::from(u16::MAX)) {
            Ok(Progress::Done) if message[2..4] == query[2..4] => Ok(Step::On(Stage::Answering { message, sent: 0 })),
            Ok(Progress::Blocked) => Ok(Step::Wait(Stage::Listening { server, message, query })),
            Ok(Progress::Done | Progress::Closed) | Err(_) => Ok(Step::On(refuse(&query))),
        },
        Stage::Answering { message, mut sent } => match write_message(client, &message, &mut sent)? {
            Progress::Done => Ok(Step::On(Stage::Reading(Vec::new()))),
            Progress::Blocked => Ok(Step::Wait(Stage::Answering { message, sent })),
            Progress::Closed => Ok(Step::Close),
        },
    }
}

/// What comes after a whole query.
fn judge(message: Vec<u8>, networks: &[&Records], upstream: &mut Upstream) -> Step {
    match answer(&message[2..], networks, Transport::Tcp) {
        Verdict::Reply(reply) => Step::On(Stage::Answering { message: framed(&reply), sent: 0 }),
        Verdict::Forward => Step::On(ask(message, 0, upstream)),
        Verdict::Drop => Step::Close,
    }
}

/// Begins to pass a query on to the first nameserver from this one on that can be reached.
fn ask(message: Vec<u8>, from: usize, upstream: &mut Upstream) -> Stage {
    let mut attempt = from;
    while let Some(server) = upstream.server(attempt) {
        if let Ok(server) = connect(server) {
            return Stage::Asking { server, attempt, message, sent: 0 };
        }
        attempt += 1;
    }
    refuse(&message)
}

fn refuse(message: &[u8]) -> Stage {
    Stage::Answering { message: framed(&server_failure(&message[2..])), sent: 0 }
}

fn framed(reply: &[u8]) -> Vec<u8> {
    let length = u16::try_from(reply.len()).unwrap_or(0);
    [&length.to_be_bytes(), reply].concat()
}

enum Progress {
    Done,
    Blocked,
    Closed,
}

/// Reads on until `message` is a whole one, its length included, and not a byte further.
fn read_message(from: &mut impl Read, message: &mut Vec<u8>, bytes_max: usize) -> io::Result<Progress> {
    loop {
        let wanted = match message[..] {
            [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])),
            [] | [_] => 2,
        };
        if wanted > 2 && message.len() == wanted {
            return Ok(Progress::Done);
        }
        if wanted - 2 > bytes_max || (wanted == 2 && message.len() == 2) {
            return Ok(Progress::Closed);
        }
        let mut buffer = [0; 1024];
        let room = (wanted - message.len()).min(buffer.len());
        match from.read(&mut buffer[..room]) {
            Ok(0) => return Ok(Progress::Closed),
            Ok(length) => message.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_message(to: &mut TcpStream, message: &[u8], sent: &mut usize) -> io::Result<Progress> {
    while *sent < message.len() {
        match to.write(&message[*sent..]) {
            Ok(0) => return Ok(Progress::Closed),
            Ok(length) => *sent += length,
            // A connection that is still being made.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                return Ok(Progress::Blocked);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Progress::Done)
}

/// Begins a connection without waiting for it.
fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let family = match server {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<usize> {
        let mut message = Vec::new();
        match read_message(&mut io::Cursor::new(bytes), &mut message, 100) {
            Ok(Progress::Done) => Some(message.len()),
            Ok(Progress::Closed | Progress::Blocked) | Err(_) => None,
        }
    }

    #[test]
    fn messages_are_read_whole_or_not_at_all() {
        assert_eq!(read(&[0, 3, 1, 2, 3, 9, 9]), Some(5));
        assert_eq!(read(&[0, 3, 1, 2]), None);
        assert_eq!(read(&[0]), None);
        assert_eq!(read(&[0, 0, 1, 2]), None, "empty messages end a connection");
        assert_eq!(read(&[0xFF, 0xFF, 1, 2]), None, "so do long ones");
    }
}
