//! Connecting containers: a namespace each, a link a network.
//!
//! There is one verb for all that can happen to a container's links: [`connect`] makes them as its endpoints say, in a new
//! namespace or in one where processes run. It adds, mends and removes what differs and leaves the rest alone.

use super::error::NetworkError;
use super::link::{self, Address, Link, Pair, Which};
use super::naming::{bridge_alias, bridge_name, container_alias_prefix, hardware_address, link_alias, link_name};
use super::netlink::{Family, Request, Socket};
use super::probe::Feature;
use super::record::{NetworkRecord, read_network};
use super::sysctl::{self, Missing};
use super::{firewall, namespace};
use crate::container::config::Endpoint;
use crate::places::Places;
use spec::value::ContainerId;
use std::os::fd::{AsFd, OwnedFd};

/// An endpoint with all that is needed to make it.
struct Wiring<'a> {
    endpoint: &'a Endpoint,
    network: NetworkRecord,
    /// Number of the bridge.
    bridge: u32,
    /// The host's end, with its alias.
    name: String,
    alias: String,
}

/// Where the two ends of a link are made.
struct Ends<'a> {
    /// A socket in the host's namespace.
    host: &'a mut Socket,
    /// A socket in the container's.
    inside: &'a mut Socket,
    /// The container's namespace.
    pinned: &'a OwnedFd,
}

/// What is there of an endpoint.
enum Found {
    /// All of it, right.
    Sound,
    /// Something else than there should be, perhaps nothing; to be made anew.
    Wanting,
}

/// Makes the container's namespace exist, pinned at `<container_run>/netns`, with exactly these links: `eth0`, `eth1`, … in this
/// order, each with its address, and the default route by the first one whose network is not internal. The networks must exist.
/// A new namespace is gone again if this fails.
pub fn connect(places: &Places, id: &ContainerId, endpoints: &[Endpoint]) -> Result<(), NetworkError> {
    // This socket stays in the host's namespace wherever the thread goes that uses it.
    let mut host = open()?;
    let wiring = endpoints.iter().map(|endpoint| wiring(places, id, &mut host, endpoint)).collect::<Result<Vec<_>, _>>()?;
    match namespace::open(places, id)? {
        Some(pinned) => {
            let links = own_links(places, id, &mut host)?;
            namespace::within(id, pinned.as_fd(), || {
                rewire(&mut Ends { host: &mut host, inside: &mut open()?, pinned: &pinned }, id, &wiring, &links)
            })
        }
        None => {
            // What is left of a namespace that was never finished, or lost its pin, has the names that are needed.
            let names = wiring.iter().map(|wiring| wiring.name.as_str());
            remove_stale(&mut host, names, &container_alias_prefix(places, id), id)?;
            let connected = namespace::within_new(places, id, |pinned| {
                let mut inside = open()?;
                settle(places, &mut inside)?;
                rewire(&mut Ends { host: &mut host, inside: &mut inside, pinned }, id, &wiring, &[])
            });
            // The namespace takes the links with it, but only when the kernel comes to it.
            connected.inspect_err(|_| drop(disconnect(places, id, endpoints)))
        }
    }
}

/// Removes the links of these endpoints and the pin of the container's namespace, which ends with its last process, and with it
/// whatever else is left of links. Fine if there is none.
pub fn disconnect(places: &Places, id: &ContainerId, endpoints: &[Endpoint]) -> Result<(), NetworkError> {
    let mut host = open()?;
    let names: Vec<String> = endpoints.iter().map(|endpoint| link_name(places, id, &endpoint.network)).collect();
    let found = names.iter().map(|name| find(&mut host, name)).collect::<Result<Vec<_>, _>>()?;
    let prefix = container_alias_prefix(places, id);
    let ours = found.into_iter().flatten().filter(|link| link.alias.starts_with(&prefix));
    delete(&mut host, &ours.map(|link| link::delete(link.index)).collect::<Vec<_>>(), id)?;
    namespace::remove(places, id)
}

