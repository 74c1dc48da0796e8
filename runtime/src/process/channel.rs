//! The socket between the starter and the init stage. It closes by itself when the program is executed: that is the sign of success.

use super::error::{Message, StartError};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg, socketpair,
};
use std::io;
use std::mem::MaybeUninit;

/// Longest packet: an error with a path of 4096 bytes fits many times.
const PACKET_BYTES_MAX: usize = 32 * 1024;
/// Descriptors in one packet; the kernel allows 253 (SCM_MAX_FD).
const DESCRIPTORS_MAX: usize = 64;

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// What is said over it.
#[derive(Debug)]
pub(super) enum Packet {
    /// Descriptors for the other side; more follow.
    Descriptors(Vec<OwnedFd>),
    /// That was all: go on. From the init stage: the program is executed next.
    Ready,
    /// The master side of the program's terminal.
    Terminal(OwnedFd),
    /// The init stage failed and ends.
    Failed(StartError),
}

impl Channel {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(left), Self(right)))
    }

    /// Sends one packet; [`Packet::Descriptors`] in as many as it takes.
    pub(super) fn send(&self, packet: &Packet) -> io::Result<()> {
        match packet {
            Packet::Descriptors(descriptors) => descriptors.chunks(DESCRIPTORS_MAX).try_for_each(|some| self.send_raw(b"d", some)),
            Packet::Ready => self.send_raw(b"r", &[]),
            Packet::Terminal(master) => self.send_raw(b"t", std::slice::from_ref(master)),
            Packet::Failed(error) => {
                let mut bytes = vec![b'f'];
                serde_json::to_writer(&mut bytes, &Message::from(error)).map_err(io::Error::other)?;
                bytes.truncate(PACKET_BYTES_MAX);
                self.send_raw(&bytes, &[])
            }
        }
    }

    /// The next packet; `None` once the other side is closed.
    pub(super) fn receive(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0u8; PACKET_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message.bytes,
                Err(Errno::INTR) => {}
                // The other side died with unread packets.
                Err(Errno::CONNRESET) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        match (bytes[..length].split_first(), descriptors.pop()) {
            (None, _) => Ok(None),
            (Some((b'd', _)), last) => Ok(Some(Packet::Descriptors(descriptors.into_iter().chain(last).collect()))),
            (Some((b'r', _)), None) => Ok(Some(Packet::Ready)),
            (Some((b't', _)), Some(master)) => Ok(Some(Packet::Terminal(master))),
            (Some((b'f', text)), None) => {
                let message: Message = serde_json::from_slice(text).map_err(io::Error::other)?;
                Ok(Some(Packet::Failed(message.into())))
            }
            (Some(_), _) => Err(io::Error::other("the init stage sent an unknown packet")),
        }
    }

    fn send_raw(&self, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Step;

    #[test]
    fn descriptors_and_errors_cross_and_an_end_is_an_end() {
        let (left, right) = Channel::pair().unwrap();
        let many: Vec<OwnedFd> = (0..70).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        left.send(&Packet::Descriptors(many)).unwrap();
        let source = io::Error::from_raw_os_error(libc::EROFS);
        left.send(&Packet::Failed(StartError { step: Step::Mount, object: "/x".into(), source })).unwrap();
        drop(left);
        let counts: Vec<usize> = (0..2)
            .map(|_| match right.receive().unwrap() {
                Some(Packet::Descriptors(some)) => some.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(counts, [64, 6]);
        let Some(Packet::Failed(error)) = right.receive().unwrap() else { panic!("no error") };
        assert_eq!((error.to_string().as_str(), error.source.raw_os_error()), ("mount /x", Some(libc::EROFS)));
        assert!(right.receive().unwrap().is_none());
    }
}
