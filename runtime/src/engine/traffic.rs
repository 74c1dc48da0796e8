//! What leads where, remembered: the last traffic that was set is kept in the run directory, which is gone after a boot just
//! as the kernel's tables are. A change therefore costs what it changes, however many containers there are.

use super::{Engine, EngineError};
use crate::container::config::{Endpoint, NetworkConfig};
use crate::container::state::Phase;
use crate::container::{self, Snapshot};
use crate::network::{self, NetworkRecord, Serving, Traffic};
use crate::store::{FileError, atomic};
use spec::value::{ContainerId, Name, PortMapping};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

/// As it is stored: endpoints and ports of each container.
type Stored = BTreeMap<ContainerId, (Vec<Endpoint>, Vec<PortMapping>)>;

impl Engine {
    /// What ports and names lead to, as last set.
    pub fn traffic(&self) -> Result<Traffic, EngineError> {
        let path = self.traffic_path();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Traffic::new()),
            bytes => bytes.map_err(FileError::of("read", &path))?,
        };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| FileError::of("read", &path)(io::Error::from(error)))?;
        Ok(stored.into_iter().map(|(id, (endpoints, ports))| (id, Serving { endpoints, ports })).collect())
    }

    /// Changes it, in the kernel and in the record, in one transaction. Does nothing if the change changes nothing.
    pub(super) fn change_traffic(&self, change: impl FnOnce(&mut Traffic)) -> Result<(), EngineError> {
        let _lock = self.network_lock()?;
        let before = self.traffic()?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        network::set_traffic(&self.places, &self.readable_networks()?, &before, &after)?;
        self.remember(&after)
    }

    /// Writes the whole table and all names anew: after a flush, a deletion, or a crash between kernel and record.
    pub fn rebuild_traffic(&self) -> Result<(), EngineError> {
        // First: what somebody starts or stops by hand meanwhile comes after, and changes what is written here.
        let _lock = self.network_lock()?;
        let mut after = Traffic::new();
        for (id, snapshot) in container::list(&self.places)? {
            after.extend(snapshot.ok().and_then(|snapshot| served(&snapshot)).map(|serving| (id, serving)));
        }
        // All of them: the walls of a network whose record cannot be read would be taken for a leftover and removed.
        let networks = network::list_networks(&self.places)?.into_iter().map(|(name, record)| Ok((name, record?)));
        let networks = networks.collect::<Result<_, network::NetworkError>>()?;
        network::rebuild_firewall(&self.places, &networks, &after)?;
        self.remember(&after)
    }

    /// Every network whose record can be read.
    pub(super) fn readable_networks(&self) -> Result<BTreeMap<Name, NetworkRecord>, EngineError> {
        let records = network::list_networks(&self.places)?;
        Ok(records.into_iter().filter_map(|(name, record)| Some((name, record.ok()?))).collect())
    }

    fn remember(&self, traffic: &Traffic) -> Result<(), EngineError> {
        let stored: Stored = traffic.iter().map(|(id, serving)| (id.clone(), (serving.endpoints.clone(), serving.ports.clone()))).collect();
        Ok(atomic::write_json(&self.traffic_path(), &stored)?)
    }

    fn traffic_path(&self) -> PathBuf {
        self.places.run.join("traffic.json")
    }
}

/// Whether a container runs, or is about to again.
pub(super) fn is_alive(snapshot: &Snapshot) -> bool {
    match snapshot.state.phase {
        Phase::Running { .. } | Phase::Restarting { .. } => true,
        Phase::Created | Phase::Exited { .. } => false,
    }
}

/// What should lead to a container: its endpoints and ports while it runs, or is about to again, and serves.
pub fn served(snapshot: &Snapshot) -> Option<Serving> {
    match &snapshot.config.network {
        NetworkConfig::Bridged { endpoints, ports } if is_alive(snapshot) && super::Keep::of(&snapshot.annotations).serving => {
            Some(Serving { endpoints: endpoints.clone(), ports: ports.clone() })
        }
        NetworkConfig::Bridged { .. } | NetworkConfig::Host | NetworkConfig::None => None,
    }
}
