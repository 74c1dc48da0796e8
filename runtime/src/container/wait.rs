//! `wait`: until a container is healthy, or has exited.

use super::client;
use super::error::ContainerError;
use super::list::{inspect, read_state};
use super::start::adopt;
use super::state::{ContainerState, Health, Phase};
use crate::places::Places;
use crate::shim::protocol::{Request, WaitCondition};
use spec::value::ContainerId;
use std::time::{Duration, Instant};

/// Beyond the shim's own time limit, before it counts as hung.
const MARGIN: Duration = Duration::from_secs(5);

/// How a wait ended, with the state then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// The condition holds.
    Reached(ContainerState),
    /// It exited for good, or is unhealthy, and so will not become healthy.
    Missed(ContainerState),
    /// The time is over.
    TimedOut(ContainerState),
}

/// Waits at most this long (without end if `None`).
pub fn wait(places: &Places, id: &ContainerId, until: WaitCondition, timeout: Option<Duration>) -> Result<Waited, ContainerError> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        inspect(places, id)?;
        let state = adopt(places, id)?;
        if let Some(waited) = judge(&state, until) {
            return Ok(waited);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let request = Request::Wait { until, timeout_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)) };
        let state = match client::ask(places, id, &request, left.map(|left| left + MARGIN)) {
            Ok(state) => state,
            // The shim ended, by itself or killed: the next round sees what is left.
            Err(ContainerError::Shim { .. }) => read_state(places, id)?,
            Err(error) => return Err(error),
        };
        if let Some(waited) = judge(&state, until) {
            return Ok(waited);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Waited::TimedOut(state));
        }
        // Only after a shim died: not to spin if it dies again and again.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a state means for a condition; `None`: not yet.
pub(crate) fn judge(state: &ContainerState, until: WaitCondition) -> Option<Waited> {
    let reached = || Some(Waited::Reached(state.clone()));
    let missed = || Some(Waited::Missed(state.clone()));
    match (until, &state.phase) {
        (WaitCondition::Exited, Phase::Created | Phase::Exited { .. }) => reached(),
        (WaitCondition::Exited, Phase::Running { .. } | Phase::Restarting { .. }) => None,
        (WaitCondition::Healthy, Phase::Created | Phase::Exited { .. }) => missed(),
        (WaitCondition::Healthy, Phase::Restarting { .. }) => None,
        (WaitCondition::Healthy, Phase::Running { health, .. }) => match health {
            Health::Unchecked | Health::Healthy => reached(),
            Health::Starting => None,
            Health::Unhealthy { .. } => missed(),
        },
    }
}
