//! What was made from the manifest as it still is, is wanted as it was made: a default that another version of the agent fills in
//! is for what is made or changed from now on.

use super::actual::{Actual, Observed, Owner};
use super::draft::resource;
use spec::desired::{Container, Desired, Kind};
use spec::value::Digest;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What is desired, with the applied form of each resource whose manifest has not changed since. Borrowed where no default differs,
/// which is nearly always.
pub(super) fn keep<'a>(desired: &'a Desired, actual: &Actual, owner: &Owner) -> Cow<'a, Desired> {
    let mut kept = Cow::Borrowed(desired);
    let is_of = |kind: Kind, name: &dyn std::fmt::Display, by: &Owner, written: &Option<Digest>| {
        by == owner && written.is_some() && desired.written.get(&resource(kind, name)) == written.as_ref()
    };
    for (key, one) in present(&actual.images) {
        if is_of(Kind::Image, key, &one.owner, &one.written) && kept.images.get(key).is_some_and(|wanted| *wanted != one.applied) {
            kept.to_mut().images.insert(key.clone(), one.applied.clone());
        }
    }
    for (name, one) in present(&actual.networks) {
        if is_of(Kind::Network, name, &one.owner, &one.written) && kept.networks.get(name).is_some_and(|wanted| *wanted != one.applied) {
            kept.to_mut().networks.insert(name.clone(), one.applied.clone());
        }
    }
    for (name, one) in present(&actual.volumes) {
        if is_of(Kind::Volume, name, &one.owner, &one.written) && kept.volumes.get(name).is_some_and(|wanted| *wanted != one.applied) {
            kept.to_mut().volumes.insert(name.clone(), one.applied.clone());
        }
    }
    // In the order of generations: of several incarnations the newest has the last word.
    for (id, one) in present(&actual.containers) {
        let wanted = kept.containers.get(&id.name);
        if is_of(Kind::Container, &id.name, &one.owner, &one.written) && wanted.is_some_and(|wanted| *wanted != *one.applied) {
            kept.to_mut().containers.insert(id.name.clone(), Container::clone(&one.applied));
        }
    }
    kept
}

fn present<K, T>(observed: &BTreeMap<K, Observed<T>>) -> impl Iterator<Item = (&K, &T)> {
    observed.iter().filter_map(|(key, one)| match one {
        Observed::Present(one) => Some((key, one)),
        Observed::Unreadable { .. } => None,
    })
}
