//! The verbs on containers that touch more than the container: its links, its ports, its name.

use super::{Engine, EngineError, Keep, traffic};
use crate::container::config::{ContainerConfig, NetworkConfig};
use crate::container::state::{ContainerState, Phase};
use crate::container::{
    self, AttachRequest, Attachment, ContainerError, Remover, Snapshot, StopBy, WhileRunning, WhileSomebodyStays, transient,
};
use crate::network::{self, TrafficChange};
use spec::value::{ContainerId, Name, PortMapping};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Whether traffic leads to a container as soon as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// Yes.
    Now,
    /// Not before [`Engine::switch_traffic`].
    Later,
}

impl Engine {
    /// Every container, each on its own: one that cannot be read does not hide the others.
    pub fn containers(&self) -> Result<BTreeMap<ContainerId, Result<Snapshot, ContainerError>>, EngineError> {
        Ok(container::list(&self.places)?)
    }

    /// The containers there are, without a look at any of them.
    pub fn container_ids(&self) -> Result<BTreeSet<ContainerId>, EngineError> {
        Ok(container::ids(&self.places)?)
    }

    /// Makes a container's files. It serves nobody until it is started or traffic is switched to it: what serves is what also runs.
    ///
    /// With a `remover` it goes with its end.
    pub fn create_container(
        &self,
        config: &ContainerConfig,
        annotations: serde_json::Value,
        remover: Option<&Remover>,
    ) -> Result<(), EngineError> {
        // Without another incarnation there is nothing to switch from: noted now, it need not be noted at the start.
        let serving = container::incarnations(&self.places, &config.id.name)?.is_empty();
        Ok(container::create(&self.places, config, &Keep { serving, annotations }.to_value(), remover)?)
    }

    /// Connects and runs a container; leaves nothing connected if it does not start. Does nothing to one that runs.
    pub fn start_container(&self, id: &ContainerId, lead: Lead) -> Result<ContainerState, EngineError> {
        self.start_by(id, lead, || container::start(&self.places, id))
    }

    /// The same for a client that sees it from its first byte.
    pub fn start_attached(&self, id: &ContainerId, lead: Lead, request: AttachRequest) -> Result<Attachment, EngineError> {
        self.start_by(id, lead, || container::start_attached(&self.places, id, request))
    }

    fn start_by<T>(&self, id: &ContainerId, lead: Lead, start: impl FnOnce() -> Result<T, ContainerError>) -> Result<T, EngineError> {
        let _stay = container::stay(&self.places, id)?;
        let snapshot = container::inspect(&self.places, id)?;
        let runs = matches!(snapshot.state.phase, Phase::Running { .. });
        if !runs && lead == Lead::Later {
            self.marked(id, false)?;
        }
        container::prepare(&self.places, id)?;
        if !runs {
            self.connect(id, &snapshot.config.network)?;
        }
        let started = match start() {
            Ok(started) => started,
            Err(error) => {
                // The start is what failed; what its cleaning up says comes second to that, and the next start cleans again.
                let _ = self.disconnect(id, &snapshot.config.network);
                return Err(error.into());
            }
        };
        match lead {
            Lead::Now => self.serve(id)?,
            Lead::Later => {}
        }
        Ok(started)
    }

    /// Stops a container. Its links stay until it is removed or started again, its ports and name do not.
    pub fn stop_container(&self, id: &ContainerId, grace: Option<Duration>, by: StopBy) -> Result<ContainerState, EngineError> {
        let state = container::stop(&self.places, id, grace, by)?;
        self.change_traffic(TrafficChange::from([(id.clone(), None)]))?;
        Ok(state)
    }

    /// Removes a container that goes with its end, if it has ended; fine if it has not or is gone.
    pub fn remove_ended(&self, id: &ContainerId, others: WhileSomebodyStays) -> Result<(), EngineError> {
        match transient::leave(&self.places, id, others)? {
            Some(_leave) => self.remove_container(id, WhileRunning::Refuse),
            None => Ok(()),
        }
    }

    /// Those that go with their end, have ended and are still there: what their remover left, or never came for.
    pub(super) fn remove_all_ended(&self) -> Result<(), EngineError> {
        for id in self.container_ids()?.iter().filter(|id| container::is_transient(&self.places, id)) {
            // Whose removal is under way is gone after it.
            drop(container::stay(&self.places, id)?);
            // One that cannot be removed is no reason to do nothing else on this host; the next one tries again.
            let _ = self.remove_ended(id, WhileSomebodyStays::Leave);
        }
        Ok(())
    }

    /// Removes a container: links, ports, name, files. Running ones only if forced.
    pub fn remove_container(&self, id: &ContainerId, while_running: WhileRunning) -> Result<(), EngineError> {
        let _right = transient::removal(&self.places, id)?;
        let network = match container::inspect(&self.places, id) {
            Ok(snapshot) if while_running == WhileRunning::Refuse && snapshot.state.phase.is_alive() => {
                return Err(ContainerError::StillRunning { id: id.clone() }.into());
            }
            Ok(snapshot) => Some(snapshot.config.network),
            Err(ContainerError::NotFound { .. }) => return Ok(()),
            // Unreadable, and to be removed all the same if that is forced.
            Err(error) if while_running == WhileRunning::Refuse => return Err(error.into()),
            Err(_) => None,
        };
        if while_running == WhileRunning::Kill {
            // What is left is removed below, running or not. By the user: else a watch would start it again meanwhile.
            let _ = container::stop(&self.places, id, Some(Duration::ZERO), StopBy::User);
        }
        self.change_traffic(TrafficChange::from([(id.clone(), None)]))?;
        if let Some(network) = network {
            self.disconnect(id, &network)?;
        }
        Ok(container::remove(&self.places, id, while_running)?)
    }