/// Looks up all that an endpoint needs, and refuses what cannot be.
fn wiring<'a>(places: &Places, id: &ContainerId, host: &mut Socket, endpoint: &'a Endpoint) -> Result<Wiring<'a>, NetworkError> {
    let no_network = || NetworkError::NoNetwork { network: endpoint.network.clone() };
    let network = read_network(places, &endpoint.network)?.ok_or_else(no_network)?;
    let (address, subnet) = (endpoint.address, network.subnet);
    if !subnet.contains(address) || address == network.gateway || address == subnet.network() || address == subnet.broadcast() {
        return Err(NetworkError::Address { address, network: endpoint.network.clone(), subnet });
    }
    let name = bridge_name(places, &endpoint.network);
    let bridge = link::find(host, &name).map_err(NetworkError::netlink(format!("find bridge {name}"), Feature::Bridge))?;
    let bridge = bridge
        .filter(|bridge| bridge.alias == bridge_alias(places, &endpoint.network))
        .ok_or_else(|| NetworkError::NoBridge { network: endpoint.network.clone(), bridge: name })?;
    Ok(Wiring {
        endpoint,
        network,
        bridge: bridge.index,
        name: link_name(places, id, &endpoint.network),
        alias: link_alias(places, id, &endpoint.network),
    })
}

/// What every new namespace gets before its links, on a thread inside it.
pub(super) fn settle(places: &Places, inside: &mut Socket) -> Result<(), NetworkError> {
    // New links inherit `default`; `all` would only matter for links that exist.
    sysctl::set("ipv6/conf/default/disable_ipv6", "1", Missing::Ignore)?;
    sysctl::set("ipv6/conf/lo/disable_ipv6", "1", Missing::Ignore)?;
    // As Docker has it: ports below 1024 and ping without privileges, since nothing else is here to be protected.
    sysctl::set("ipv4/ip_unprivileged_port_start", "0", Missing::Ignore)?;
    sysctl::set("ipv4/ping_group_range", "0 2147483647", Missing::Ignore)?;
    inside.transact(&[link::set_up("lo")]).map_err(NetworkError::netlink("switch on lo", Feature::Links))?;
    firewall::redirect_resolver(places)
}

/// Makes the links of a namespace as they should be, on a thread inside it; `links` are the host's ends that exist.
fn rewire(ends: &mut Ends<'_>, id: &ContainerId, wiring: &[Wiring<'_>], links: &[Link]) -> Result<(), NetworkError> {
    let failed = |action: &str| NetworkError::netlink(format!("{action} of {id}"), Feature::Veth);
    let mut inner = link::links(ends.inside).map_err(failed("list the links"))?;
    let addresses = link::addresses(ends.inside).map_err(failed("list the addresses"))?;
    let found: Vec<Found> = wiring.iter().map(|wiring| inspect(wiring, links, &inner, &addresses)).collect();
    // What is not wanted, and what is not right, goes first: the new may need its name.
    let keep = |link: &&Link| wiring.iter().zip(&found).any(|(wiring, found)| wiring.name == link.name && matches!(found, Found::Sound));
    let going: Vec<&Link> = links.iter().filter(|link| !keep(link)).collect();
    delete(ends.host, &going.iter().map(|link| link::delete(link.index)).collect::<Vec<_>>(), id)?;
    inner.retain(|link| !going.iter().any(|gone| gone.peer == Some(link.index)));
    for (position, (wiring, found)) in wiring.iter().zip(&found).enumerate() {
        match found {
            Found::Sound => {}
            Found::Wanting => {
                let name = free_name(position, &inner);
                create(ends, wiring, &name)?;
                inner.push(Link { name, ..Link::default() });
            }
        }
    }
    route(ends.inside, wiring).map_err(failed("set the default route"))
}

/// Compares an endpoint with what there is.
fn inspect(wiring: &Wiring<'_>, links: &[Link], inner: &[Link], addresses: &[Address]) -> Found {
    let Some(link) = links.iter().find(|link| link.name == wiring.name) else { return Found::Wanting };
    let peer = inner.iter().find(|inner| link.peer == Some(inner.index));
    let addressed = |peer: &Link| addresses.contains(&address(wiring, peer.index));
    let sound = link.up && link.bridge == Some(wiring.bridge) && peer.is_some_and(|peer| peer.up && addressed(peer));
    if sound { Found::Sound } else { Found::Wanting }
}

