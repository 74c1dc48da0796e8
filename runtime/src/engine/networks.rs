//! The verbs on networks and volumes that have to know who uses them.

use super::{Engine, EngineError};
use crate::container::config::{ContainerConfig, MountConfig, NetworkConfig};
use crate::network::{self, NetworkError, NetworkRecord};
use spec::value::{ContainerId, Name};
use std::collections::{BTreeMap, BTreeSet};

/// The containers that use something, by its name.
pub type Users = BTreeMap<Name, Vec<ContainerId>>;

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
        Ok(self.users_of_networks()?.remove(name).unwrap_or_default())
    }

    /// The same of all networks that have some: the containers are read once.
    pub fn users_of_networks(&self) -> Result<Users, EngineError> {
        self.users(|config| match &config.network {
            NetworkConfig::Bridged { endpoints, .. } => endpoints.iter().map(|endpoint| endpoint.network.clone()).collect(),
            NetworkConfig::Host | NetworkConfig::None => BTreeSet::new(),
        })
    }

    /// Containers, running or not, that mount a volume.
    pub fn volume_users(&self, name: &Name) -> Result<Vec<ContainerId>, EngineError> {
        Ok(self.users_of_volumes()?.remove(name).unwrap_or_default())
    }

    /// The same of all volumes that have some: the containers are read once.
    pub fn users_of_volumes(&self) -> Result<Users, EngineError> {
        self.users(|config| config.mounts.iter().filter_map(|mount| self.volume_at(mount)).collect())
    }

    /// The volume that a mount shows.
    fn volume_at(&self, mount: &MountConfig) -> Option<Name> {
        let MountConfig::Bind { source, .. } = mount else { return None };
        let name: Name = source.parent()?.file_name()?.to_str()?.parse().ok()?;
        (self.places.volume_data(&name) == *source).then_some(name)
    }

    /// Who uses what, by what a container's configuration says that it uses.
    fn users(&self, used_by: impl Fn(&ContainerConfig) -> BTreeSet<Name>) -> Result<Users, EngineError> {
        let mut users = Users::new();
        for (id, snapshot) in self.containers()? {
            let Ok(snapshot) = snapshot else { continue };
            for name in used_by(&snapshot.config) {
                users.entry(name).or_default().push(id.clone());
            }
        }
        Ok(users)
    }
}
