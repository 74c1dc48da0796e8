//! Looks at the host: one snapshot for the planner. Reads everything, writes nothing; what cannot be read is said to be unreadable.

use super::record::Applied;
use crate::host::{HostError, chain};
use crate::ledger::{Ledger, OwnedState};
use crate::plan::actual::{Actual, ActualContainer, ActualImage, ActualNetwork, ActualVolume, ContainerFault, Firewall, Observed, Owner};
use runtime::cgroup::{Cgroup, CgroupError, Layout, settled};
use runtime::container::config::{Endpoint, NetworkConfig};
use runtime::container::state::{ExitCause, Phase};
use runtime::container::{ContainerError, Snapshot};
use runtime::engine::{Engine, Keep, served};
use runtime::network::{FirewallState, Links, NetworkRecord, Serving, Traffic, list_networks};
use runtime::volume::{VolumeRecord, list_volumes};
use spec::desired::{Container, Desired, Image, ImageKey, ImageSource, Kind, Network, Volume};
use spec::value::{ContainerId, Digest, Name, PortMapping};
use std::collections::{BTreeMap, BTreeSet};

/// What an obtained image's ledger entry says: what it was made from, and on which images of the site.
pub(super) type AppliedImage = (Image, BTreeMap<Name, Digest>);

/// So many containers are worth a thread of their own: starting one costs as much as looking at a few.
const CONTAINERS_A_THREAD: usize = 32;

type Result<T> = std::result::Result<T, HostError>;

pub(super) fn observe(engine: &Engine, ledger: Option<&Ledger>, desired: &Desired) -> Result<Actual> {
    let failed = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| HostError::new(format!("look at the {what}"), error);
    let links = Links::read(engine.places()).map_err(|error| failed("links", error.into()))?;
    let records = list_networks(engine.places()).map_err(|error| failed("networks", error.into()))?;
    let volumes = list_volumes(engine.places()).map_err(|error| failed("volumes", error.into()))?;
    let surroundings = Surroundings { engine, links: &links, layout: Layout::detect() };
    let ids = engine.container_ids().map_err(|error| failed("containers", error.into()))?;
    let (mut containers, expected) = containers(&surroundings, &ids.into_iter().collect::<Vec<_>>());

    let readable: BTreeMap<Name, NetworkRecord> =
        records.iter().filter_map(|(name, record)| Some((name.clone(), record.as_ref().ok()?.clone()))).collect();
    let (firewall, missing_ports) = firewall(engine, &readable, &expected).map_err(|error| failed("nftables table", error))?;
    for (id, missing) in missing_ports {
        if let Some(Observed::Present(ActualContainer { phase: Phase::Running { .. }, faults, .. })) = containers.get_mut(&id) {
            faults.insert(ContainerFault::Ports { missing });
        }
    }
    Ok(Actual {
        images: images(engine, ledger, desired)?,
        containers,
        networks: records.into_iter().map(|(name, record)| (name, network(record, &links))).collect(),
        volumes: volumes.into_iter().map(|(name, record)| (name, volume(record))).collect(),
        foreign_subnets: links.foreign_subnets(),
        firewall,
    })
}

/// Whether the table is as last written, and which published ports do not lead where they should.
#[expect(clippy::type_complexity, reason = "two answers from one look at the kernel")]
fn firewall(
    engine: &Engine,
    networks: &BTreeMap<Name, NetworkRecord>,
    expected: &Traffic,
) -> std::result::Result<(Firewall, BTreeMap<ContainerId, Vec<PortMapping>>), Box<dyn std::error::Error + Send + Sync>> {
    let state = FirewallState::read(engine.places())?;
    if !state.faults(engine.places(), networks, &engine.traffic()?)?.is_empty() {
        return Ok((Firewall::Broken, BTreeMap::new()));
    }
    Ok((Firewall::Intact, state.missing_ports(networks, expected)))
}

/// What is looked at once for all containers.
struct Surroundings<'a> {
    engine: &'a Engine,
    links: &'a Links,
    layout: std::result::Result<Layout, CgroupError>,
}

