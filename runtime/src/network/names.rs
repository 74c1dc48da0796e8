//! The names of containers on each network: one records file a network, read by the DNS responder of each shim.
//!
//! ```json
//! {"domain": {"db": ["172.18.0.3"], "web": ["172.18.0.2"]}, "forward": true}
//! ```

use super::error::NetworkError;
use super::record::{self, Durability, NetworkRecord};
use super::traffic::{self, Serving, Traffic, TrafficChange};
use crate::places::Places;
use serde::{Deserialize, Serialize};
use spec::value::{ContainerId, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;

/// The names of one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DnsRecords {
    /// Addresses by name: containers by their own, and by the aliases they have on this network.
    pub domain: BTreeMap<Name, BTreeSet<Ipv4Addr>>,
    /// Whether other names are asked of the host's own resolvers; never on an internal network.
    pub forward: bool,
}

/// As they are written.
#[derive(Serialize)]
struct Written<'a> {
    domain: Domain<'a>,
    forward: bool,
}

/// Addresses by name.
type Domain<'a> = BTreeMap<&'a Name, BTreeSet<Ipv4Addr>>;

/// Writes the names of every network as the traffic says, where the files differ: after a boot, and when one was found wrong.
pub fn write_names(places: &Places, networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> Result<(), NetworkError> {
    for network in differing(places, networks, traffic).iter().filter_map(|name| networks.get(name)) {
        write(places, network, names(&network.name, traffic.iter()))?;
    }
    Ok(())
}

/// Writes the names of the networks where a change of traffic changes any, or whose file is missing.
pub(super) fn change(
    places: &Places,
    networks: &BTreeMap<Name, NetworkRecord>,
    before: &Traffic,
    change: &TrafficChange,
) -> Result<(), NetworkError> {
    for (name, network) in networks {
        let ending = names(name, change.keys().filter_map(|id| before.get_key_value(id)));
        let beginning = names(name, change.iter().filter_map(|(id, serving)| Some((id, serving.as_ref()?))));
        if ending != beginning || (!beginning.is_empty() && !places.records(name).exists()) {
            write(places, network, names(name, traffic::after(before, change)))?;
        }
    }
    Ok(())
}

/// The names on one network.
fn names<'a>(network: &Name, traffic: impl Iterator<Item = (&'a ContainerId, &'a Serving)>) -> Domain<'a> {
    let mut names = Domain::new();
    for (id, serving) in traffic {
        for endpoint in serving.endpoints.iter().filter(|endpoint| endpoint.network == *network) {
            for name in endpoint.aliases.iter().chain([&id.name]) {
                names.entry(name).or_default().insert(endpoint.address);
            }
        }
    }
    names
}

/// Makes the flag that follows from the network's record right, and keeps the names.
pub(super) fn ensure(places: &Places, network: &NetworkRecord) -> Result<(), NetworkError> {
    let found = read(places, &network.name);
    if found.as_ref().is_some_and(|records| records.forward != network.internal) {
        return Ok(());
    }
    let kept = found.unwrap_or_default().domain;
    write(places, network, kept.iter().map(|(name, addresses)| (name, addresses.clone())).collect())
}

/// Removes the names of a network; fine if there are none.
pub(super) fn remove(places: &Places, network: &Name) -> Result<(), NetworkError> {
    record::remove_file(&places.records(network))
}

/// The networks whose files do not say what the traffic says. A file that says it is compared as it is; one that does not may say
/// it in another form, as an earlier version has.
pub(super) fn differing(places: &Places, networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> BTreeSet<Name> {
    let differs = |network: &&NetworkRecord| {
        let wanted = Written { domain: names(&network.name, traffic.iter()), forward: !network.internal };
        let Ok(found) = fs::read(places.records(&network.name)) else { return true };
        let is_as_written = serde_json::to_vec(&wanted).is_ok_and(|wanted| wanted == found);
        !is_as_written && !serde_json::from_slice::<DnsRecords>(&found).is_ok_and(|found| found.says(&wanted))
    };
    networks.values().filter(differs).map(|network| network.name.clone()).collect()
}

impl DnsRecords {
    fn says(&self, wanted: &Written<'_>) -> bool {
        self.forward == wanted.forward && self.domain.iter().eq(wanted.domain.iter().map(|(name, addresses)| (*name, addresses)))
    }
}

/// `None` if there is no file, or it is not one of ours: it is then written anew.
fn read(places: &Places, network: &Name) -> Option<DnsRecords> {
    serde_json::from_slice(&fs::read(places.records(network)).ok()?).ok()
}

fn write(places: &Places, network: &NetworkRecord, domain: Domain<'_>) -> Result<(), NetworkError> {
    let path = places.records(&network.name);
    let written = Written { domain, forward: !network.internal };
    let bytes = serde_json::to_vec(&written).map_err(|source| NetworkError::Record { path: path.clone(), source })?;
    record::write(&path, &bytes, Durability::Passing)
}
