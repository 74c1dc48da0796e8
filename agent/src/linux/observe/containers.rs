//! Looks at containers: what they were told to be, what they are, and what is broken about them.

use super::super::record::Applied;
use crate::host::chain;
use crate::plan::actual::{ActualContainer, ContainerFault, Observed};
use runtime::cgroup::{CgroupError, Groups, settled};
use runtime::container::config::{Endpoint, NetworkConfig, Outline};
use runtime::container::state::{ExitCause, Phase, ProcessRef};
use runtime::container::{ContainerError, Shelves};
use runtime::engine::{Engine, Keep, servable};
use runtime::network::{Links, Serving, Traffic};
use spec::desired::Container;
use spec::value::ContainerId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many containers are worth a thread of their own: starting one costs as much as looking at a few.
const CONTAINERS_A_THREAD: usize = 32;

/// A container with what we keep beside it; `None` for one that was not made by us.
type Snapshot = runtime::container::Snapshot<Option<Keep<Option<Applied<Box<Container>>>>>, Outline>;

/// What is looked at once for all containers.
struct Surroundings<'a> {
    shelves: Shelves,
    links: &'a Links,
    groups: Result<Groups, CgroupError>,
}

/// A container as the planner sees it, and what should lead to it.
type Seen = (Observed<ActualContainer>, Option<Serving>);

/// Looks at all of them, on all processors: each is a handful of small files, most of them of the kernel's making.
pub(super) fn look(
    engine: &Engine,
    links: &Links,
    ids: &[ContainerId],
) -> Result<(BTreeMap<ContainerId, Observed<ActualContainer>>, Traffic), ContainerError> {
    let places = engine.places();
    let surroundings = &Surroundings { shelves: Shelves::open(places)?, links, groups: Groups::open(places) };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(ids.len() / CONTAINERS_A_THREAD + 1);
    // Whoever is ready takes the next few: another thread of ours may be busy with the site meanwhile.
    let (next, parts) = (&AtomicUsize::new(0), &ids.chunks(CONTAINERS_A_THREAD).collect::<Vec<_>>());
    let work = || -> Vec<(ContainerId, Seen)> {
        let mut seen = Vec::with_capacity(ids.len());
        while let Some(ids) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            seen.extend(ids.iter().filter_map(|id| Some((id.clone(), look_at(surroundings, id)?))));
        }
        seen
    };
    let (mut seen, mut traffic) = (BTreeMap::new(), Traffic::new());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let others = std::iter::once(work()).chain(others.into_iter().map(|part| match part.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        for (id, (observed, serving)) in others.flatten() {
            traffic.extend(serving.map(|serving| (id.clone(), serving)));
            seen.insert(id, observed);
        }
    });
    Ok((seen, traffic))
}

/// One container; `None` if it was removed while we looked.
fn look_at(surroundings: &Surroundings<'_>, id: &ContainerId) -> Option<Seen> {
    let look = || match surroundings.shelves.inspect::<Option<Keep<_>>, _>(id) {
        Err(ContainerError::NotFound { .. }) => None,
        found => Some(found.map_err(|error| (Observed::Unreadable { why: chain(&error) }, None))),
    };
    let mut snapshot = match look()? {
        Ok(snapshot) => snapshot,
        Err(unreadable) => return Some(unreadable),
    };
    let faults = loop {
        let faults = faults(surroundings, id, &snapshot);
        if faults.is_empty() {
            break faults;
        }
        // It may have ended, or been started again, while we looked: what is gone with it is no fault.
        match look()? {
            Ok(now) if process(&now) == process(&snapshot) && now.shim_alive == snapshot.shim_alive => break faults,
            Ok(now) => snapshot = now,
            Err(unreadable) => return Some(unreadable),
        }
    };
    let serves = snapshot.annotations.as_ref().is_none_or(|keep| keep.serving);
    let serving = if serves { servable(&snapshot.config.network, &snapshot.state.phase) } else { None };
    Some((observed(snapshot, faults), serving))
}

fn observed(snapshot: Snapshot, faults: BTreeSet<ContainerFault>) -> Observed<ActualContainer> {
    let (endpoints, completed) = (endpoints(&snapshot).to_vec(), completed(&snapshot));
    let Some(Keep { serving, annotations: Some(record) }) = snapshot.annotations else {
        return Observed::Unreadable { why: "it was not made by this agent".to_owned() };
    };
    Observed::Present(ActualContainer {
        image: snapshot.config.image,
        endpoints,
        completed,
        stopped_by_user: snapshot.stopped_by_user,
        serving,
        owner: record.owner,
        applied: record.applied,
        written: record.written,
        phase: snapshot.state.phase,
        faults,
    })
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

/// Whether it has ended by itself with 0, now or before the host booted.
fn completed(snapshot: &Snapshot) -> bool {
    let exit = match &snapshot.state.phase {
        Phase::Exited { exit } => Some(exit),
        Phase::Created => snapshot.last_exit.as_ref(),
        Phase::Running { .. } | Phase::Restarting { .. } => None,
    };
    exit.is_some_and(|exit| exit.code == 0 && exit.cause == ExitCause::Own)
}

/// What differs from its configuration, of a container that runs or is to run again. Ports are looked at for all together.
fn faults(surroundings: &Surroundings<'_>, id: &ContainerId, snapshot: &Snapshot) -> BTreeSet<ContainerFault> {
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
    let found = match &surroundings.groups {
        Ok(groups) => groups.read_limits(id).map_err(|error| chain(&error)),
        Err(error) => Err(chain(error)),
    };
    match found {
        Ok(found) if found == wanted => {}
        Ok(found) => drop(faults.insert(ContainerFault::Limits { found: describe_limits(&found) })),
        Err(found) => drop(faults.insert(ContainerFault::Limits { found })),
    }
    faults.extend(surroundings.links.link_faults(id, endpoints(snapshot)).into_iter().map(|network| ContainerFault::Link { network }));
    faults
}

fn describe_limits(limits: &runtime::container::config::ResourceLimits) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let (memory, cpus) = (limits.memory.map(|it| it.to_string()), limits.cpus.map(|it| it.to_string()));
    format!("memory {}, cpus {}, pids {}", text(memory), text(cpus), text(limits.pids.map(|it| it.to_string())))
}
