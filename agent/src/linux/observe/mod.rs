//! Looks at the host: one snapshot for the planner. Reads everything, writes nothing; what cannot be read is said to be unreadable.

mod containers;

use super::record::{Applied, AppliedImage};
use super::registries::registry_settings;
use crate::host::{HostError, chain};
use crate::ledger::{Ledger, OwnedState};
use crate::plan::actual::{Actual, ActualContainer, ActualImage, ActualNetwork, ActualVolume, ContainerFault, Firewall, Observed, Owner};
use runtime::container::state::Phase;
use runtime::engine::Engine;
use runtime::image::registry::{Settings, policy};
use runtime::network::{FirewallState, Links, NetworkRecord, Traffic, list_networks};
use runtime::volume::{VolumeRecord, list_volumes};
use spec::desired::{Desired, Image, ImageKey, ImageSource, Kind, Network, Volume};
use spec::value::{ContainerId, Name, PortMapping};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, HostError>;

pub(super) fn observe(engine: &Engine, ledger: Option<&Ledger>, desired: &Desired) -> Result<Actual> {
    Ok(Actual { images: images(engine, ledger, desired)?, ..all_but_images(engine)? })
}

/// What there is whatever a site names.
pub(super) fn all_but_images(engine: &Engine) -> Result<Actual> {
    let failed = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| HostError::new(format!("look at the {what}"), error);
    let records = list_networks(engine.places()).map_err(|error| failed("networks", error.into()))?;
    let links = Links::read(engine.places(), records.keys()).map_err(|error| failed("links", error.into()))?;
    let volumes = list_volumes(engine.places()).map_err(|error| failed("volumes", error.into()))?;
    let ids = engine.container_ids().map_err(|error| failed("containers", error.into()))?;
    let looked = std::thread::scope(|scope| {
        // Who cannot read it now is told with the firewall.
        scope.spawn(|| engine.read_traffic());
        containers::look(engine, &links, &ids.into_iter().collect::<Vec<_>>())
    });
    let (mut containers, expected) = looked.map_err(|error| failed("containers", error.into()))?;

    let readable: BTreeMap<Name, NetworkRecord> =
        records.iter().filter_map(|(name, record)| Some((name.clone(), record.as_ref().ok()?.clone()))).collect();
    let (firewall, missing_ports) = firewall(engine, &readable, &expected).map_err(|error| failed("nftables table", error))?;
    for (id, missing) in missing_ports {
        if let Some(Observed::Present(ActualContainer { phase: Phase::Running { .. }, faults, .. })) = containers.get_mut(&id) {
            faults.insert(ContainerFault::Ports { missing });
        }
    }
    Ok(Actual {
        images: BTreeMap::new(),
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

fn network(record: std::result::Result<NetworkRecord, runtime::network::NetworkError>, links: &Links) -> Observed<ActualNetwork> {
    let record = match record {
        Ok(record) => record,
        Err(error) => return Observed::Unreadable { why: chain(&error) },
    };
    match Applied::<Network>::read(&record.annotations) {
        Err(why) => Observed::Unreadable { why },
        Ok(Applied { owner, applied, written }) => Observed::Present(ActualNetwork {
            faults: links.network_faults(&record),
            subnet: record.subnet,
            gateway: record.gateway,
            owner,
            applied,
            written,
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
        Ok(Applied { owner, applied, written }) => Observed::Present(ActualVolume { applied, written, owner }),
    }
}

/// Images that the site names, and images the ledger says were obtained.
pub(super) fn images(engine: &Engine, ledger: Option<&Ledger>, desired: &Desired) -> Result<BTreeMap<ImageKey, Observed<ActualImage>>> {
    let failed = |error: crate::ledger::LedgerError| HostError::new("look at the images", error);
    let settings = registry_settings(&engine.places().config).map_err(|error| HostError::new("look at the images", error))?;
    let mut found = BTreeMap::new();
    let owned = ledger.map(|ledger| ledger.owned_of(Kind::Image)).transpose().map_err(failed)?;
    for owned in owned.into_iter().flatten() {
        if owned.state == OwnedState::Creating {
            continue;
        }
        let Some(key) = super::image::key_of(&owned.resource.name) else { continue };
        let Ok(applied) = serde_json::from_value::<AppliedImage>(owned.applied) else { continue };
        if let Some(observed) = look_at(engine, &key, applied, Owner::Site(owned.site)).filter(|it| may_be_used(engine, &settings, it)) {
            found.insert(key, observed);
        }
    }
    for key in desired.images.keys().filter(|key| matches!(key, ImageKey::Reference(_))) {
        // Pulled, built or imported by hand: what is here under that name is used as it is.
        let ImageKey::Reference(reference) = key else { continue };
        if !found.contains_key(key) {
            let image = Image { source: ImageSource::Pull { reference: reference.clone() }, push: BTreeSet::new() };
            let applied = AppliedImage { image, bases: BTreeMap::new(), written: None, published: BTreeMap::new() };
            let here = look_at(engine, key, applied, Owner::Hand).filter(|it| may_be_used(engine, &settings, it));
            found.extend(here.map(|observed| (key.clone(), observed)));
        }
    }
    Ok(found)
}

/// An image of the store; `None` if it is not there.
fn look_at(engine: &Engine, key: &ImageKey, applied: AppliedImage, owner: Owner) -> Option<Observed<ActualImage>> {
    let store = engine.images();
    let named = store.find(&key.to_string()).and_then(|id| match (id, bare_name(key)) {
        (None, Some(name)) => store.find(name),
        (id, _) => Ok(id),
    });
    let image = named.and_then(|id| id.map(|id| store.image(&id)).transpose());
    Some(match image {
        Ok(None) => return None,
        Err(error) => Observed::Unreadable { why: chain(&error) },
        Ok(Some(image)) => {
            let has_healthcheck =
                image.config.config.healthcheck.is_some_and(|check| check.test.first().is_some_and(|word| word != "NONE"));
            let volumes = image.config.config.volumes.into_keys().collect();
            let AppliedImage { image: applied, bases, written, published } = applied;
            Observed::Present(ActualImage { digest: image.id, applied, bases, published, owner, written, has_healthcheck, volumes })
        }
    })
}

/// Whether the policy of this host takes an image of a registry as it is known here. One that it does not take counts as absent: to
/// obtain it is then to have it verified, or refused with the reason.
fn may_be_used(engine: &Engine, settings: &Settings, observed: &Observed<ActualImage>) -> bool {
    match observed {
        Observed::Present(ActualImage { applied: Image { source: ImageSource::Pull { reference }, .. }, digest, .. }) => {
            // A record that cannot be read proves nothing.
            policy::is_settled(settings, engine.images(), reference, digest).unwrap_or(false)
        }
        Observed::Present(_) | Observed::Unreadable { .. } => true,
    }
}

/// The bare name that a reference was completed from, as Docker completes it: an image of a site is found by it.
fn bare_name(key: &ImageKey) -> Option<&str> {
    match key {
        ImageKey::Reference(it) if it.registry() == "docker.io" && it.tag() == Some("latest") && it.digest().is_none() => {
            it.repository().strip_prefix("library/")
        }
        ImageKey::Reference(_) | ImageKey::Named(_) => None,
    }
}
