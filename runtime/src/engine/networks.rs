//! The verbs on networks and volumes that have to know who uses them.

use super::{Engine, EngineError};
use crate::container::config::{MountConfig, NetworkConfig};
use crate::network::{self, NetworkError, NetworkRecord};
use spec::value::{ContainerId, Name};

impl Engine {
    /// Makes a network exist as recorded: record, bridge, firewall.
    pub fn ensure_network(&self, record: &NetworkRecord) -> Result<(), EngineError> {
        let _lock = self.network_lock()?;
        Ok(network::ensure_network(&self.places, record)?)
    }

    /// Makes a network that containers are connected to as recorded now: whether it has a way out is told to them too.
    pub fn change_network(&self, record: &NetworkRecord) -> Result<(), EngineError> {
        self.ensure_network(record)?;
        self.network_users(&record.name)?.iter().try_for_each(|id| self.repair_links(id))?;
        self.rebuild_traffic()
    }

    /// The record of a network. Errors: [`NetworkError::NoNetwork`].
    pub fn network(&self, name: &Name) -> Result<NetworkRecord, EngineError> {
        let record = network::read_network(&self.places, name)?;
        Ok(record.ok_or_else(|| NetworkError::NoNetwork { network: name.clone() })?)
    }

    /// Makes a network's bridge again as recorded, and the links of its running containers.
    pub fn repair_network(&self, name: &Name) -> Result<(), EngineError> {
        self.ensure_network(&self.network(name)?)?;
        self.network_users(name)?.iter().try_for_each(|id| self.repair_links(id))
    }

    /// Removes a network; refused while containers are connected to it.
    pub fn remove_network(&self, name: &Name) -> Result<(), EngineError> {
        let users = self.network_users(name)?;
        if !users.is_empty() {
            return Err(EngineError::NetworkInUse { network: name.clone(), users });
        }
        let _lock = self.network_lock()?;
        Ok(network::remove_network(&self.places, name)?)
    }

    /// Makes a running container's links as configured.
    pub fn repair_links(&self, id: &ContainerId) -> Result<(), EngineError> {
        let snapshot = crate::container::inspect(&self.places, id)?;
        match &snapshot.config.network {
            NetworkConfig::Bridged { endpoints, .. } if snapshot.state.phase.is_alive() => {
                let _lock = self.network_lock()?;
                Ok(network::connect(&self.places, id, endpoints)?)
            }
            NetworkConfig::Bridged { .. } | NetworkConfig::Host | NetworkConfig::None => Ok(()),
        }
    }

    /// Containers, running or not, that are configured to be on a network.
    pub fn network_users(&self, name: &Name) -> Result<Vec<ContainerId>, EngineError> {
        self.users(|config| match &config.network {
            NetworkConfig::Bridged { endpoints, .. } => endpoints.iter().any(|endpoint| endpoint.network == *name),
            NetworkConfig::Host | NetworkConfig::None => false,
        })
    }

    /// Containers, running or not, that mount a volume.
    pub fn volume_users(&self, name: &Name) -> Result<Vec<ContainerId>, EngineError> {
        let data = self.places.volume_data(name);
        self.users(|config| config.mounts.iter().any(|mount| matches!(mount, MountConfig::Bind { source, .. } if *source == data)))
    }

    fn users(&self, uses: impl Fn(&crate::container::config::ContainerConfig) -> bool) -> Result<Vec<ContainerId>, EngineError> {
        let containers = self.containers()?.into_iter();
        Ok(containers.filter(|(_, it)| it.as_ref().is_ok_and(|it| uses(&it.config))).map(|(id, _)| id).collect())
    }
}
