//! What a container's process may do, and how much.

use super::Resolver;
use crate::desired::{Resources, Security};
use crate::manifest::Container;
use crate::manifest::container::CapabilityChoice;
use crate::parse::Document;
use crate::value::{ByteSize, Capability};
use std::collections::BTreeSet;

/// Least memory a container can be limited to, as in Docker: below it the process cannot even be started.
const MEMORY_BYTES_MIN: u64 = 6 << 20;

impl Resolver<'_> {
    pub(super) fn security(&mut self, document: &Document, container: &Container) -> Security {
        Security {
            capabilities: self.capabilities(document, container),
            no_new_privileges: container.no_new_privileges.unwrap_or_default(),
            read_only_root: container.read_only_root.unwrap_or_default(),
            user_namespace: container.user_namespace.unwrap_or_default(),
        }
    }

    /// Docker's rules: `ALL` on either side sets what is begun with, single names are then taken and given.
    fn capabilities(&mut self, document: &Document, container: &Container) -> BTreeSet<Capability> {
        let written = container.capabilities.clone().unwrap_or_default();
        let (add, drop) = (written.add.unwrap_or_default(), written.drop.unwrap_or_default());
        let spot = document.spec().key("capabilities");
        for (choice, at) in add.iter().zip(spot.key("add").items()) {
            if let Some(position) = drop.iter().position(|other| other == choice) {
                let problem = at.error("this capability is added and dropped");
                self.report(problem.related(spot.key("drop").item(position).place(), "dropped here"));
            }
        }
        let mut set: BTreeSet<Capability> = match (add.contains(&CapabilityChoice::All), drop.contains(&CapabilityChoice::All)) {
            (true, _) => Capability::all().collect(),
            (false, true) => BTreeSet::new(),
            (false, false) => Capability::DOCKER_DEFAULT.into(),
        };
        for choice in drop {
            if let CapabilityChoice::One(capability) = choice {
                set.remove(&capability);
            }
        }
        for choice in add {
            if let CapabilityChoice::One(capability) = choice {
                set.insert(capability);
            }
        }
        set
    }

    pub(super) fn resources(&mut self, document: &Document, container: &Container) -> Resources {
        let written = container.resources.clone().unwrap_or_default();
        let spot = document.spec().key("resources");
        if let Some(memory) = written.memory.filter(|memory| memory.bytes() < MEMORY_BYTES_MIN) {
            let problem = spot.key("memory").error(format!("{memory} of memory is too little to start a process"));
            self.report(problem.help(format!("write at least {}", ByteSize::from_bytes(MEMORY_BYTES_MIN))));
        }
        if written.pids == Some(0) {
            let problem = spot.key("pids").error("a container without processes cannot run");
            self.report(problem.help("write at least 1, or leave it out for no limit".to_owned()));
        }
        Resources { memory: written.memory, cpus: written.cpus, pids: written.pids }
    }
}
