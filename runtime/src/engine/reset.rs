//! Removes an instance from the host: containers, links, table, cgroups, everything on disk.

use super::{Engine, EngineError};
use crate::container::WhileRunning;
use crate::network;
use crate::store::remove::remove_tree;

impl Engine {
    /// Removes everything of this instance, data in volumes included. Goes on past what does not work and reports it all.
    pub fn reset(self) -> Result<(), Vec<EngineError>> {
        let mut problems: Vec<EngineError> = Vec::new();
        match self.containers() {
            Ok(containers) => {
                problems.extend(containers.keys().filter_map(|id| self.remove_container(id, WhileRunning::Kill).err()));
            }
            Err(error) => problems.push(error),
        }
        match network::list_networks(&self.places) {
            Ok(networks) => problems.extend(networks.keys().filter_map(|name| self.remove_network(name).err())),
            Err(error) => problems.push(error.into()),
        }
        problems.extend(network::remove_firewall(&self.places).err().map(EngineError::from));
        problems.extend(crate::cgroup::Cgroup::remove_instance(&self.places).err().map(EngineError::from));
        // What could not be stopped still needs its files.
        if problems.is_empty() {
            let places = self.places.clone();
            problems.extend([&places.run, &places.state].into_iter().filter_map(|path| remove_tree(path).err()).map(EngineError::from));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}
