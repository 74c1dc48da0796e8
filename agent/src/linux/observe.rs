//! Looks at the host: one snapshot for the planner. Reads everything, writes nothing; what cannot be read is said to be unreadable.

use super::record::{Applied, AppliedImage};
use crate::host::{HostError, chain};
use crate::ledger::{Ledger, OwnedState};
use crate::plan::actual::{Actual, ActualContainer, ActualImage, ActualNetwork, ActualVolume, ContainerFault, Firewall, Observed, Owner};
use runtime::cgroup::{Cgroup, settled};
use runtime::container::config::{Endpoint, NetworkConfig};
use runtime::container::state::{ExitCause, Phase, ProcessRef};
use runtime::container::{ContainerError, Snapshot};
use runtime::engine::{Engine, Keep, served};
use runtime::network::{FirewallState, Links, NetworkRecord, Traffic, list_networks};
use runtime::volume::{VolumeRecord, list_volumes};
use spec::desired::{Container, Desired, Image, ImageKey, ImageSource, Kind, Network, Volume};
use spec::value::{ContainerId, Digest, Name, PortMapping};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, HostError>;

pub(super) fn observe(engine: &Engine, ledger: Option<&Ledger>, desired: &Desired) -> Result<Actual> {
    let failed = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| HostError::new(format!("look at the {what}"), error);
    let links = Links::read(engine.places()).map_err(|error| failed("links", error.into()))?;
    let records = list_networks(engine.places()).map_err(|error| failed("networks", error.into()))?;
    let volumes = list_volumes(engine.places()).map_err(|error| failed("volumes", error.into()))?;
    let snapshots = engine.containers().map_err(|error| failed("containers", error.into()))?;

    let readable: BTreeMap<Name, NetworkRecord> =
        records.iter().filter_map(|(name, record)| Some((name.clone(), record.as_ref().ok()?.clone()))).collect();
    let expected: Traffic = snapshots.iter().filter_map(|(id, snapshot)| Some((id.clone(), served(snapshot.as_ref().ok()?)?))).collect();
    let (firewall, missing_ports) = firewall(engine, &readable, &expected).map_err(|error| failed("nftables table", error))?;

    let containers = snapshots.into_iter().filter_map(|(id, snapshot)| {
        let observed = match snapshot {
            Ok(snapshot) => container(engine, &id, snapshot, &links, missing_ports.get(&id))?,
            Err(error) => Observed::Unreadable { why: chain(&error) },
        };
        Some((id, observed))
    });
    Ok(Actual {
        images: images(engine, ledger, desired)?,
        containers: containers.collect(),
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

/// One container; `None` if it was removed while we looked.
fn container(
    engine: &Engine,
    id: &ContainerId,
    mut snapshot: Snapshot,
    links: &Links,
    missing_ports: Option<&Vec<PortMapping>>,
) -> Option<Observed<ActualContainer>> {
    let faults = loop {
        let faults = faults(engine, id, &snapshot, links, missing_ports);
        if faults.is_empty() {
            break faults;
        }
        // It may have ended, or been started again, while we looked: what is gone with it is no fault.
        match runtime::container::inspect(engine.places(), id) {
            Ok(now) if process(&now) == process(&snapshot) && now.shim_alive == snapshot.shim_alive => break faults,
            Ok(now) => snapshot = now,
            Err(ContainerError::NotFound { .. }) => return None,
            Err(error) => return Some(Observed::Unreadable { why: chain(&error) }),
        }
    };
    let keep = Keep::of(&snapshot.annotations);
    let record = match Applied::<Container>::read(&keep.annotations) {
        Ok(record) => record,
        Err(why) => return Some(Observed::Unreadable { why }),
    };
    Some(Observed::Present(ActualContainer {
        image: snapshot.config.image,
        endpoints: endpoints(&snapshot).to_vec(),
        completed: completed(&snapshot),
        stopped_by_user: snapshot.stopped_by_user,
        serving: keep.serving,
        owner: record.owner,
        applied: record.applied,
        phase: snapshot.state.phase,
        faults,
    }))
}

fn process(snapshot: &Snapshot) -> Option<ProcessRef> {
    match snapshot.state.phase {
        Phase::Running { process, .. } => Some(process),
        Phase::Created | Phase::Restarting { .. } | Phase::Exited { .. } => None,
    }
}

fn endpoints(snapshot: &Snapshot) -> &[Endpoint] {
    match &snapshot.config.network {
        NetworkConfig::Bridged { endpoints, .. } => endpoints,
        NetworkConfig::Host | NetworkConfig::None => &[],
    }
}

/// Whether it once ended by itself with 0.
fn completed(snapshot: &Snapshot) -> bool {
    let exit = match &snapshot.state.phase {
        Phase::Exited { exit } => Some(exit),
        Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } => snapshot.last_exit.as_ref(),
    };
    exit.is_some_and(|exit| exit.code == 0 && exit.cause == ExitCause::Own)
}

/// What differs from its configuration, of a container that runs or is to run again.
fn faults(
    engine: &Engine,
    id: &ContainerId,
    snapshot: &Snapshot,
    links: &Links,
    missing_ports: Option<&Vec<PortMapping>>,
) -> BTreeSet<ContainerFault> {
    let mut faults = BTreeSet::new();
    match snapshot.state.phase {
        Phase::Running { .. } => {}
        // Nobody would ever start it again.
        Phase::Restarting { .. } if !snapshot.shim_alive => return BTreeSet::from([ContainerFault::Shim]),
        Phase::Created | Phase::Restarting { .. } | Phase::Exited { .. } => return faults,
    }
    if !snapshot.shim_alive {
        faults.insert(ContainerFault::Shim);
    }
    let wanted = settled(&snapshot.config.updatable.resources);
    match Cgroup::of_container(engine.places(), id).and_then(|cgroup| cgroup.read_limits()) {
        Ok(found) if found == wanted => {}
        Ok(found) => drop(faults.insert(ContainerFault::Limits { found: describe_limits(&found) })),
        Err(error) => drop(faults.insert(ContainerFault::Limits { found: chain(&error) })),
    }
    faults.extend(links.link_faults(id, endpoints(snapshot)).into_iter().map(|network| ContainerFault::Link { network }));
    faults.extend(missing_ports.map(|missing| ContainerFault::Ports { missing: missing.clone() }));
    faults
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
    let owned = ledger.map(|ledger| ledger.owned(None)).transpose().map_err(failed)?;
    for owned in owned.into_iter().flatten() {
        if owned.resource.kind != Kind::Image || owned.state == OwnedState::Creating {
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
