//! `update` and `reconnect`: the parts of a configuration that change while the container runs.

use super::client::{self, ANSWER_MAX};
use super::config::{NetworkConfig, Updatable};
use super::document;
use super::error::ContainerError;
use super::list::read_state;
use super::lock;
use super::start::adopt_locked;
use super::state::{ContainerState, Phase};
use crate::places::Places;
use crate::shim::protocol::Request;
use spec::value::ContainerId;

/// Changes limits, restart policy and labels; at once if it runs. Nothing is recorded if the kernel refuses a limit.
pub fn update(places: &Places, id: &ContainerId, updatable: &Updatable) -> Result<ContainerState, ContainerError> {
    let held = lock::lock(places, id)?;
    let state = adopt_locked(places, id, &held)?;
    match state.phase {
        Phase::Running { .. } | Phase::Restarting { .. } => {
            client::ask(places, id, &Request::Update { updatable: updatable.clone() }, Some(ANSWER_MAX))
        }
        Phase::Created | Phase::Exited { .. } => {
            document::change(places, id, |document| document.config.updatable = updatable.clone())?;
            read_state(places, id)
        }
    }
}

/// Records how the container is connected now: its endpoints and ports. The links themselves are the caller's work; the shim
/// answers for the names of the new networks at once.
pub fn reconnect(places: &Places, id: &ContainerId, network: &NetworkConfig) -> Result<ContainerState, ContainerError> {
    let held = lock::lock(places, id)?;
    let state = adopt_locked(places, id, &held)?;
    document::change(places, id, |document| document.config.network = network.clone())?;
    match state.phase {
        Phase::Running { .. } | Phase::Restarting { .. } => client::ask(places, id, &Request::Reload, Some(ANSWER_MAX)),
        Phase::Created | Phase::Exited { .. } => Ok(state),
    }
}