    /// Leads ports and name from one incarnation to another, in one transaction.
    pub fn switch_traffic(&self, from: Option<&ContainerId>, to: &ContainerId) -> Result<(), EngineError> {
        let serving = traffic::served(&self.marked(to, true)?);
        if let Some(from) = from {
            self.marked(from, false)?;
        }
        let ending = from.map(|from| (from.clone(), None));
        self.change_traffic(ending.into_iter().chain(serving.map(|serving| (to.clone(), Some(serving)))).collect())
    }

    /// Changes how a container is connected, live: links that go, links that come, ports.
    pub fn reconnect_container(&self, id: &ContainerId, network: &NetworkConfig) -> Result<(), EngineError> {
        let snapshot = container::inspect(&self.places, id)?;
        if snapshot.state.phase.is_alive() {
            self.connect(id, network)?;
        }
        container::reconnect(&self.places, id, network)?;
        let serving = traffic::served(&container::inspect(&self.places, id)?);
        self.change_traffic(TrafficChange::from([(id.clone(), serving)]))
    }

    /// Gives a container whose shim died a new one.
    pub fn adopt_container(&self, id: &ContainerId) -> Result<ContainerState, EngineError> {
        Ok(container::adopt(&self.places, id)?)
    }

    /// Replaces what the engine's user keeps beside a container.
    pub fn annotate_container(&self, id: &ContainerId, annotations: serde_json::Value) -> Result<(), EngineError> {
        let keep = Keep { annotations, ..Keep::of(&container::inspect(&self.places, id)?.annotations) };
        Ok(container::annotate(&self.places, id, keep.to_value())?)
    }

    /// The incarnation of a name that users mean: the one that serves, else the youngest.
    pub fn current(&self, name: &Name) -> Result<Option<ContainerId>, EngineError> {
        let incarnations = container::incarnations(&self.places, name)?.into_iter();
        let serves = |id: &ContainerId| container::inspect(&self.places, id).is_ok_and(|it| Keep::of(&it.annotations).serving);
        Ok(incarnations.max_by_key(|id| (serves(id), id.generation)))
    }

    /// Leads traffic to a container that serves from now on.
    fn serve(&self, id: &ContainerId) -> Result<(), EngineError> {
        let serving = traffic::served(&self.marked(id, true)?);
        let ports = serving.as_ref().map(|serving| serving.ports.clone()).unwrap_or_default();
        let dead = self.dead_holders(id, &ports)?;
        let ending = dead.into_iter().map(|id| (id, None));
        self.change_traffic(ending.chain(serving.map(|serving| (id.clone(), Some(serving)))).collect())
    }

    /// Containers that ended by themselves and still hold one of these ports.
    fn dead_holders(&self, id: &ContainerId, ports: &[PortMapping]) -> Result<Vec<ContainerId>, EngineError> {
        if ports.is_empty() {
            return Ok(Vec::new());
        }
        let asked = |held: &PortMapping| ports.iter().any(|port| (held.host_port, held.protocol) == (port.host_port, port.protocol));
        let holders: Vec<ContainerId> = {
            let mut journal = self.journal();
            let others = journal.read()?.iter().filter(|(other, _)| *other != id);
            others.filter(|(_, held)| held.ports.iter().any(asked)).map(|(other, _)| other.clone()).collect()
        };
        let is_dead = |other: &ContainerId| container::inspect(&self.places, other).map_or(true, |it| traffic::served(&it).is_none());
        Ok(holders.into_iter().filter(is_dead).collect())
    }

    /// The container after it was noted whether it serves.
    fn marked(&self, id: &ContainerId, serving: bool) -> Result<Snapshot, EngineError> {
        let mut snapshot = container::inspect(&self.places, id)?;
        let keep = Keep::of(&snapshot.annotations);
        if keep.serving != serving {
            snapshot.annotations = Keep { serving, ..keep }.to_value();
            container::annotate(&self.places, id, snapshot.annotations.clone())?;
        }
        Ok(snapshot)
    }

    fn connect(&self, id: &ContainerId, network: &NetworkConfig) -> Result<(), EngineError> {
        match network {
            NetworkConfig::Host | NetworkConfig::None => Ok(()),
            NetworkConfig::Bridged { endpoints, .. } => {
                let _lock = self.network_lock()?;
                Ok(network::connect(&self.places, id, endpoints)?)
            }
        }
    }

    fn disconnect(&self, id: &ContainerId, network: &NetworkConfig) -> Result<(), EngineError> {
        match network {
            NetworkConfig::Host | NetworkConfig::None => Ok(()),
            NetworkConfig::Bridged { endpoints, .. } => {
                let _lock = self.network_lock()?;
                Ok(network::disconnect(&self.places, id, endpoints)?)
            }
        }
    }
}
