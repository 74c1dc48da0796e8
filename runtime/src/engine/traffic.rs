//! What leads where: changes of it, in the kernel and in the record ([`super::journal`]), together.

use super::journal::Journal;
use super::{Engine, EngineError};
use crate::container::config::NetworkConfig;
use crate::container::state::Phase;
use crate::container::{self, Snapshot};
use crate::network::{self, Serving, Traffic, TrafficChange};
use spec::value::Name;
use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

impl Engine {
    /// What ports and names lead to, as last set.
    pub fn traffic(&self) -> Result<Traffic, EngineError> {
        Ok(self.journal().read()?.clone())
    }

    /// Reads the record of it ahead of whoever asks next: it is long, and only what is added is read from then on.
    pub fn read_traffic(&self) -> Result<(), EngineError> {
        self.journal().read()?;
        Ok(())
    }

    /// Changes it, in the kernel in one transaction and in the record. Does nothing if the change changes nothing.
    pub(super) fn change_traffic(&self, mut change: TrafficChange) -> Result<(), EngineError> {
        let _lock = self.network_lock()?;
        let mut journal = self.journal();
        let before = journal.read()?;
        change.retain(|id, serving| before.get(id) != serving.as_ref());
        if change.is_empty() {
            return Ok(());
        }
        network::set_traffic(&self.places, before, &change)?;
        Ok(journal.write(&change)?)
    }

    /// Writes the whole table and all names anew: after a flush, a deletion, or a crash between kernel and record.
    pub fn rebuild_traffic(&self) -> Result<(), EngineError> {
        // First: what somebody starts or stops by hand meanwhile comes after, and changes what is written here.
        let _lock = self.network_lock()?;
        let mut after = Traffic::new();
        for (id, snapshot) in container::list(&self.places)? {
            after.extend(snapshot.ok().and_then(|snapshot| served(&snapshot)).map(|serving| (id, serving)));
        }
        leave_the_youngest(&mut after);
        // All of them: the walls of a network whose record cannot be read would be taken for a leftover and removed.
        let networks = network::list_networks(&self.places)?.into_iter().map(|(name, record)| Ok((name, record?)));
        let networks = networks.collect::<Result<_, network::NetworkError>>()?;
        network::rebuild_firewall(&self.places, &networks, &after)?;
        Ok(self.journal().replace(after)?)
    }

    /// What is known of the record. Held while it is changed: threads share it.
    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        // A thread that panicked has left it at one whole document or another.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where two incarnations of a name serve, their switch was interrupted: the younger one was to have it all.
fn leave_the_youngest(traffic: &mut Traffic) {
    let youngest: BTreeMap<Name, u32> = traffic.keys().map(|id| (id.name.clone(), id.generation)).collect();
    traffic.retain(|id, _| youngest.get(&id.name) == Some(&id.generation));
}

/// What should lead to a container: its endpoints and ports while it runs, or is about to again, and serves.
pub(super) fn served(snapshot: &Snapshot) -> Option<Serving> {
    if super::Keep::serves(&snapshot.annotations) { servable(&snapshot.config.network, &snapshot.state.phase) } else { None }
}

/// What would lead to a container if it served: its endpoints and ports while it runs, or is about to again.
pub fn servable(network: &NetworkConfig, phase: &Phase) -> Option<Serving> {
    match network {
        NetworkConfig::Bridged { endpoints, ports } if phase.is_alive() => {
            Some(Serving { endpoints: endpoints.clone(), ports: ports.clone() })
        }
        NetworkConfig::Bridged { .. } | NetworkConfig::Host | NetworkConfig::None => None,
    }
}