/// A container as the planner sees it, and what should lead to it.
type Seen = (Observed<ActualContainer>, Option<Serving>);

/// Looks at all of them, on all processors: each is a handful of small files, most of them of the kernel's making.
fn containers(surroundings: &Surroundings<'_>, ids: &[ContainerId]) -> (BTreeMap<ContainerId, Observed<ActualContainer>>, Traffic) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(ids.len() / CONTAINERS_A_THREAD + 1);
    let part = |ids: &[ContainerId]| -> Vec<(ContainerId, Seen)> {
        ids.iter().filter_map(|id| Some((id.clone(), look_at(surroundings, id)?))).collect()
    };
    let (mut seen, mut traffic) = (BTreeMap::new(), Traffic::new());
    std::thread::scope(|scope| {
        let mut parts = ids.chunks(ids.len().div_ceil(workers).max(1));
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> = parts.map(|ids| scope.spawn(move || part(ids))).collect();
        let others = std::iter::once(part(first)).chain(others.into_iter().map(|part| match part.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        for (id, (observed, serving)) in others.flatten() {
            traffic.extend(serving.map(|serving| (id.clone(), serving)));
            seen.insert(id, observed);
        }
    });
    (seen, traffic)
}

/// One container; `None` if it was removed while we looked.
fn look_at(surroundings: &Surroundings<'_>, id: &ContainerId) -> Option<Seen> {
    match runtime::container::inspect(surroundings.engine.places(), id) {
        Ok(snapshot) => {
            let serving = served(&snapshot);
            Some((container(surroundings, id, snapshot), serving))
        }
        Err(ContainerError::NotFound { .. }) => None,
        Err(error) => Some((Observed::Unreadable { why: chain(&error) }, None)),
    }
}

fn container(surroundings: &Surroundings<'_>, id: &ContainerId, snapshot: Snapshot) -> Observed<ActualContainer> {
    let record = match Applied::<Container>::read(Keep::annotations_of(&snapshot.annotations)) {
        Ok(record) => record,
        Err(why) => return Observed::Unreadable { why },
    };
    let endpoints: &[Endpoint] = match &snapshot.config.network {
        NetworkConfig::Bridged { endpoints, .. } => endpoints,
        NetworkConfig::Host | NetworkConfig::None => &[],
    };
    let faults = match snapshot.state.phase {
        Phase::Running { .. } => faults(surroundings, id, &snapshot, endpoints),
        Phase::Created | Phase::Restarting { .. } | Phase::Exited { .. } => BTreeSet::new(),
    };
    Observed::Present(ActualContainer {
        image: snapshot.config.image,
        endpoints: endpoints.to_vec(),
        completed: completed(&snapshot),
        stopped_by_user: snapshot.stopped_by_user,
        serving: Keep::serves(&snapshot.annotations),
        owner: record.owner,
        applied: record.applied,
        phase: snapshot.state.phase,
        faults,
    })
}

/// Whether it once ended by itself with 0.
fn completed(snapshot: &Snapshot) -> bool {
    let exit = match &snapshot.state.phase {
        Phase::Exited { exit } => Some(exit),
        Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } => snapshot.last_exit.as_ref(),
    };
    exit.is_some_and(|exit| exit.code == 0 && exit.cause == ExitCause::Own)
}

fn faults(surroundings: &Surroundings<'_>, id: &ContainerId, snapshot: &Snapshot, endpoints: &[Endpoint]) -> BTreeSet<ContainerFault> {
    let mut faults = BTreeSet::new();
    if !snapshot.shim_alive {
        faults.insert(ContainerFault::Shim);
    }
    let wanted = settled(&snapshot.config.updatable.resources);
    let places = surroundings.engine.places();
    let found = match &surroundings.layout {
        Ok(layout) => Cgroup::within(layout, places, id).read_limits().map_err(|error| chain(&error)),
        Err(error) => Err(chain(error)),
    };
    match found {
        Ok(found) if found == wanted => {}
        Ok(found) => drop(faults.insert(ContainerFault::Limits { found: describe_limits(&found) })),
        // It has ended since its state was read, and its group with it.
        Err(_) if !runs(surroundings.engine, id) => return BTreeSet::new(),
        Err(found) => drop(faults.insert(ContainerFault::Limits { found })),
    }
    faults.extend(surroundings.links.link_faults(id, endpoints).into_iter().map(|network| ContainerFault::Link { network }));
    faults
}

fn runs(engine: &Engine, id: &ContainerId) -> bool {
    runtime::container::inspect(engine.places(), id).is_ok_and(|snapshot| matches!(snapshot.state.phase, Phase::Running { .. }))
}

fn describe_limits(limits: &runtime::container::config::ResourceLimits) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let (memory, cpus) = (limits.memory.map(|it| it.to_string()), limits.cpus.map(|it| it.to_string()));
    format!("memory {}, cpus {}, pids {}", text(memory), text(cpus), text(limits.pids.map(|it| it.to_string())))
}

