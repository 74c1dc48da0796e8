//! The names of containers on each network: one records file a network, read by the DNS responder of each shim.
//!
//! ```json
//! {"domain": {"db": ["172.18.0.3"], "web": ["172.18.0.2"]}, "forward": true}
//! ```

use super::error::NetworkError;
use super::record::{self, Durability, NetworkRecord};
use super::traffic::Traffic;
use crate::places::Places;
use serde::{Deserialize, Serialize};
use spec::value::Name;
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

/// Writes the names of every network as the traffic says, where the files differ: after a boot, and when one was found wrong.
pub fn write_names(places: &Places, networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> Result<(), NetworkError> {
    for (name, wanted) in all(networks, traffic) {
        if read(places, &name).as_ref() != Some(&wanted) {
            write(places, &name, &wanted)?;
        }
    }
    Ok(())
}

/// Writes the names of the networks where a change of traffic changes any, or whose file is missing.
pub(super) fn change(
    places: &Places,
    networks: &BTreeMap<Name, NetworkRecord>,
    before: &Traffic,
    after: &Traffic,
) -> Result<(), NetworkError> {
    let (old, new) = (all(networks, before), all(networks, after));
    for (name, wanted) in &new {
        if old.get(name) != Some(wanted) || (!wanted.domain.is_empty() && !places.records(name).exists()) {
            write(places, name, wanted)?;
        }
    }
    Ok(())
}

/// Makes the flag that follows from the network's record right, and keeps the names.
pub(super) fn ensure(places: &Places, network: &NetworkRecord) -> Result<(), NetworkError> {
    let found = read(places, &network.name);
    let forward = !network.internal;
    if found.as_ref().is_some_and(|records| records.forward == forward) {
        return Ok(());
    }
    write(places, &network.name, &DnsRecords { forward, ..found.unwrap_or_default() })
}

/// Removes the names of a network; fine if there are none.
pub(super) fn remove(places: &Places, network: &Name) -> Result<(), NetworkError> {
    record::remove_file(&places.records(network))
}

/// The networks whose files do not say what the traffic says.
pub(super) fn differing(places: &Places, networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> BTreeSet<Name> {
    all(networks, traffic).into_iter().filter(|(name, wanted)| read(places, name).as_ref() != Some(wanted)).map(|(name, _)| name).collect()
}

/// What all files should say.
fn all(networks: &BTreeMap<Name, NetworkRecord>, traffic: &Traffic) -> BTreeMap<Name, DnsRecords> {
    let mut all: BTreeMap<Name, DnsRecords> = networks
        .values()
        .map(|network| (network.name.clone(), DnsRecords { forward: !network.internal, ..DnsRecords::default() }))
        .collect();
    for (id, serving) in traffic {
        for endpoint in &serving.endpoints {
            let Some(records) = all.get_mut(&endpoint.network) else { continue };
            for name in endpoint.aliases.iter().chain([&id.name]) {
                records.domain.entry(name.clone()).or_default().insert(endpoint.address);
            }
        }
    }
    all
}

/// `None` if there is no file, or it is not one of ours: it is then written anew.
fn read(places: &Places, network: &Name) -> Option<DnsRecords> {
    serde_json::from_slice(&fs::read(places.records(network)).ok()?).ok()
}

fn write(places: &Places, network: &Name, records: &DnsRecords) -> Result<(), NetworkError> {
    let path = places.records(network);
    let bytes = serde_json::to_vec(records).map_err(|source| NetworkError::Record { path: path.clone(), source })?;
    record::write(&path, &bytes, Durability::Passing)
}
