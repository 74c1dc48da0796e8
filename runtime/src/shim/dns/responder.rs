//! The sockets of the name server, and what goes in and out of them.

use super::answer::{Transport, Verdict, answer};
use super::forward::Forwarder;
use super::namespace;
use super::records::{Records, RecordsFile};
use super::tcp::Connections;
use super::upstream::Upstream;
use super::{ADDRESS, QUERY_BYTES_MAX};
use rustix::event::PollFlags;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Datagrams taken in one turn, so that a flood does not hold up the logs.
const DATAGRAMS_MAX: usize = 64;

/// The name server of one container.
pub struct Responder {
    udp: UdpSocket,
    tcp: TcpListener,
    networks: Vec<RecordsFile>,
    upstream: Upstream,
    forwarder: Forwarder,
    connections: Connections,
}

impl Responder {
    /// Opens it inside the namespace pinned at `namespace`, with the records files of the container's networks and the host's
    /// `resolv.conf`.
    pub fn open(namespace: &Path, records: Vec<PathBuf>, resolv_conf: PathBuf) -> io::Result<Self> {
        let networks = records.into_iter().map(RecordsFile::new).collect();
        Self::with(namespace, networks, resolv_conf)
    }

    /// Opens it for a namespace without names of its own.
    pub fn outward(namespace: &Path, resolv_conf: PathBuf) -> io::Result<Self> {
        Self::with(namespace, vec![RecordsFile::outward()], resolv_conf)
    }

    fn with(namespace: &Path, networks: Vec<RecordsFile>, resolv_conf: PathBuf) -> io::Result<Self> {
        let (udp, tcp) = namespace::inside(namespace, || Ok((UdpSocket::bind(ADDRESS)?, TcpListener::bind(ADDRESS)?)))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Self {
            udp,
            tcp,
            networks,
            upstream: Upstream::new(resolv_conf),
            forwarder: Forwarder::default(),
            connections: Connections::default(),
        })
    }

    /// Answers for these networks from now on.
    pub fn serve(&mut self, records: Vec<PathBuf>) {
        self.networks = records.into_iter().map(RecordsFile::new).collect();
    }

    /// Descriptors to wait for, and for what.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listener = self.connections.has_room().then(|| (self.tcp.as_fd(), PollFlags::IN));
        let own = std::iter::once((self.udp.as_fd(), PollFlags::IN)).chain(listener);
        let forwarded = self.forwarder.descriptors().map(|descriptor| (descriptor, PollFlags::IN));
        own.chain(forwarded).chain(self.connections.descriptors())
    }

    /// When [`Responder::turn`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.forwarder.deadline().into_iter().chain(self.connections.deadline()).min()
    }

    /// Does whatever can be done without waiting. Errors of sockets are errors of their clients: never ours.
    pub fn turn(&mut self, now: Instant) {
        let networks: Vec<&Records> = self.networks.iter_mut().map(RecordsFile::read).collect();
        for _ in 0..DATAGRAMS_MAX {
            // One byte more than allowed tells the ones that are too long.
            let mut buffer = [0; QUERY_BYTES_MAX + 1];
            let (length, client) = match self.udp.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => continue,
            };
            if length > QUERY_BYTES_MAX {
                continue;
            }
            let query = &buffer[..length];
            let reply = match answer(query, &networks, Transport::Udp) {
                Verdict::Reply(reply) => Some(reply),
                Verdict::Forward => self.forwarder.begin(client, query, &mut self.upstream, now),
                Verdict::Drop => None,
            };
            if let Some(reply) = reply {
                let _ = self.udp.send_to(&reply, client);
            }
        }
        for (client, reply) in self.forwarder.turn(&mut self.upstream, now) {
            let _ = self.udp.send_to(&reply, client);
        }
        self.connections.accept(&self.tcp, now);
        self.connections.turn(&networks, &mut self.upstream, now);
    }
}