/// Makes one link: the pair, with the container's end born inside, then that end's address.
fn create(ends: &mut Ends<'_>, wiring: &Wiring<'_>, name: &str) -> Result<(), NetworkError> {
    let network = &wiring.network.name;
    let failed = |action: &str| NetworkError::netlink(format!("{action} {name} on network {network}"), Feature::Veth);
    let pair = Pair {
        name: &wiring.name,
        bridge: wiring.bridge,
        namespace: ends.pinned.as_fd(),
        peer: name,
        peer_hardware: hardware_address(wiring.endpoint.address),
    };
    ends.host.transact(&[link::create_pair(&pair), link::set_up_port(&wiring.name, &wiring.alias)]).map_err(failed("create link"))?;
    let peer = link::find(ends.inside, name).map_err(failed("find link"))?;
    let index = peer.map(|peer| peer.index).unwrap_or_default();
    let up = [link::set_up(name), link::add_address(&address(wiring, index)), link::settle(Which::Numbered(index))];
    ends.inside.transact(&up).map_err(failed("set up link"))?;
    // The port has a carrier only now, and the bridge perhaps its first.
    let settled = [link::settle(Which::Named(&wiring.name)), link::settle(Which::Numbered(wiring.bridge))];
    ends.host.transact(&settled).map_err(failed("settle link"))
}

/// Makes the default route lead out by the first network that has a way out, if any.
fn route(inside: &mut Socket, wiring: &[Wiring<'_>]) -> Result<(), super::NetlinkError> {
    let wanted = wiring.iter().find(|wiring| !wiring.network.internal).map(|wiring| wiring.network.gateway);
    let found = link::routes(inside)?.into_iter().find(|route| route.prefix == 0);
    match (wanted, found) {
        (None, None) => Ok(()),
        (None, Some(_)) => inside.transact(&[link::delete_default_route()]),
        (Some(gateway), Some(route)) if route.gateway == Some(gateway) => Ok(()),
        (Some(gateway), _) => inside.transact(&[link::set_default_route(gateway)]),
    }
}

/// `eth<position>`, or the next that is not taken: links keep their names while others come and go.
fn free_name(position: usize, inner: &[Link]) -> String {
    let taken = |name: &String| inner.iter().any(|link| link.name == *name);
    let names = (position..=position + inner.len()).map(|number| format!("eth{number}"));
    let mut free = names.filter(|name| !taken(name));
    free.next().expect("one more name than there are links")
}

fn address(wiring: &Wiring<'_>, link: u32) -> Address {
    Address { link, address: wiring.endpoint.address, prefix: wiring.network.subnet.prefix() }
}

/// The host's ends of a container's links.
fn own_links(places: &Places, id: &ContainerId, host: &mut Socket) -> Result<Vec<Link>, NetworkError> {
    let prefix = container_alias_prefix(places, id);
    let links = link::links(host).map_err(NetworkError::netlink("list links", Feature::Links))?;
    Ok(links.into_iter().filter(|link| link.alias.starts_with(&prefix)).collect())
}

/// Deletes links of this container by name, and refuses if one is not.
fn remove_stale<'a>(host: &mut Socket, names: impl Iterator<Item = &'a str>, prefix: &str, id: &ContainerId) -> Result<(), NetworkError> {
    for name in names {
        match find(host, name)? {
            None => {}
            Some(link) if link.alias.starts_with(prefix) => delete(host, &[link::delete(link.index)], id)?,
            Some(link) => return Err(NetworkError::ForeignLink { link: link.name }),
        }
    }
    Ok(())
}

fn find(host: &mut Socket, name: &str) -> Result<Option<Link>, NetworkError> {
    link::find(host, name).map_err(NetworkError::netlink(format!("find link {name}"), Feature::Links))
}

/// Deletes links that may be going by themselves, as those of a namespace that ends do.
fn delete(host: &mut Socket, requests: &[Request], id: &ContainerId) -> Result<(), NetworkError> {
    match host.transact(requests) {
        Err(error) if error.refusal() == Some(libc::ENODEV) => Ok(()),
        other => other.map_err(NetworkError::netlink(format!("delete the links of {id}"), Feature::Links)),
    }
}

fn open() -> Result<Socket, NetworkError> {
    Socket::open(Family::Route).map_err(NetworkError::netlink("talk to rtnetlink", Feature::Links))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_get_the_name_of_their_position_unless_it_is_taken() {
        let links = |names: &[&str]| names.iter().map(|name| Link { name: (*name).to_owned(), ..Link::default() }).collect::<Vec<_>>();
        assert_eq!(free_name(0, &links(&["lo"])), "eth0");
        assert_eq!(free_name(1, &links(&["lo", "eth0"])), "eth1");
        assert_eq!(free_name(0, &links(&["lo", "eth0", "eth1"])), "eth2");
    }
}
