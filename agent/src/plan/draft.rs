//! A plan while it is written: steps in order, one change a resource.

use super::action::{Action, Blocked, Cause, Change, Consequence, Note, Plan, Purpose, Step, Verb};
use spec::desired::{Kind, ResourceId};
use std::collections::BTreeMap;

/// A plan while it is written.
#[derive(Default)]
pub(super) struct Draft {
    steps: Vec<Step>,
    changes: BTreeMap<ResourceId, Change>,
    blocked: BTreeMap<ResourceId, String>,
    notes: BTreeMap<ResourceId, String>,
    warnings: Vec<Note>,
    provisional: bool,
}

/// The id of a resource of this kind.
pub(super) fn resource(kind: Kind, name: impl ToString) -> ResourceId {
    ResourceId { kind, name: name.to_string() }
}

impl Draft {
    /// Appends a step and returns its place. All of `after` are places returned before.
    pub(super) fn step(&mut self, resource: &ResourceId, action: Action, mut after: Vec<usize>) -> usize {
        after.sort_unstable();
        after.dedup();
        debug_assert!(after.last().is_none_or(|last| *last < self.steps.len()), "a step comes after earlier ones");
        self.steps.push(Step { action, resource: resource.clone(), after });
        self.steps.len() - 1
    }

    pub(super) fn change(&mut self, resource: ResourceId, verb: Verb, consequence: Consequence, causes: Vec<Cause>) {
        self.changes.insert(resource.clone(), Change { resource, verb, causes, consequence });
    }

    pub(super) fn block(&mut self, resource: ResourceId, why: impl Into<String>) {
        self.blocked.entry(resource).or_insert_with(|| why.into());
    }

    pub(super) fn note(&mut self, resource: ResourceId, text: impl Into<String>) {
        self.notes.entry(resource).or_insert_with(|| text.into());
    }

    pub(super) fn warn(&mut self, resource: ResourceId, text: String) {
        self.warnings.push(Note { resource, text });
    }

    /// Whether a change of this resource is written already.
    pub(super) fn changes(&self, resource: &ResourceId) -> bool {
        self.changes.contains_key(resource)
    }

    /// Whether something is said about this resource already.
    pub(super) fn mentions(&self, resource: &ResourceId) -> bool {
        self.blocked.contains_key(resource) || self.changes.contains_key(resource) || self.notes.contains_key(resource)
    }

    /// Whether any container cannot become what it should be.
    pub(super) fn blocks_containers(&self) -> bool {
        self.blocked.keys().any(|resource| resource.kind == Kind::Container)
    }

    /// Marks the plan as one that is made again once its images are there.
    pub(super) fn make_provisional(&mut self) {
        self.provisional = true;
    }

    pub(super) fn is_provisional(&self) -> bool {
        self.provisional
    }

    pub(super) fn finish(self) -> Plan {
        Plan {
            changes: self.changes.into_values().collect(),
            steps: self.steps,
            blocked: self.blocked.into_iter().map(|(resource, why)| Blocked { resource, why }).collect(),
            notes: self.notes.into_iter().map(|(resource, text)| Note { resource, text }).collect(),
            warnings: self.warnings,
            provisional: self.provisional,
            purpose: Purpose::default(),
        }
    }
}