fn network(record: std::result::Result<NetworkRecord, runtime::network::NetworkError>, links: &Links) -> Observed<ActualNetwork> {
    let record = match record {
        Ok(record) => record,
        Err(error) => return Observed::Unreadable { why: chain(&error) },
    };
    match Applied::<Network>::read(&record.annotations) {
        Err(why) => Observed::Unreadable { why },
        Ok(Applied { owner, applied }) => Observed::Present(ActualNetwork {
            faults: links.network_faults(&record),
            subnet: record.subnet,
            gateway: record.gateway,
            owner,
            applied,
        }),
    }
}

fn volume(record: std::result::Result<VolumeRecord, runtime::volume::VolumeError>) -> Observed<ActualVolume> {
    let record = match record {
        Ok(record) => record,
        Err(error) => return Observed::Unreadable { why: chain(&error) },
    };
    match Applied::<Volume>::read(&record.annotations) {
        Err(why) => Observed::Unreadable { why },
        Ok(Applied { owner, applied }) => Observed::Present(ActualVolume { applied, owner }),
    }
}

/// Images that the site names, and images the ledger says were obtained.
fn images(engine: &Engine, ledger: Option<&Ledger>, desired: &Desired) -> Result<BTreeMap<ImageKey, Observed<ActualImage>>> {
    let failed = |error: crate::ledger::LedgerError| HostError::new("look at the images", error);
    let mut found = BTreeMap::new();
    let owned = ledger.map(|ledger| ledger.owned_of(Kind::Image)).transpose().map_err(failed)?;
    for owned in owned.into_iter().flatten() {
        if owned.state != OwnedState::Present {
            continue;
        }
        let Some(key) = super::image::key_of(&owned.resource.name) else { continue };
        let Ok((applied, bases)) = serde_json::from_value::<AppliedImage>(owned.applied) else { continue };
        if let Some(observed) = image(engine, &key, applied, bases, Owner::Site(owned.site)) {
            found.insert(key, observed);
        }
    }
    for key in desired.images.keys().filter(|key| matches!(key, ImageKey::Reference(_))) {
        // Pulled, built or imported by hand: what is here under that name is used as it is.
        let ImageKey::Reference(reference) = key else { continue };
        if !found.contains_key(key) {
            let applied = Image { source: ImageSource::Pull { reference: reference.clone() } };
            found.extend(image(engine, key, applied, BTreeMap::new(), Owner::Hand).map(|observed| (key.clone(), observed)));
        }
    }
    Ok(found)
}

/// An image of the store; `None` if it is not there.
fn image(engine: &Engine, key: &ImageKey, applied: Image, bases: BTreeMap<Name, Digest>, owner: Owner) -> Option<Observed<ActualImage>> {
    let image = engine.images().find(&key.to_string()).and_then(|id| id.map(|id| engine.images().image(&id)).transpose());
    Some(match image {
        Ok(None) => return None,
        Err(error) => Observed::Unreadable { why: chain(&error) },
        Ok(Some(image)) => {
            let has_healthcheck =
                image.config.config.healthcheck.is_some_and(|check| check.test.first().is_some_and(|word| word != "NONE"));
            Observed::Present(ActualImage { digest: image.id, applied, bases, owner, has_healthcheck })
        }
    })
}
