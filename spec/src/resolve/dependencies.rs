//! Which container comes before which: references, conditions that can be met, no cycles.

use super::Resolver;
use super::index::Index;
use crate::desired::{DependencyCondition, Desired, Kind};
use crate::diagnostic::Problems;
use crate::manifest::{Container, ListOrMap, TextOrMap};
use crate::parse::{Document, Spot};
use crate::value::{Name, RestartPolicy};
use std::collections::{BTreeMap, BTreeSet};

impl Resolver<'_> {
    pub(super) fn depends_on(&mut self, document: &Document, container: &Container) -> BTreeMap<Name, DependencyCondition> {
        let mut dependencies = BTreeMap::new();
        let spot = document.spec().key("dependsOn");
        match &container.depends_on {
            None => {}
            Some(ListOrMap::List(names)) => {
                for (name, at) in names.iter().zip(spot.items()) {
                    self.check_container(name, at);
                    if dependencies.insert(name.clone(), DependencyCondition::Started).is_some() {
                        self.report(at.error(format!("container {name} is listed twice")));
                    }
                }
            }
            Some(ListOrMap::Map(entries)) => {
                for (name, entry) in entries {
                    self.check_container(name, spot.key(name.as_str()));
                    let condition = match entry {
                        TextOrMap::Short(condition) => Some(*condition),
                        TextOrMap::Long(entry) => entry.condition,
                    };
                    dependencies.insert(name.clone(), condition.map_or(DependencyCondition::Started, |condition| condition.0));
                }
            }
        }
        dependencies
    }

    fn check_container(&mut self, name: &Name, spot: Spot<'_>) {
        if self.index.contains(Kind::Container, name) {
            return;
        }
        let help = match self.index.nearest(Kind::Container, name.as_str()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("add a Container manifest called {name}"),
        };
        self.report(spot.key_error(format!("container {name} is not defined")).help(help));
    }
}

/// Reports conditions that can never be met, and cycles.
pub(super) fn check(index: &Index<'_>, desired: &Desired, problems: &mut Problems) {
    for (name, container) in &desired.containers {
        for (dependency, condition) in &container.depends_on {
            let Some(other) = desired.containers.get(dependency) else { continue };
            let never = match condition {
                DependencyCondition::Started => None,
                // Without a check of its own it may have its image's.
                DependencyCondition::Healthy => other
                    .healthcheck
                    .as_ref()
                    .filter(|check| check.test.is_empty())
                    .map(|_| ("healthy", "healthcheck", "its health check is switched off")),
                DependencyCondition::Completed => match other.restart {
                    RestartPolicy::Always | RestartPolicy::UnlessStopped => {
                        Some(("completed", "restart", "it is started again whenever it ends"))
                    }
                    RestartPolicy::No | RestartPolicy::OnFailure { .. } => None,
                },
            };
            if let Some((condition, field, reason)) = never
                && let (Some(this), Some(that)) = (index.find(Kind::Container, name), index.find(Kind::Container, dependency))
            {
                let spot = this.spec().key("dependsOn").key(dependency.as_str());
                let problem = spot.error(format!("container {dependency} is never {condition}: {reason}"));
                problems.push(problem.related(that.spec().key(field).place(), "because of this"));
            }
        }
    }
    let graph: BTreeMap<&Name, BTreeSet<&Name>> =
        desired.containers.iter().map(|(name, container)| (name, container.depends_on.keys().collect())).collect();
    for cycle in cycles(&graph) {
        let Some(document) = cycle.first().and_then(|name| index.find(Kind::Container, name)) else { continue };
        let path = cycle.iter().chain(cycle.first()).map(|name| name.as_str()).collect::<Vec<_>>().join(" -> ");
        problems.push(document.spec().key("dependsOn").key_error(format!("container {} waits for itself: {path}", cycle[0])));
    }
}

/// The cycles that a walk along the names finds, each once, beginning with its least name. There is one at least for every
/// set of nodes that cannot be ordered.
pub(super) fn cycles<'a>(graph: &BTreeMap<&'a Name, BTreeSet<&'a Name>>) -> Vec<Vec<&'a Name>> {
    let mut done: BTreeSet<&Name> = BTreeSet::new();
    let mut found: BTreeSet<Vec<&Name>> = BTreeSet::new();
    for start in graph.keys() {
        // Each step: a node and those of its neighbours that are still to be visited. No recursion: the chain may be long.
        let mut path: Vec<(&Name, Vec<&Name>)> = Vec::new();
        let mut next = (!done.contains(start)).then_some(*start);
        loop {
            if let Some(node) = next.take() {
                let neighbours = graph.get(node).into_iter().flatten().rev().copied().collect();
                path.push((node, neighbours));
            }
            let Some((node, neighbours)) = path.last_mut() else { break };
            match neighbours.pop() {
                None => {
                    done.insert(*node);
                    path.pop();
                }
                Some(neighbour) => match path.iter().position(|(on_path, _)| *on_path == neighbour) {
                    Some(position) => {
                        found.insert(from_least(path[position..].iter().map(|(name, _)| *name).collect()));
                    }
                    None => next = (!done.contains(neighbour)).then_some(neighbour),
                },
            }
        }
    }
    found.into_iter().collect()
}

/// The same cycle, beginning with its least name.
fn from_least(mut cycle: Vec<&Name>) -> Vec<&Name> {
    let least = cycle.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(index, _)| index);
    cycle.rotate_left(least);
    cycle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(edges: &[(&str, &str)]) -> Vec<String> {
        let names: BTreeSet<Name> = edges.iter().flat_map(|(a, b)| [a, b]).map(|name| name.parse().expect("a name")).collect();
        let name = |text: &str| names.iter().find(|name| name.as_str() == text).expect("listed");
        let mut graph: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
        for (from, to) in edges {
            graph.entry(name(from)).or_default().insert(name(to));
        }
        cycles(&graph).iter().map(|cycle| cycle.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_tree_has_no_cycle() {
        assert_eq!(found(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]), [""; 0]);
    }

    #[test]
    fn every_cycle_begins_with_its_least_name() {
        assert_eq!(found(&[("c", "b"), ("b", "a"), ("a", "c"), ("x", "c")]), ["a c b"]);
        assert_eq!(found(&[("a", "a")]), ["a"]);
        assert_eq!(found(&[("b", "a"), ("a", "b"), ("d", "c"), ("c", "d")]), ["a b", "c d"]);
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let names: Vec<String> = (0..3_000).map(|n| format!("n{n:05}")).collect();
        let edges: Vec<(&str, &str)> = names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
        assert_eq!(found(&edges), [""; 0]);
    }
}
