//! Requests about links, addresses and routes, and what the kernel tells about them. IPv4 only, as are our networks.

use super::attributes;
use super::netlink::{Answer, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkError, Request, Socket};
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct ifinfomsg` of linux/rtnetlink.h: family, padding, type, then index, flags and change mask of four bytes each.
const LINK_HEADER_BYTES: usize = 16;

/// A link of the socket's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias; empty if it has none.
    pub alias: String,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it has a carrier: for one end of a veth pair, whether the other is switched on too.
    pub carrier: bool,
    /// The bridge it is a port of.
    pub bridge: Option<u32>,
    /// The number of the other end of a veth pair, in that one's namespace.
    pub peer: Option<u32>,
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    /// The link's number.
    pub link: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its subnet's prefix.
    pub prefix: u8,
}

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// First address it is for.
    pub destination: Ipv4Addr,
    /// Length of its prefix; 0 is a default route.
    pub prefix: u8,
    /// The link it leads out by.
    pub link: Option<u32>,
    /// The next hop.
    pub gateway: Option<Ipv4Addr>,
}

/// How a link is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which<'a> {
    /// By its name.
    Named(&'a str),
    /// By its number.
    Numbered(u32),
}

/// A veth pair to be made: one end here, switched on and in a bridge, the other born inside a container.
pub(super) struct Pair<'a> {
    /// Name of the host's end.
    pub name: &'a str,
    /// The bridge's number.
    pub bridge: u32,
    /// The container's namespace.
    pub namespace: BorrowedFd<'a>,
    /// Name of the container's end.
    pub peer: &'a str,
    /// Hardware address of the container's end.
    pub peer_hardware: [u8; 6],
}

/// Makes a bridge and switches it on. It keeps its hardware address whatever joins it later.
pub(super) fn create_bridge(name: &str, hardware: [u8; 6]) -> Request {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(hardware.to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Makes a veth pair.
pub(super) fn create_pair(pair: &Pair<'_>) -> Request {
    // The other end must not be switched on here: it has no peer yet (ENOTCONN).
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(pair.peer.to_owned()),
        LinkAttribute::Address(pair.peer_hardware.to_vec()),
        LinkAttribute::NetNsFd(pair.namespace.as_raw_fd()),
    ];
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(pair.name.to_owned()),
        LinkAttribute::Controller(pair.bridge),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))]),
    ];
    request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Gives a link an alias. The kernel ignores one in the message that makes the link.
pub(super) fn set_alias(name: &str, alias: &str) -> Request {
    set(0, vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::IfAlias(alias.to_owned())], LinkFlags::empty())
}

/// Gives a port of a bridge an alias, and lets its own packets come back to it. That is how a container reaches a port that it
/// publishes itself where the kernel's `br_netfilter` translates packets inside the bridge instead of above it.
pub(super) fn set_up_port(name: &str, alias: &str) -> Request {
    let hairpin = LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]));
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::IfAlias(alias.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), hairpin]),
    ];
    // Of a link that exists: RTM_SETLINK does not know the settings of ports.
    request(RouteNetlinkMessage::NewLink(message), 0)
}

/// Switches a link on, by name.
pub(super) fn set_up(name: &str) -> Request {
    set(0, vec![LinkAttribute::IfName(name.to_owned())], LinkFlags::Up)
}

/// Makes a link a port of a bridge and switches it on.
pub(super) fn join_bridge(link: u32, bridge: u32) -> Request {
    set(link, vec![LinkAttribute::Controller(bridge)], LinkFlags::Up)
}

/// Deletes a link, and with one end of a veth pair the other.
pub(super) fn delete(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    request(RouteNetlinkMessage::DelLink(message), 0)
}

/// Gives a link an address and the route to its subnet.
pub(super) fn add_address(address: &Address) -> Request {
    request(RouteNetlinkMessage::NewAddress(address_message(address)), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Makes the default route lead to this gateway.
pub(super) fn set_default_route(gateway: Ipv4Addr) -> Request {
    let mut message = default_route();
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway))];
    request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Deletes the default route, which must exist.
pub(super) fn delete_default_route() -> Request {
    request(RouteNetlinkMessage::DelRoute(default_route()), 0)
}

/// Asks about a link only so that the kernel first finishes what a change of carrier began. Until then a port of a bridge does
/// not forward, and a link drops what it should send: a client would lose its first packet and wait a second for the next try.
/// (`linkwatch_sync_dev` in `rtnl_getlink`, since Linux 6.8; older ones come to it by themselves, a little later.)
pub(super) fn settle(link: Which<'_>) -> Request {
    get(link)
}

/// A link by its name.
pub(super) fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, NetlinkError> {
    look_for(socket, Which::Named(name))
}

/// A link by its number.
pub(super) fn numbered(socket: &mut Socket, index: u32) -> Result<Option<Link>, NetlinkError> {
    look_for(socket, Which::Numbered(index))
}

fn look_for(socket: &mut Socket, which: Which<'_>) -> Result<Option<Link>, NetlinkError> {
    match socket.query(&[get(which)]) {
        Ok(answers) => answers.first().map(read_link).transpose(),
        Err(error) if error.refusal() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every port of a bridge, without its alias. A fifth of what the same links cost in [`links`]: the kernel does not search all
/// namespaces for that of each one's other end.
pub(super) fn ports(socket: &mut Socket) -> Result<Vec<Link>, NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    socket.dump(&request(RouteNetlinkMessage::GetLink(message), 0))?.iter().map(read_link).collect()
}

/// Every link.
pub(super) fn links(socket: &mut Socket) -> Result<Vec<Link>, NetlinkError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![without_statistics()];
    socket.dump(&request(RouteNetlinkMessage::GetLink(message), 0))?.iter().map(read_link).collect()
}

/// Every IPv4 address.
pub(super) fn addresses(socket: &mut Socket) -> Result<Vec<Address>, NetlinkError> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let answers = socket.dump(&request(RouteNetlinkMessage::GetAddress(message), 0))?;
    let read = |answer: &Answer| {
        let message: AddressMessage = parse(answer)?;
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        });
        Ok(local.map(|address| Address { link: message.header.index, address, prefix: message.header.prefix_len }))
    };
    answers.iter().filter_map(|answer| read(answer).transpose()).collect()
}

/// Every unicast route of IPv4 in the main table.
pub(super) fn routes(socket: &mut Socket) -> Result<Vec<Route>, NetlinkError> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let answers = socket.dump(&request(RouteNetlinkMessage::GetRoute(message), 0))?;
    answers.iter().filter_map(|answer| parse(answer).map(|message| read_route(&message)).transpose()).collect()
}

fn read_route(message: &RouteMessage) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN || message.header.kind != RouteType::Unicast {
        return None;
    }
    let prefix = message.header.destination_prefix_length;
    let mut route = Route { destination: Ipv4Addr::UNSPECIFIED, prefix, link: None, gateway: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => route.destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateway = Some(*address),
            RouteAttribute::Oif(link) => route.link = Some(*link),
            _ => {}
        }
    }
    Some(route)
}

/// Reads the few attributes that matter here. A full parse takes ten times as long, and there may be a thousand links.
fn read_link(answer: &Answer) -> Result<Link, NetlinkError> {
    let malformed = || NetlinkError::Malformed(format!("a link in {} bytes", answer.payload.len()));
    let (header, attributes) = answer.payload.split_first_chunk::<LINK_HEADER_BYTES>().ok_or_else(malformed)?;
    let word = |at: usize| header.get(at..).and_then(as_native_u32).unwrap_or_default();
    let flags = LinkFlags::from_bits_retain(word(8));
    let mut link =
        Link { index: word(4), up: flags.contains(LinkFlags::Up), carrier: flags.contains(LinkFlags::LowerUp), ..Link::default() };
    for (kind, value) in attributes::read(attributes) {
        match kind {
            libc::IFLA_IFNAME => link.name = attributes::as_text(value),
            libc::IFLA_IFALIAS => link.alias = attributes::as_text(value),
            libc::IFLA_MASTER => link.bridge = as_native_u32(value),
            libc::IFLA_LINK => link.peer = as_native_u32(value),
            _ => {}
        }
    }
    Ok(link)
}

/// A number of four bytes in the machine's own order, as all of rtnetlink has them.
fn as_native_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn parse<T: Parseable<[u8]>>(answer: &Answer) -> Result<T, NetlinkError> {
    T::parse(&answer.payload).map_err(|error| NetlinkError::Malformed(format!("message type {}: {error}", answer.kind)))
}

fn set(index: u32, attributes: Vec<LinkAttribute>, switch_on: LinkFlags) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = switch_on;
    message.header.change_mask = switch_on;
    message.attributes = attributes;
    request(RouteNetlinkMessage::SetLink(message), 0)
}

fn address_message(address: &Address) -> AddressMessage {
    let broadcast = Ipv4Addr::from(u32::from(address.address) | u32::MAX.checked_shr(u32::from(address.prefix)).unwrap_or(0));
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = address.link;
    message.header.prefix_len = address.prefix;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address.address)),
        AddressAttribute::Address(IpAddr::V4(address.address)),
        AddressAttribute::Broadcast(broadcast),
    ];
    message
}

fn default_route() -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message
}

fn get(link: Which<'_>) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![without_statistics()];
    match link {
        Which::Named(name) => message.attributes.push(LinkAttribute::IfName(name.to_owned())),
        Which::Numbered(index) => message.header.index = index,
    }
    request(RouteNetlinkMessage::GetLink(message), 0)
}

/// Dumps are several times smaller without.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn request(message: RouteNetlinkMessage, flags: u16) -> Request {
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    // Questions are answered anyway; what changes something is acknowledged.
    Request { kind: message.message_type(), flags: flags | NLM_F_ACK, payload }
}
