//! The names, marks and hardware addresses of our links. Pure: no I/O.

use crate::places::Places;
use spec::value::{ContainerId, Digest, Name};
use std::net::Ipv4Addr;

/// Longest name of a link (`IFNAMSIZ` less the NUL).
const LINK_NAME_BYTES_MAX: usize = 15;
/// Digits of the hash that tells shortened names apart.
const HASH_DIGITS: usize = 4;

/// The bridge of a network: `ha-shop`, with the first four digits of the instance's mark `ha1b2c-shop`; a name that is too long
/// ends in a hash of itself.
pub fn bridge_name(places: &Places, network: &Name) -> String {
    let prefix = bridge_prefix(places);
    let room = LINK_NAME_BYTES_MAX - prefix.len();
    let name = network.as_str();
    if name.len() <= room {
        return format!("{prefix}{name}");
    }
    format!("{prefix}{}-{}", &name[..room - HASH_DIGITS - 1], &hash(name)[..HASH_DIGITS])
}

/// What the names of all our bridges begin with.
pub(super) fn bridge_prefix(places: &Places) -> String {
    format!("ha{}-", places.mark().get(..4).unwrap_or_default())
}

/// The alias that makes a bridge ours.
pub(super) fn bridge_alias(places: &Places, network: &Name) -> String {
    bridge_alias_of(&places.instance(), network)
}

/// The same of an instance by its name.
pub(super) fn bridge_alias_of(instance: &str, network: &Name) -> String {
    format!("{instance}/network/{network}")
}

/// The host's end of a container's link. Not readable, as there is no room; the alias says whose it is.
pub(super) fn link_name(places: &Places, id: &ContainerId, network: &Name) -> String {
    link_name_of(&link_alias(places, id, network))
}

/// The same by the link's alias.
pub(super) fn link_name_of(alias: &str) -> String {
    format!("hv-{}", &hash(alias)[..LINK_NAME_BYTES_MAX - 3])
}

/// The alias that makes the host's end of a container's link ours.
pub(super) fn link_alias(places: &Places, id: &ContainerId, network: &Name) -> String {
    link_alias_of(&places.instance(), id, network)
}

/// The same of an instance by its name.
pub(super) fn link_alias_of(instance: &str, id: &ContainerId, network: &Name) -> String {
    format!("{instance}/container/{id}/{network}")
}

/// What the aliases of all links of a container begin with.
pub(super) fn container_alias_prefix(places: &Places, id: &ContainerId) -> String {
    format!("{}/container/{id}/", places.instance())
}

/// What the aliases of all our links begin with.
pub(super) fn alias_prefix(places: &Places) -> String {
    format!("{}/", places.instance())
}

/// Whether this is the alias of a container's link to this network.
pub(super) fn is_link_alias_of(places: &Places, alias: &str, network: &Name) -> bool {
    alias
        .strip_prefix(&format!("{}/container/", places.instance()))
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, found)| found == network.as_str())
}

/// The hardware address that goes with an address: locally administered, the same whenever the address is used again, so that
/// nobody's ARP cache is ever wrong.
pub(super) const fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

fn hash(text: &str) -> String {
    Digest::of(text.as_bytes()).hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(state: &str) -> Places {
        Places { state: state.into(), run: "/run/x".into(), config: "/etc/x".into() }
    }

    #[test]
    fn short_names_are_readable_and_long_ones_fit() {
        let standard = Places::standard();
        assert_eq!(bridge_name(&standard, &"shop".parse().unwrap()), "ha-shop");
        assert_eq!(bridge_name(&standard, &"twelve-bytes".parse().unwrap()), "ha-twelve-bytes");
        let long = bridge_name(&standard, &"thirteen-byte".parse().unwrap());
        assert!(long.starts_with("ha-thirtee-") && long.len() == LINK_NAME_BYTES_MAX, "{long}");
        assert_ne!(long, bridge_name(&standard, &"thirteen-byt2".parse().unwrap()));
    }

    #[test]
    fn instances_do_not_share_names() {
        let (one, two) = (places("/tmp/one"), places("/tmp/two"));
        let (network, id): (Name, ContainerId) = ("shop".parse().unwrap(), "web@1".parse().unwrap());
        assert_ne!(bridge_name(&one, &network), bridge_name(&two, &network));
        assert_ne!(link_name(&one, &id, &network), link_name(&two, &id, &network));
        assert!(bridge_name(&one, &"a-long-network-name".parse().unwrap()).len() <= LINK_NAME_BYTES_MAX);
        assert_eq!(link_name(&one, &id, &network).len(), LINK_NAME_BYTES_MAX);
    }

    #[test]
    fn a_links_alias_tells_its_network() {
        let standard = Places::standard();
        let alias = link_alias(&standard, &"web@1".parse().unwrap(), &"shop".parse().unwrap());
        assert!(is_link_alias_of(&standard, &alias, &"shop".parse().unwrap()));
        assert!(!is_link_alias_of(&standard, &alias, &"hop".parse().unwrap()));
        assert!(!is_link_alias_of(&standard, &bridge_alias(&standard, &"shop".parse().unwrap()), &"shop".parse().unwrap()));
    }
}
