//! The Linux host behind the seam: [`observe`] looks, [`perform`] does. Neither decides anything.

pub mod build_cache;
mod build_log;
mod config;
mod content;
mod context;
mod entries;
mod hand;
mod image;
mod leftovers;
mod needed;
mod observe;
mod perform;
mod publish;
mod record;
mod registries;
mod repository;
mod room;

pub use build_cache::write_layout;
pub use build_log::BuildLog;
pub use config::ConfigError;
pub use context::{BuildContext, GitDirectory, GivenContext};
pub use hand::{Attendant, ByHand, Then, Transient, create_network, create_volume, endpoint_by_hand};
pub use image::{Bases, Supplies, build_request, build_with, fetch, image_key, pull};
pub use leftovers::{clear_up, collect_snapshots, unused_snapshots};
pub use needed::{collect, needed, unused_sources};
pub use publish::push;
pub use record::Applied;
pub use registries::{RegistriesError, credential_files, registry_access, registry_settings};
pub use room::{make_room_for_push, with_room};

use crate::clock::now;
use crate::host::{Host, HostError, Report};
use crate::ledger::{Entry, Ledger, Ownership};
use crate::plan::action::{Action, Plan};
use crate::plan::actual::{Actual, Owner};
use crate::progress::Tell;
use crate::site::Site;
use entries::Line;
use runtime::engine::Engine;
use runtime::network::Links;
use runtime::places::Places;
use serde::Serialize;
use serde::de::DeserializeOwned;
use spec::desired::{Desired, Kind, ResourceId};
use spec::value::{Digest, Name};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// This machine, seen from one site.
pub struct LinuxHost<'a> {
    engine: &'a Engine,
    /// One statement at a time; what is written is small.
    ledger: &'a Mutex<Ledger>,
    site: &'a Site,
    by_hand: ByHand<'a>,
}

impl<'a> LinuxHost<'a> {
    /// The host for a site.
    pub fn new(engine: &'a Engine, ledger: &'a Mutex<Ledger>, site: &'a Site) -> Self {
        Self { engine, ledger, site, by_hand: ByHand::default() }
    }

    /// The same where the site is one container that is made by hand.
    pub fn by_hand(self, by_hand: ByHand<'a>) -> Self {
        Self { by_hand, ..self }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A thread that panicked held it between two whole statements.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose what it makes is.
    fn owner(&self) -> Owner {
        Owner::Site(self.site.id.clone())
    }

    /// What is remembered of a resource of the site beside it.
    fn applied<T>(&self, kind: Kind, name: &Name, applied: &T) -> serde_json::Value
    where
        T: Clone + Serialize + DeserializeOwned,
    {
        let written = self.written(&ResourceId { kind, name: name.to_string() });
        Applied { owner: self.owner(), applied: applied.clone(), written }.to_value()
    }

    /// Digest of a resource's manifest as written.
    fn written(&self, resource: &ResourceId) -> Option<Digest> {
        self.site.desired.written.get(resource).copied()
    }

    /// Writes lines into the ledger, all in one transaction.
    fn remember(&self, lines: &[Line]) -> Result<(), HostError> {
        let at = now();
        let ownership = |resource, applied| Ownership { resource, site: &self.site.id, applied, revision: Some(self.site.revision()), at };
        let entries: Vec<Entry<'_>> = lines
            .iter()
            .map(|line| match line {
                Line::Creating(resource, applied) => Entry::Creating(ownership(resource, applied)),
                Line::Present(resource, applied) => Entry::Present(ownership(resource, applied)),
                Line::Removing(resource) => Entry::Removing(resource),
                Line::Gone(resource) => Entry::Gone(resource),
            })
            .collect();
        self.ledger().write(&entries, at).map_err(|error| HostError::new("remember what is owned", error))
    }

    /// Remembers in the ledger what a resource was made from.
    fn record_applied(&self, resource: &ResourceId, applied: &serde_json::Value) -> Result<(), HostError> {
        let ownership = Ownership { resource, site: &self.site.id, applied, revision: Some(self.site.revision()), at: now() };
        self.ledger().record_applied(&ownership).map_err(|error| HostError::new(format!("remember {resource}"), error))
    }
}

impl Host for LinuxHost<'_> {
    fn observe(&self, desired: &Desired) -> Result<Actual, HostError> {
        observe::observe(self.engine, Some(&self.ledger()), desired)
    }

    fn announce(&self, plan: &Plan) -> Result<(), HostError> {
        self.remember(&entries::before(plan))
    }

    fn settle(&self, plan: &Plan, report: &Report) -> Result<(), HostError> {
        self.remember(&entries::after(plan, report))
    }

    fn perform(&self, action: &Action, progress: &Tell<'_>) -> Result<(), HostError> {
        perform::perform(self, action, progress)
    }
}

/// Looks without leaving a trace: an instance that was never used is not made by being looked at.
pub fn look(places: &Places, desired: &Desired) -> Result<Actual, HostError> {
    Glance::take(places)?.with_images(desired)
}

/// All of the host that can be looked at before it is known what a site wants: everything but images.
pub struct Glance {
    actual: Actual,
    /// Where images are; `None` if nothing was ever made here.
    store: Option<(Engine, Option<Ledger>)>,
}

impl Glance {
    /// Looks. Leaves no trace, as [`look`].
    pub fn take(places: &Places) -> Result<Self, HostError> {
        let failed = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| HostError::new(format!("look at the {what}"), error);
        if !Engine::exists(places) {
            let links = Links::read(places, []).map_err(|error| failed("links", error.into()))?;
            return Ok(Self { actual: Actual { foreign_subnets: links.foreign_subnets(), ..Actual::default() }, store: None });
        }
        let engine = Engine::open(places).map_err(|error| failed("state directory", error.into()))?;
        let ledger = Ledger::read(&places.ledger()).map_err(|error| failed("ledger", error.into()))?;
        Ok(Self { actual: observe::all_but_images(&engine)?, store: Some((engine, ledger)) })
    }

    /// The whole.
    pub fn with_images(self, desired: &Desired) -> Result<Actual, HostError> {
        match self.store {
            Some((engine, ledger)) => Ok(Actual { images: observe::images(&engine, ledger.as_ref(), desired)?, ..self.actual }),
            None => Ok(self.actual),
        }
    }
}
