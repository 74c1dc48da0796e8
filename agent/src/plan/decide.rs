//! Decides what becomes of networks and containers, before a single step is written.
//!
//! One container by one in the order of `dependsOn`, so that whoever waits for another knows what becomes of it.

use super::actual::Observed;
use super::addresses::Addresses;
use super::image::Images;
use super::network::{self, Networks, Obstacle};
use super::order::{self, Waits};
use super::room::Room;
use super::site::{Site, attachments, published};
use super::verdict::{Hindrance, Verdict, Verdicts};
use super::volume::VolumeState;
use spec::value::Name;
use std::collections::BTreeMap;

/// Decides on networks and containers together: a network is replaced only if every container on it can go with it.
pub(super) fn decide<'a>(site: &Site<'a>, images: &Images<'a>, volumes: &BTreeMap<Name, VolumeState>) -> (Networks, Verdicts<'a>) {
    let mut networks = network::decide(site);
    let addresses = present_addresses(site);
    let order = order(site);
    loop {
        let mut addresses = addresses.clone();
        networks.iter().filter(|(_, verdict)| verdict.is_replaced()).for_each(|(name, _)| addresses.clear(name));
        let mut room = Room { site, images, volumes, networks: &networks, addresses, decided: BTreeMap::new() };
        for name in &order.sorted {
            let verdict = room.one(name, &site.desired.containers[*name]);
            room.decided.insert(name, verdict);
        }
        for name in &order.circular {
            let why = "containers depend on each other in a circle: let one of them begin without the others";
            room.decided.insert(name, Verdict::hindered(Hindrance::Blocked(why.to_owned()), None));
        }
        let decided = room.decided;
        let obstacles = obstacles(site, &networks, &decided);
        if !network::keep(&mut networks, obstacles) {
            return (networks, Verdicts { order: order.sorted, by_name: decided });
        }
    }
}

/// `dependsOn`, and whoever takes over a port after whoever gives it up, unless that would be a circle.
fn order<'a>(site: &Site<'a>) -> order::Order<&'a Name> {
    let containers = &site.desired.containers;
    let mut waits: Waits<&Name> = containers.iter().map(|(name, container)| (name, container.depends_on.keys().collect())).collect();
    for (name, container) in containers {
        for port in published(&container.network, &container.ports) {
            for holder in site.holders(*port, name) {
                let Some((holder, _)) = containers.get_key_value(&holder.name) else { continue };
                if !order::reaches(&waits, &holder, &name) {
                    waits.entry(name).or_default().insert(holder);
                }
            }
        }
    }
    order::sort(&waits)
}

fn present_addresses(site: &Site<'_>) -> Addresses {
    let mut addresses = Addresses::default();
    for (id, observed) in &site.actual.containers {
        if let Observed::Present(state) = observed {
            state.endpoints.iter().for_each(|endpoint| addresses.hold(endpoint, id));
        }
    }
    for container in site.desired.containers.values() {
        for (network, attachment) in attachments(container) {
            if let Some(address) = attachment.address {
                addresses.promise(network, address);
            }
        }
    }
    addresses
}

/// Why networks that are to be replaced cannot be: someone on them cannot go with them.
fn obstacles(site: &Site<'_>, networks: &Networks, decided: &BTreeMap<&Name, Verdict<'_>>) -> BTreeMap<Name, Obstacle> {
    let mut found = BTreeMap::new();
    for (name, _) in networks.iter().filter(|(_, verdict)| verdict.is_replaced()) {
        let obstacle = site.actual.containers.iter().find_map(|(id, observed)| match observed {
            Observed::Unreadable { .. } => {
                Some(Obstacle::Stays(format!("container/{} could not be read and may be connected to it", id.name)))
            }
            Observed::Present(state) if !state.endpoints.iter().any(|endpoint| endpoint.network == *name) => None,
            Observed::Present(state) if state.owner != site.owner => Some(Obstacle::Stays(format!(
                "it has to be made again with its containers, and container/{} on it is not of this site: disconnect or remove it",
                id.name
            ))),
            Observed::Present(_) => decided.get(&id.name).and_then(|verdict| verdict.obstacle(id)),
        });
        if let Some(obstacle) = obstacle {
            found.insert(name.clone(), obstacle);
        }
    }
    found
}
