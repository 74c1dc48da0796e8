//! Orders in which whoever is waited for comes first.

use std::collections::{BTreeMap, BTreeSet};

/// What waits for what: every node is a key, its value what comes before it. Names that are no key are ignored.
pub(super) type Waits<K> = BTreeMap<K, BTreeSet<K>>;

/// Nodes with whoever they wait for before them, equal ones by name.
pub(super) struct Order<K> {
    /// Those that can be put in order.
    pub(super) sorted: Vec<K>,
    /// Those that wait in a circle, or for someone who does.
    pub(super) circular: Vec<K>,
}

/// Kahn's algorithm, smallest name first: the same order whatever the input's.
pub(super) fn sort<K: Ord + Clone>(waits: &Waits<K>) -> Order<K> {
    let mut missing: BTreeMap<&K, usize> = BTreeMap::new();
    let mut followers: BTreeMap<&K, Vec<&K>> = BTreeMap::new();
    for (node, before) in waits {
        let known: Vec<&K> = before.iter().filter(|other| waits.contains_key(*other)).collect();
        missing.insert(node, known.len());
        for other in known {
            followers.entry(other).or_default().push(node);
        }
    }
    let mut ready: BTreeSet<&K> = missing.iter().filter(|(_, count)| **count == 0).map(|(node, _)| *node).collect();
    let mut sorted = Vec::with_capacity(waits.len());
    while let Some(node) = ready.pop_first() {
        missing.remove(node);
        sorted.push(node.clone());
        for follower in followers.get(node).into_iter().flatten() {
            if let Some(count) = missing.get_mut(*follower) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(follower);
                }
            }
        }
    }
    Order { sorted, circular: missing.into_keys().cloned().collect() }
}

/// Whether `from` waits for `target`, directly or through others.
pub(super) fn reaches<K: Ord>(waits: &Waits<K>, from: &K, target: &K) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        if node == target {
            return true;
        }
        if seen.insert(node) {
            open.extend(waits.get(node).into_iter().flatten());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(edges: &[(&'static str, &[&'static str])]) -> Waits<&'static str> {
        edges.iter().map(|(node, before)| (*node, before.iter().copied().collect())).collect()
    }

    #[test]
    fn whoever_is_waited_for_comes_first_and_equals_by_name() {
        let order = sort(&waits(&[("a", &["c"]), ("b", &[]), ("c", &["elsewhere"])]));
        assert_eq!(order.sorted, ["b", "c", "a"]);
        assert!(order.circular.is_empty());
    }

    #[test]
    fn a_circle_and_whoever_waits_for_it_are_told_apart() {
        let order = sort(&waits(&[("a", &["b"]), ("b", &["a"]), ("c", &["a"]), ("d", &[])]));
        assert_eq!(order.sorted, ["d"]);
        assert_eq!(order.circular, ["a", "b", "c"]);
    }

    #[test]
    fn reaching_goes_through_others() {
        let graph = waits(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]);
        assert!(reaches(&graph, &"a", &"c"));
        assert!(!reaches(&graph, &"c", &"a"));
    }
}
