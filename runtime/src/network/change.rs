//! Hints that somebody changed our links or our nftables table: what the kernel tells everybody who listens.
//!
//! A hint says that it is worth looking, never what happened. Our own changes give hints too.

use super::error::NetworkError;
use super::naming::bridge_prefix;
use super::netlink::NetlinkError;
use super::probe::Feature;
use crate::places::Places;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// `RTNLGRP_LINK` and `RTNLGRP_IPV4_IFADDR` of linux/rtnetlink.h.
const LINK_GROUPS: [u32; 2] = [1, 5];
/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h.
const FIREWALL_GROUPS: [u32; 1] = [7];

/// What is read of one message. Those about links are 2 KiB, those about nftables at most a page; alias and table come early.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// What is listened to; readable when there may be news.
#[derive(Debug)]
pub struct ChangeWatch {
    socket: netlink_sys::Socket,
    /// Of these one is in every message that is about something of ours.
    words: Vec<Vec<u8>>,
}

impl ChangeWatch {
    /// Listens to links and addresses in the network namespace of this thread.
    pub fn links(places: &Places) -> Result<Self, NetworkError> {
        // Links are told by their alias, addresses by their label, which begins with the name of the link.
        let words = [places.instance(), bridge_prefix(places)];
        Self::open(NETLINK_ROUTE, &LINK_GROUPS, &words).map_err(NetworkError::netlink("listen to changes of links", Feature::Links))
    }

    /// Listens to nftables in the network namespace of this thread.
    pub fn firewall(places: &Places) -> Result<Self, NetworkError> {
        Self::open(NETLINK_NETFILTER, &FIREWALL_GROUPS, &[places.instance()])
            .map_err(NetworkError::netlink("listen to changes of nftables", Feature::Nftables))
    }

    fn open(protocol: isize, groups: &[u32], words: &[String]) -> Result<Self, NetlinkError> {
        let mut socket = netlink_sys::Socket::new(protocol).map_err(NetlinkError::Open)?;
        socket.bind_auto().map_err(NetlinkError::Open)?;
        groups.iter().try_for_each(|group| socket.add_membership(*group)).map_err(NetlinkError::Open)?;
        socket.set_non_blocking(true).map_err(NetlinkError::Open)?;
        Ok(Self { socket, words: words.iter().map(|word| word.clone().into_bytes()).collect() })
    }

    /// Takes all the news there is; true if some of it is about us, or if some was lost.
    pub fn read(&self) -> io::Result<bool> {
        let mut ours = false;
        let mut message = Vec::with_capacity(MESSAGE_BYTES_MAX);
        loop {
            message.clear();
            match self.socket.recv_from(&mut message, 0) {
                Ok(_) => ours |= self.words.iter().any(|word| message.windows(word.len()).any(|part| part == word)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ours),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More came than the socket holds.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => ours = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for ChangeWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
