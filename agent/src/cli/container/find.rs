//! Which container a user means: `web` is the one that serves, `web@2` that incarnation.

use crate::cli::Failure;
use crate::cli::missing::missing;
use runtime::container::{ContainerError, Snapshot};
use runtime::engine::{Engine, Keep};
use spec::desired::Kind;
use spec::value::ContainerId;
use std::collections::BTreeMap;

/// The containers of these names, in that order; all that do not exist are named in one error.
pub(super) fn find(engine: &Engine, names: &[String]) -> Result<Vec<ContainerId>, Failure> {
    let all = engine.containers()?;
    let mut found = Vec::new();
    let mut absent = Vec::new();
    for name in names {
        match find_in(&all, name) {
            Some(id) => found.push(id),
            None => absent.push(name.as_str()),
        }
    }
    if absent.is_empty() {
        return Ok(found);
    }
    Err(missing(engine, Kind::Container, &absent))
}

/// The one container of this name.
pub(crate) fn find_one(engine: &Engine, name: &str) -> Result<ContainerId, Failure> {
    Ok(find(engine, &[name.to_owned()])?.remove(0))
}

fn find_in(all: &BTreeMap<ContainerId, Result<Snapshot, ContainerError>>, name: &str) -> Option<ContainerId> {
    if let Ok(id) = name.parse::<ContainerId>() {
        return all.contains_key(&id).then_some(id);
    }
    let serves = |snapshot: &Result<Snapshot, ContainerError>| snapshot.as_ref().is_ok_and(|it| Keep::of(&it.annotations).serving);
    let incarnations = all.iter().filter(|(id, _)| id.name.as_str() == name);
    incarnations.max_by_key(|(id, snapshot)| (serves(snapshot), id.generation)).map(|(id, _)| id.clone())
}
