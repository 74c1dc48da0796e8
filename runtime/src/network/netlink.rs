//! A blocking netlink socket: batches of requests out, acknowledgements or dumps in.
//!
//! It belongs for good to the network namespace of the thread that opens it, and never waits for an answer that may not come:
//! rtnetlink and nfnetlink do their work inside send(2), so that every answer is queued when it returns.

use super::attributes::align;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use std::io;

/// Bytes received at once. The kernel packs dumps into at most 32 KiB a datagram (`netlink_dump`).
const DATAGRAM_BYTES: usize = 64 * 1024;
/// How often a dump that was interrupted by a change is asked for again.
const DUMP_ATTEMPTS_MAX: usize = 16;
/// Send buffer every socket has without asking (`net.core.wmem_default` is 208 KiB; less is never set in practice).
const SEND_BYTES_DEFAULT: usize = 128 * 1024;
/// Largest batch sent: 60,000 published ports need about 4 MiB.
const SEND_BYTES_MAX: usize = 16 * 1024 * 1024;

const HEADER_BYTES: usize = 16;

const NLM_F_REQUEST: u16 = 0x1;
/// Answer even success.
pub(super) const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Refuse to touch what exists.
pub(super) const NLM_F_EXCL: u16 = 0x200;
/// Overwrite what exists.
pub(super) const NLM_F_REPLACE: u16 = 0x100;
/// Create what does not exist.
pub(super) const NLM_F_CREATE: u16 = 0x400;
/// Add at the end.
pub(super) const NLM_F_APPEND: u16 = 0x800;
const NLM_F_DUMP: u16 = 0x300;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The netlink families in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Links, addresses, routes.
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// A message to the kernel, without its header.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Message type.
    pub kind: u16,
    /// `NLM_F_*` but `NLM_F_REQUEST`, which is always set.
    pub flags: u16,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// A message from the kernel, without its header.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Message type.
    pub kind: u16,
    /// What follows the header.
    pub payload: Vec<u8>,
    flags: u16,
    sequence: u32,
}

