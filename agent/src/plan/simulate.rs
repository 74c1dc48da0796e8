//! What each action makes of a host, as the executor promises it. Pure: the properties of plans are tested against this, and a
//! plan can be shown further than its first images.

use super::action::{Action, Traffic};
use super::actual::{Actual, ActualContainer, ActualImage, ActualNetwork, ActualVolume, ContainerFault, Firewall, Observed, Owner, SiteId};
use super::draft::resource;
use runtime::container::config::Endpoint;
use runtime::container::state::{Exit, ExitCause, Health, Phase, ProcessRef, Timestamp};
use spec::desired::{Container, DependencyCondition, Desired, Image, ImageKey, ImageSource, Kind};
use spec::value::{ContainerId, Digest, Name};
use std::collections::{BTreeMap, BTreeSet};

/// The host after one action for a site that succeeded; what the site says is remembered beside what is made. Times and process ids
/// are zero; an image's digest follows from what it is made of.
#[must_use]
pub fn simulate(mut actual: Actual, action: &Action, desired: &Desired, site: &SiteId) -> Actual {
    let owner = Owner::Site(site.clone());
    let written = |kind: Kind, name: &dyn std::fmt::Display| desired.written.get(&resource(kind, name)).copied();
    match action {
        Action::ObtainImage { key, image } => obtain(&mut actual, key, image, (owner, written(Kind::Image, key))),
        Action::PushImage { key, image, digest, references } => with(actual.images.get_mut(key), |one| {
            one.applied = image.clone();
            one.written = written(Kind::Image, key);
            one.published.extend(references.iter().map(|reference| (reference.clone(), *digest)));
        }),
        Action::ForgetImage { key } => drop(actual.images.remove(key)),
        Action::CreateNetwork { name, network, subnet, gateway, owner } => {
            let (applied, subnet, gateway, owner) = (network.clone(), *subnet, *gateway, owner.clone());
            let written = written(Kind::Network, name);
            let made = ActualNetwork { applied, written, subnet, gateway, owner, faults: BTreeSet::new() };
            actual.networks.insert(name.clone(), Observed::Present(made));
        }
        Action::UpdateNetwork { name, network } => with(actual.networks.get_mut(name), |one| {
            one.applied = network.clone();
            one.written = written(Kind::Network, name);
        }),
        Action::RepairNetwork { name } => repair_network(&mut actual, name),
        Action::RemoveNetwork { name } => drop(actual.networks.remove(name)),
        Action::CreateVolume { name, volume } => {
            let made = ActualVolume { applied: volume.clone(), written: written(Kind::Volume, name), owner };
            actual.volumes.insert(name.clone(), Observed::Present(made));
        }
        Action::UpdateVolume { name, volume } => with(actual.volumes.get_mut(name), |one| {
            one.applied = volume.clone();
            one.written = written(Kind::Volume, name);
        }),
        Action::RemoveVolume { name } => drop(actual.volumes.remove(name)),
        Action::CreateContainer { id, spec, image, endpoints } => {
            let made = made(spec, *image, endpoints, (owner, written(Kind::Container, &id.name)));
            actual.containers.insert(id.clone(), Observed::Present(made));
        }
        Action::StartContainer { id, traffic } => start(&mut actual, id, *traffic),
        Action::AwaitContainer { id, until } => with(actual.containers.get_mut(id), |one| come_far(one, *until)),
        Action::SwitchTraffic { from, to } => switch_traffic(&mut actual, from.as_ref(), to),
        Action::UpdateContainer { id, spec, endpoints } => with(actual.containers.get_mut(id), |one| {
            one.applied = spec.clone();
            one.written = written(Kind::Container, &id.name);
            one.endpoints = endpoints.clone();
        }),
        Action::RepairContainer { id, fault } => with(actual.containers.get_mut(id), |one| {
            one.faults.remove(fault);
        }),
        Action::StopContainer { id } => with(actual.containers.get_mut(id), |one| {
            one.phase = Phase::Exited { exit: exit(143, ExitCause::Requested) };
            one.faults.clear();
        }),
        Action::RemoveContainer { id } => drop(actual.containers.remove(id)),
        Action::RepairFirewall => repair_firewall(&mut actual),
    }
    actual
}

