//! What becomes of a container, as it was decided: left, changed in place, replaced, or blocked.

use super::action::{Cause, Consequence, Verb};
use super::actual::ContainerFault;
use super::draft::{Draft, resource};
use super::incarnation::Incarnation;
use super::network::Obstacle;
use runtime::container::config::Endpoint;
use spec::desired::{DependencyCondition, Kind, UpdateOrder};
use spec::value::{ContainerId, Digest, Name};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of one container.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    /// What is done.
    pub(super) work: Work<'a>,
    /// What is waited for before something is started.
    pub(super) waits: Vec<Wait>,
    /// What others give up for it first.
    pub(super) taken: Taken,
    /// Incarnations left over from an interrupted change: removed.
    pub(super) leftovers: Vec<Incarnation<'a>>,
    /// What its dependents may count on.
    pub(super) next: Next,
    /// The incarnation that counts, as it is now.
    pub(super) now: Option<Incarnation<'a>>,
    /// For people.
    pub(super) said: Said,
}

/// What is said of a container.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) change: Option<(Verb, Consequence, Vec<Cause>)>,
    pub(super) hindrance: Option<Hindrance>,
    pub(super) note: Option<String>,
    pub(super) warning: Option<String>,
}

/// What is done to a container.
#[derive(Debug)]
pub(super) enum Work<'a> {
    /// Nothing.
    Nothing,
    /// It is made and started.
    Create(Fresh),
    /// Another takes its place.
    Replace { old: Incarnation<'a>, new: Successor<'a>, order: UpdateOrder, readiness: DependencyCondition },
    /// It stays, and is changed, mended or started.
    InPlace(InPlace<'a>),
}

/// An incarnation that is made.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) id: ContainerId,
    pub(super) image: Digest,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) readiness: DependencyCondition,
}

/// Who takes an incarnation's place.
#[derive(Debug)]
pub(super) enum Successor<'a> {
    /// A new one.
    Fresh(Fresh),
    /// One an interrupted replacement has made already.
    Made(Incarnation<'a>),
}

/// What is done to an incarnation that stays.
#[derive(Debug)]
pub(super) struct InPlace<'a> {
    pub(super) current: Incarnation<'a>,
    /// Its endpoints after an update, if it is updated.
    pub(super) update: Option<Vec<Endpoint>>,
    pub(super) repairs: Vec<ContainerFault>,
    pub(super) starts: bool,
    /// Whether it runs and its traffic does not lead to it yet.
    pub(super) promotes: bool,
    pub(super) readiness: DependencyCondition,
}

/// What a plan makes of a container, as far as its dependents care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// What it is now is what it should be.
    Same,
    /// This plan starts it, and it is ready when it has come this far.
    Starts { id: ContainerId, readiness: DependencyCondition },
    /// A later plan does.
    Later,
    /// It stays short of what it should be: `is blocked`, `is stopped by hand`.
    Never(&'static str),
}

/// Why something cannot be done in this plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// Not before somebody does something about it: what is in the way.
    Blocked(String),
    /// Not before an image or a network is there: the next plan sees to it.
    Deferred,
}

/// A dependency that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) name: Name,
    pub(super) id: ContainerId,
    pub(super) until: DependencyCondition,
}

/// What others give up for a container.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Containers of the site whose own change gives up a port.
    pub(super) after: BTreeSet<Name>,
    /// Containers no manifest names that have a port: stopping them frees it.
    pub(super) stops_first: BTreeSet<ContainerId>,
    /// Containers no manifest names that have an address: their links keep it until they are removed.
    pub(super) removes_first: BTreeSet<ContainerId>,
}

impl Taken {
    pub(super) fn extend(&mut self, other: Self) {
        self.after.extend(other.after);
        self.stops_first.extend(other.stops_first);
        self.removes_first.extend(other.removes_first);
    }
}

/// All containers' verdicts.
pub(super) struct Verdicts<'a> {
    /// In the order in which their steps are written.
    pub(super) order: Vec<&'a Name>,
    pub(super) by_name: BTreeMap<&'a Name, Verdict<'a>>,
}

impl<'a> Verdict<'a> {
    pub(super) fn nothing(next: Next, now: Option<Incarnation<'a>>) -> Self {
        Self { work: Work::Nothing, waits: Vec::new(), taken: Taken::default(), leftovers: Vec::new(), next, now, said: Said::default() }
    }

    pub(super) fn hindered(hindrance: Hindrance, now: Option<Incarnation<'a>>) -> Self {
        let next = match hindrance {
            Hindrance::Blocked(_) => Next::Never("is blocked"),
            Hindrance::Deferred => Next::Later,
        };
        let mut verdict = Self::nothing(next, now);
        verdict.said.hindrance = Some(hindrance);
        verdict
    }

    /// Notes what others give up for it.
    pub(super) fn take(&mut self, taken: Taken) {
        self.taken.extend(taken);
    }

    /// Why a network this incarnation is on cannot be made again.
    pub(super) fn obstacle(&self, id: &ContainerId) -> Option<Obstacle> {
        if self.leftovers.iter().any(|leftover| leftover.id == id) {
            return None;
        }
        match (&self.said.hindrance, &self.work) {
            (_, Work::Replace { .. }) => None,
            (Some(Hindrance::Blocked(why)), _) => {
                Some(Obstacle::Stays(format!("it has to be made again with its containers, and container/{} is blocked: {why}", id.name)))
            }
            (Some(Hindrance::Deferred), _) | (None, Work::InPlace(_)) => Some(Obstacle::Waits),
            (None, Work::Nothing | Work::Create(_)) => Some(Obstacle::Stays(format!(
                "it has to be made again with its containers, and container/{} is stopped by hand: start or remove it",
                id.name
            ))),
        }
    }

    /// Writes what becomes of it for people.
    pub(super) fn describe(&self, name: &Name, draft: &mut Draft) {
        let id = resource(Kind::Container, name);
        if let Some((verb, consequence, causes)) = &self.said.change {
            draft.change(id.clone(), *verb, *consequence, causes.clone());
        }
        match &self.said.hindrance {
            Some(Hindrance::Blocked(why)) => draft.block(id.clone(), why.clone()),
            Some(Hindrance::Deferred) => draft.make_provisional(),
            None => {}
        }
        if let Some(warning) = &self.said.warning {
            draft.warn(id.clone(), warning.clone());
        }
        if let Some(note) = &self.said.note {
            draft.note(id, note.clone());
        }
    }
}

impl Successor<'_> {
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Fresh(fresh) => &fresh.endpoints,
            Self::Made(made) => &made.state.endpoints,
        }
    }

    pub(super) fn id(&self) -> &ContainerId {
        match self {
            Self::Fresh(fresh) => &fresh.id,
            Self::Made(made) => made.id,
        }
    }
}

/// Whether two incarnations have an address in common: the links of the old one keep it until it is removed.
pub(super) fn share_address(some: &[Endpoint], others: &[Endpoint]) -> bool {
    let same = |a: &Endpoint, b: &Endpoint| a.network == b.network && a.address == b.address;
    some.iter().any(|one| others.iter().any(|other| same(one, other)))
}
