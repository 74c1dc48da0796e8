//! How containers are connected: references to networks, fixed addresses.

use super::Resolver;
use super::index::Index;
use super::network::{DEFAULT_NETWORK, not_a_host};
use crate::desired::{Attachment, Desired, Kind, NetworkMode};
use crate::diagnostic::Problems;
use crate::manifest::container::{self, NetworkEntry};
use crate::manifest::{Container, ListOrMap};
use crate::parse::{Document, Spot};
use crate::value::Name;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

impl Resolver<'_> {
    pub(super) fn network_mode(&mut self, document: &Document, container: &Container) -> NetworkMode {
        let spec = document.spec();
        let mode = match container.network_mode {
            None => return NetworkMode::Networks(self.attachments(document, container)),
            Some(container::NetworkMode::Host) => NetworkMode::Host,
            Some(container::NetworkMode::None) => NetworkMode::None,
        };
        let others = [("networks", "cannot be on networks as well"), ("ports", "cannot publish ports")];
        for (field, what) in others.into_iter().filter(|(field, _)| spec.key(field).is_written()) {
            let problem = spec.key(field).key_error(format!("a container with a networkMode {what}"));
            self.report(problem.related(spec.key("networkMode").place(), "set here"));
        }
        mode
    }

    fn attachments(&mut self, document: &Document, container: &Container) -> BTreeMap<Name, Attachment> {
        let spot = document.spec().key("networks");
        let mut attachments = BTreeMap::new();
        match &container.networks {
            None => {}
            Some(ListOrMap::List(names)) => {
                for (name, at) in names.iter().zip(spot.items()) {
                    self.check_network(name, at);
                    if attachments.insert(name.clone(), Attachment::default()).is_some() {
                        self.report(at.error(format!("network {name} is listed twice")));
                    }
                }
            }
            Some(ListOrMap::Map(entries)) => {
                for (name, entry) in entries {
                    let at = spot.key(name.as_str());
                    self.check_network(name, at);
                    let attachment = entry.as_ref().map(|entry| self.attachment(name, entry, at)).unwrap_or_default();
                    attachments.insert(name.clone(), attachment);
                }
            }
        }
        if attachments.is_empty() {
            if container.networks.is_some() {
                let problem = spot.key_error("no network is named");
                let help = "leave networks out for the default network, or write networkMode: none";
                self.report(problem.help(help.to_owned()));
            }
            let default: Name = DEFAULT_NETWORK.parse().expect("it has nothing but letters");
            attachments.insert(default, Attachment::default());
        }
        attachments
    }

    fn check_network(&mut self, name: &Name, spot: Spot<'_>) {
        if name.as_str() == DEFAULT_NETWORK || self.index.contains(Kind::Network, name) {
            return;
        }
        let help = match (name.as_str(), self.index.nearest(Kind::Network, name.as_str())) {
            ("host" | "none", _) => format!("write networkMode: {name}"),
            (_, Some(near)) => format!("did you mean {near}?"),
            (_, None) => format!("add a Network manifest called {name}"),
        };
        self.report(spot.key_error(format!("network {name} is not defined")).help(help));
    }

    fn attachment(&mut self, network: &Name, entry: &NetworkEntry, spot: Spot<'_>) -> Attachment {
        let address = entry.address.map(|address| address.0);
        if address.is_some() && network.as_str() == DEFAULT_NETWORK {
            let problem = spot.key("address").error("no address can be fixed on network default: its subnet is the host's choice");
            self.report(problem.help("add a Network manifest with a subnet".to_owned()));
        }
        Attachment { address, aliases: entry.aliases.iter().flatten().cloned().collect() }
    }
}

/// Reports fixed addresses that their network cannot give, and those given twice.
pub(super) fn check_addresses(index: &Index<'_>, desired: &Desired, problems: &mut Problems) {
    let mut holders: BTreeMap<(&Name, Ipv4Addr), (&Name, Spot<'_>)> = BTreeMap::new();
    for (container, wanted) in &desired.containers {
        let NetworkMode::Networks(attachments) = &wanted.network else { continue };
        for (name, attachment) in attachments {
            let (Some(address), Some(network)) = (attachment.address, desired.networks.get(name)) else { continue };
            let (Some(document), Some(of_network)) = (index.find(Kind::Container, container), index.find(Kind::Network, name)) else {
                continue;
            };
            let spot = document.spec().key("networks").key(name.as_str()).key("address");
            let Some(subnet) = network.subnet else {
                if !of_network.spec().lost("subnet") {
                    let problem = spot.error(format!("network {name} has no subnet of its own to fix an address in"));
                    problems.push(problem.help(format!("add subnet to network {name}")));
                }
                continue;
            };
            if let Some(problem) = not_a_host(subnet, address) {
                problems.push(spot.error(problem).related(of_network.spec().key("subnet").place(), "the subnet"));
            } else if address == network.gateway.unwrap_or(subnet.first_host()) {
                problems.push(spot.error(format!("{address} is the gateway of network {name}")));
            } else if let Some((other, first)) = holders.get(&(name, address)) {
                let problem = spot.error(format!("container {other} has address {address} on network {name} already"));
                problems.push(problem.related(first.place(), "given here"));
            } else {
                holders.insert((name, address), (container, spot));
            }
        }
    }
}