/// A container as it is made: nothing runs, nothing leads to it.
fn made(spec: &Container, image: Digest, endpoints: &[Endpoint], (owner, written): (Owner, Option<Digest>)) -> ActualContainer {
    ActualContainer {
        applied: Box::new(spec.clone()),
        written,
        image,
        endpoints: endpoints.to_vec(),
        owner,
        phase: Phase::Created,
        stopped_by_user: false,
        completed: false,
        serving: false,
        faults: BTreeSet::new(),
    }
}

fn with<T>(observed: Option<&mut Observed<T>>, change: impl FnOnce(&mut T)) {
    match observed {
        Some(Observed::Present(resource)) => change(resource),
        Some(Observed::Unreadable { .. }) | None => {}
    }
}

fn present(containers: &mut BTreeMap<ContainerId, Observed<ActualContainer>>) -> impl Iterator<Item = &mut ActualContainer> {
    containers.values_mut().filter_map(|observed| match observed {
        Observed::Present(container) => Some(container),
        Observed::Unreadable { .. } => None,
    })
}

fn obtain(actual: &mut Actual, key: &ImageKey, image: &Image, (owner, written): (Owner, Option<Digest>)) {
    let bases: BTreeMap<Name, Digest> = match &image.source {
        ImageSource::Build { bases, .. } => {
            let digest = |name: &Name| match actual.images.get(&ImageKey::Named(name.clone())) {
                Some(Observed::Present(base)) => Some((name.clone(), base.digest)),
                Some(Observed::Unreadable { .. }) | None => None,
            };
            bases.iter().filter_map(digest).collect()
        }
        ImageSource::Pull { .. } | ImageSource::Archive { .. } => BTreeMap::new(),
    };
    let (has_healthcheck, volumes, published) = match actual.images.get(key) {
        Some(Observed::Present(before)) => (before.has_healthcheck, before.volumes.clone(), before.published.clone()),
        Some(Observed::Unreadable { .. }) | None => Default::default(),
    };
    let digest = Digest::of(format!("{:?} {bases:?}", image.source).as_bytes());
    let made = ActualImage { digest, applied: image.clone(), written, bases, published, owner, has_healthcheck, volumes };
    actual.images.insert(key.clone(), Observed::Present(made));
}

fn repair_network(actual: &mut Actual, name: &Name) {
    with(actual.networks.get_mut(name), |one| one.faults.clear());
    for one in present(&mut actual.containers) {
        one.faults.retain(|fault| !matches!(fault, ContainerFault::Link { network } if network == name));
    }
}

fn switch_traffic(actual: &mut Actual, from: Option<&ContainerId>, to: &ContainerId) {
    with(from.and_then(|from| actual.containers.get_mut(from)), |one| one.serving = false);
    with(actual.containers.get_mut(to), |one| one.serving = true);
}

fn repair_firewall(actual: &mut Actual) {
    actual.firewall = Firewall::Intact;
    for one in present(&mut actual.containers) {
        one.faults.retain(|fault| !matches!(fault, ContainerFault::Ports { .. }));
    }
}

fn start(actual: &mut Actual, id: &ContainerId, traffic: Traffic) {
    let is_probed = match actual.containers.get(id) {
        Some(Observed::Present(one)) => match &one.applied.healthcheck {
            Some(probe) => !probe.test.is_empty(),
            None => matches!(actual.images.get(&one.applied.image), Some(Observed::Present(image)) if image.has_healthcheck),
        },
        Some(Observed::Unreadable { .. }) | None => false,
    };
    with(actual.containers.get_mut(id), |one| {
        let health = if is_probed { Health::Starting } else { Health::Unchecked };
        one.phase = running(health);
        one.stopped_by_user = false;
        one.completed = false;
        one.faults.clear();
        one.serving = traffic == Traffic::Now;
    });
}

fn come_far(one: &mut ActualContainer, until: DependencyCondition) {
    match until {
        DependencyCondition::Started => {}
        DependencyCondition::Healthy => {
            let unchecked = matches!(one.phase, Phase::Running { health: Health::Unchecked, .. });
            one.phase = running(if unchecked { Health::Unchecked } else { Health::Healthy });
        }
        DependencyCondition::Completed => {
            one.phase = Phase::Exited { exit: exit(0, ExitCause::Own) };
            one.completed = true;
        }
    }
}

fn running(health: Health) -> Phase {
    Phase::Running { process: ProcessRef { pid: 0, start_time: 0 }, since: Timestamp(0), health }
}

fn exit(code: i32, cause: ExitCause) -> Exit {
    Exit { code, cause, started: Timestamp(0), finished: Timestamp(0) }
}
