//! Queries over UDP that wait for a nameserver of the host: each with a socket, and so a port, of its own, and a random id.

use super::answer::server_failure;
use super::upstream::Upstream;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Most queries in flight; more are dropped and asked again by their clients. Bounds descriptors and memory.
const IN_FLIGHT_MAX: usize = 64;
/// How long one nameserver may take; resolv.conf(5) gives the client 5 s for us.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer passed on over UDP: what EDNS commonly asks for (RFC 6891 §6.2.5), and then some.
const ANSWER_BYTES_MAX: usize = 4096;

/// Queries in flight.
#[derive(Default)]
pub struct Forwarder {
    waiting: Vec<Waiting>,
}

struct Waiting {
    client: SocketAddr,
    query: Vec<u8>,
    id: [u8; 2],
    socket: UdpSocket,
    attempt: usize,
    deadline: Instant,
}

impl Forwarder {
    /// Passes a query on; the answer comes out of [`Forwarder::turn`].
    pub fn begin(&mut self, client: SocketAddr, query: &[u8], upstream: &mut Upstream, now: Instant) -> Option<Vec<u8>> {
        if self.waiting.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let id = random_id();
        let mut sent = query.to_vec();
        sent[..2].copy_from_slice(&id);
        match send(&sent, upstream, 0) {
            Some((socket, attempt)) => {
                let query = query.to_vec();
                self.waiting.push(Waiting { client, query, id, socket, attempt, deadline: now + SERVER_TIMEOUT });
                None
            }
            None => Some(server_failure(query)),
        }
    }

    /// Descriptors to wait for.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.waiting.iter().map(|waiting| waiting.socket.as_fd())
    }

    /// When [`Forwarder::turn`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.deadline).min()
    }

    /// Takes what has come, tries the next server where none did in time, and gives answers to send to their clients.
    pub fn turn(&mut self, upstream: &mut Upstream, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut answers = Vec::new();
        self.waiting.retain_mut(|waiting| match waiting.turn(upstream, now) {
            Some(answer) => {
                answers.push((waiting.client, answer));
                false
            }
            None => true,
        });
        answers
    }
}

impl Waiting {
    fn turn(&mut self, upstream: &mut Upstream, now: Instant) -> Option<Vec<u8>> {
        let mut buffer = [0; ANSWER_BYTES_MAX];
        let refused = loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) if length >= 12 && buffer[..2] == self.id && buffer[2] & 0x80 != 0 => {
                    buffer[..2].copy_from_slice(&self.query[..2]);
                    return Some(buffer[..length].to_vec());
                }
                // Not the answer: a forgery, or a late one. The socket is connected, so it came from the server's address.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        if !refused && now < self.deadline {
            return None;
        }
        let mut sent = self.query.clone();
        sent[..2].copy_from_slice(&self.id);
        match send(&sent, upstream, self.attempt + 1) {
            Some((socket, attempt)) => {
                (self.socket, self.attempt, self.deadline) = (socket, attempt, now + SERVER_TIMEOUT);
                None
            }
            None => Some(server_failure(&self.query)),
        }
    }
}

/// Sends to the first server from this one on that takes it.
fn send(query: &[u8], upstream: &mut Upstream, from: usize) -> Option<(UdpSocket, usize)> {
    let mut attempt = from;
    while let Some(server) = upstream.server(attempt) {
        if let Ok(socket) = send_to(query, server) {
            return Some((socket, attempt));
        }
        attempt += 1;
    }
    None
}

fn send_to(query: &[u8], server: SocketAddr) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    socket.send(query)?;
    Ok(socket)
}

/// Sixteen bits nobody can guess: `RandomState` is keyed by the kernel's random numbers.
fn random_id() -> [u8; 2] {
    let [low, high, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    [low, high]
}