/// Why a netlink exchange did not work.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket: the kernel lacks the family, or we lack the right.
    #[error("open a netlink socket")]
    Open(#[source] io::Error),
    /// The request did not reach the kernel.
    #[error("send {bytes} bytes over netlink")]
    Send {
        /// Size of the batch.
        bytes: usize,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The answer did not reach us.
    #[error("receive an answer over netlink")]
    Receive(#[source] io::Error),
    /// The kernel refused a message of the batch.
    #[error("message {index} refused by the kernel")]
    Refused {
        /// Its place in the batch, from 0.
        index: usize,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer is not what it should be.
    #[error("malformed netlink answer: {0}")]
    Malformed(String),
    /// Dumps kept being interrupted by changes.
    #[error("netlink dump interrupted {DUMP_ATTEMPTS_MAX} times")]
    Interrupted,
}

impl NetlinkError {
    /// The kernel's error number, if it refused.
    pub(super) fn refusal(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Open(source) => source.raw_os_error(),
            Self::Send { .. } | Self::Receive(_) | Self::Malformed(_) | Self::Interrupted => None,
        }
    }
}

/// A socket, bound and ready.
#[derive(Debug)]
pub(super) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the network namespace of this thread.
    pub(super) fn open(family: Family) -> Result<Self, NetlinkError> {
        let protocol = match family {
            Family::Route => NETLINK_ROUTE,
            Family::Netfilter => NETLINK_NETFILTER,
        };
        let mut socket = netlink_sys::Socket::new(protocol).map_err(NetlinkError::Open)?;
        socket.bind_auto().map_err(NetlinkError::Open)?;
        // Errors then carry the header of the refused message only, so that a big batch cannot overflow the receive buffer.
        socket.set_cap_ack(true).map_err(NetlinkError::Open)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM_BYTES) })
    }

    /// Sends the requests as one datagram and reports the first that was refused. What the others do is up to the family:
    /// rtnetlink carries on after an error, an nf_tables batch is all or nothing.
    pub(super) fn transact(&mut self, requests: &[Request]) -> Result<(), NetlinkError> {
        self.query(requests).map(drop)
    }

    /// As [`Socket::transact`], and gives the messages that came back. Nothing is sent for no requests.
    pub(super) fn query(&mut self, requests: &[Request]) -> Result<Vec<Answer>, NetlinkError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.send(requests)?;
        let (mut answers, mut refused) = (Vec::new(), None);
        while let Some(received) = self.receive(first)? {
            for answer in received {
                match error_of(&answer)? {
                    None => answers.push(answer),
                    Some(0) => {}
                    Some(code) if refused.is_none() => refused = Some((answer.sequence.wrapping_sub(first), code)),
                    Some(_) => {}
                }
            }
        }
        match refused {
            None => Ok(answers),
            Some((index, code)) => Err(NetlinkError::Refused { index: index as usize, source: io::Error::from_raw_os_error(code) }),
        }
    }

    /// Everything the kernel has to say about the request, as one consistent snapshot.
    pub(super) fn dump(&mut self, request: &Request) -> Result<Vec<Answer>, NetlinkError> {
        let request = Request { flags: request.flags | NLM_F_DUMP, ..request.clone() };
        for _ in 0..DUMP_ATTEMPTS_MAX {
            if let Some(answers) = self.dump_once(&request)? {
                return Ok(answers);
            }
        }
        Err(NetlinkError::Interrupted)
    }

    /// `None` if something changed while the kernel was dumping.
    fn dump_once(&mut self, request: &Request) -> Result<Option<Vec<Answer>>, NetlinkError> {
        let first = self.send(std::slice::from_ref(request))?;
        let (mut answers, mut interrupted, mut done) = (Vec::new(), false, false);
        while !done {
            // Each receive makes the kernel prepare the next part, so that there is always one until NLMSG_DONE.
            let Some(received) = self.receive(first)? else {
                return Err(NetlinkError::Malformed("a dump ended without an end mark".to_owned()));
            };
            for answer in received {
                interrupted |= answer.flags & NLM_F_DUMP_INTR != 0;
                match (answer.kind, error_of(&answer)?) {
                    (NLMSG_DONE, _) => {
                        // The end mark carries the error a dump stopped at, if any.
                        let code = answer.payload.first_chunk().map_or(0, |code| -i32::from_ne_bytes(*code));
                        if code > 0 && code != libc::EINTR {
                            return Err(NetlinkError::Refused { index: 0, source: io::Error::from_raw_os_error(code) });
                        }
                        interrupted |= code == libc::EINTR;
                        done = true;
                    }
                    (_, Some(code)) if code != 0 => {
                        return Err(NetlinkError::Refused { index: 0, source: io::Error::from_raw_os_error(code) });
                    }
                    (_, Some(_)) => {}
                    (_, None) => answers.push(answer),
                }
            }
        }
        Ok((!interrupted).then_some(answers))
    }

    /// Sends all requests at once; gives the sequence number of the first.
    fn send(&mut self, requests: &[Request]) -> Result<u32, NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(requests.iter().map(|request| HEADER_BYTES + align(request.payload.len())).sum());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let length = (HEADER_BYTES + request.payload.len()) as u32;
            bytes.extend_from_slice(&length.to_ne_bytes());
            bytes.extend_from_slice(&request.kind.to_ne_bytes());
            bytes.extend_from_slice(&(request.flags | NLM_F_REQUEST).to_ne_bytes());
            bytes.extend_from_slice(&self.sequence.to_ne_bytes());
            bytes.extend_from_slice(&0u32.to_ne_bytes());
            bytes.extend_from_slice(&request.payload);
            bytes.resize(align(bytes.len()), 0);
        }
        let failed = |source| NetlinkError::Send { bytes: bytes.len(), source };
        if bytes.len() > SEND_BYTES_MAX {
            return Err(failed(io::Error::from_raw_os_error(libc::EMSGSIZE)));
        }
        if bytes.len() > SEND_BYTES_DEFAULT {
            // The kernel counts its own bookkeeping too; twice the size is plenty.
            rustix::net::sockopt::set_socket_send_buffer_size_force(&self.socket, 2 * bytes.len()).map_err(|error| failed(error.into()))?;
        }
        let sent = self.socket.send(&bytes, 0).map_err(failed)?;
        if sent == bytes.len() { Ok(first) } else { Err(failed(io::Error::from_raw_os_error(libc::EMSGSIZE))) }
    }

    /// The next datagram, cut into messages; `None` when there is no more. Answers to earlier requests are left out.
    fn receive(&mut self, first: u32) -> Result<Option<Vec<Answer>>, NetlinkError> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(NetlinkError::Receive(error)),
            }
        }
        let mut answers = split(&self.buffer)?;
        answers.retain(|answer| answer.sequence.wrapping_sub(first) < u32::MAX / 2);
        Ok(Some(answers))
    }
}

/// Cuts a datagram into messages.
fn split(mut bytes: &[u8]) -> Result<Vec<Answer>, NetlinkError> {
    let mut answers = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload) = bytes.get(HEADER_BYTES..length) else {
            return Err(NetlinkError::Malformed(format!("a message of {length} bytes in a datagram with {} left", bytes.len())));
        };
        answers.push(Answer {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload: payload.to_vec(),
        });
        bytes = bytes.get(align(length)..).unwrap_or_default();
    }
    Ok(answers)
}

/// The positive error number of an error message, 0 for an acknowledgement, `None` for any other message.
fn error_of(answer: &Answer) -> Result<Option<i32>, NetlinkError> {
    if answer.kind != NLMSG_ERROR {
        return Ok(None);
    }
    match answer.payload.first_chunk() {
        Some(code) => Ok(Some(i32::from_ne_bytes(*code).saturating_neg())),
        None => Err(NetlinkError::Malformed("an error without a number".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_longer_than_its_datagram_is_malformed() {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&64u32.to_ne_bytes());
        assert!(matches!(split(&bytes), Err(NetlinkError::Malformed(_))));
        bytes[..4].copy_from_slice(&3u32.to_ne_bytes());
        assert!(matches!(split(&bytes), Err(NetlinkError::Malformed(_))));
    }

    #[test]
    fn a_refusal_names_the_message_of_the_batch() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let unknown = Request { kind: 0x0fff, flags: NLM_F_ACK, payload: vec![0; 16] };
        let refused = socket.transact(std::slice::from_ref(&unknown)).unwrap_err();
        assert!(matches!(refused, NetlinkError::Refused { index: 0, .. }), "{refused:?}");
    }
}
