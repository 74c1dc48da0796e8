//! What is left when an application is over, or when one before it was interrupted: lines of the ledger about what is not there,
//! images that no generation of a site needs, snapshots that nothing mounts. The host's lock is held.

use super::content;
use super::needed::collect;
use crate::host::HostError;
use crate::ledger::{Entry, Generation, Ledger, Obtained, Owned, OwnedState, Ownership};
use crate::plan::actual::SiteId;
use crate::reconcile::Cycle;
use runtime::container::config::MountConfig;
use runtime::container::state::Timestamp;
use runtime::engine::Engine;
use runtime::network::list_networks;
use runtime::volume::list_volumes;
use spec::desired::{Kind, ResourceId};
use spec::value::ContainerId;
use std::collections::BTreeSet;
use std::path::PathBuf;

type Result<T = ()> = std::result::Result<T, HostError>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes ledger and store agree with what is there. A cycle that had nothing to do, after none that was interrupted, costs one
/// look at the ledger.
pub fn clear_up(engine: &Engine, ledger: &mut Ledger, site: &SiteId, cycle: &Cycle, now: Timestamp) -> Result {
    let failed = |error: BoxError| HostError::new("clear up", error);
    let owned = ledger.owned(None).map_err(|error| failed(error.into()))?;
    if !cycle.acted() && owned.iter().all(|line| line.state == OwnedState::Present) {
        return Ok(());
    }
    let there = Resources::read(engine).map_err(failed)?;
    let mut found = Vec::new();
    for line in &owned {
        let is_there = there.has(engine, &line.resource).map_err(failed)?;
        found.extend(entry(line, is_there, now));
    }
    if cycle.converged() {
        remember_generation(engine, ledger, site, &owned, now).map_err(failed)?;
    }
    collect(engine, ledger)?;
    collect_snapshots(engine)?;
    // Last: as long as a line says that something was begun, the next one comes here again.
    ledger.write(&found, now).map_err(|error| failed(error.into()))
}

/// Remembers which images the site has now.
fn remember_generation(
    engine: &Engine,
    ledger: &mut Ledger,
    site: &SiteId,
    owned: &[Owned],
    now: Timestamp,
) -> std::result::Result<(), BoxError> {
    let mut images = Generation::new();
    for line in owned.iter().filter(|line| line.site == *site && line.resource.kind == Kind::Image) {
        if let Some(id) = engine.images().find(&line.resource.name)? {
            images.insert(line.resource.name.clone(), Obtained { id, applied: line.applied.clone() });
        }
    }
    Ok(ledger.record_generation(site, &images, now)?)
}

/// What a line of the ledger has to become; `None` if it is right. A removal that did not come to its end stays one.
fn entry(line: &Owned, is_there: bool, at: Timestamp) -> Option<Entry<'_>> {
    match (line.state, is_there) {
        (_, false) => Some(Entry::Gone(&line.resource)),
        (OwnedState::Creating, true) => {
            let Owned { resource, site, applied, revision, .. } = line;
            Some(Entry::Present(Ownership { resource, site, applied, revision: revision.as_ref(), at }))
        }
        (OwnedState::Present | OwnedState::Removing, true) => None,
    }
}

/// Names of all that is on the host, whatever state it is in.
struct Resources {
    networks: BTreeSet<String>,
    volumes: BTreeSet<String>,
    containers: BTreeSet<String>,
}

impl Resources {
    fn read(engine: &Engine) -> std::result::Result<Self, BoxError> {
        Ok(Self {
            networks: list_networks(engine.places())?.into_keys().map(|name| name.to_string()).collect(),
            volumes: list_volumes(engine.places())?.into_keys().map(|name| name.to_string()).collect(),
            containers: engine.containers()?.into_keys().map(|id| id.to_string()).collect(),
        })
    }

    fn has(&self, engine: &Engine, resource: &ResourceId) -> std::result::Result<bool, BoxError> {
        Ok(match resource.kind {
            Kind::Image => engine.images().find(&resource.name)?.is_some(),
            Kind::Network => self.networks.contains(&resource.name),
            Kind::Volume => self.volumes.contains(&resource.name),
            Kind::Container => self.containers.contains(&resource.name),
        })
    }
}

/// Removes snapshots of site content that no container mounts any more.
pub fn collect_snapshots(engine: &Engine) -> Result {
    for path in unused_snapshots(engine, &BTreeSet::new())? {
        content::remove(&path).map_err(|error| HostError::new("remove old snapshots", error))?;
    }
    Ok(())
}

/// Snapshots of site content that no container mounts once these are gone. A container that cannot be read may mount any of them: then
/// all are in use.
pub fn unused_snapshots(engine: &Engine, going: &BTreeSet<ContainerId>) -> Result<Vec<PathBuf>> {
    let failed = |error: BoxError| HostError::new("look for old snapshots", error);
    let mut in_use = BTreeSet::new();
    for (_, snapshot) in engine.containers().map_err(|error| failed(error.into()))?.into_iter().filter(|(id, _)| !going.contains(id)) {
        let Ok(snapshot) = snapshot else { return Ok(Vec::new()) };
        in_use.extend(snapshot.config.mounts.into_iter().filter_map(|mount| match mount {
            MountConfig::Bind { source, .. } => Some(source),
            MountConfig::Layers { .. } | MountConfig::Tmpfs { .. } => None,
        }));
    }
    content::unused(engine.places(), &in_use).map_err(|error| failed(error.into()))
}
