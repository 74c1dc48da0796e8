//! PURE: no I/O, no clock, no randomness. `plan(desired, actual, policy)` decides everything; applying a plan decides nothing.
//!
//! ```text
//! images ─► networks, volumes ─► verdict a container ─► steps up ─► steps down
//!  obtain     addresses            leave, in place,      in the order   removals, dependents
//!  first      are chosen           replace, blocked      of dependsOn   first, last of all
//! ```
//!
//! Verdicts ([`verdict`]) are made ([`decide`]) before any step is written, in an order in which whoever is waited for comes first; steps
//! ([`up`], [`down`]) only write them out. What is unreadable or not ours is never written to.

pub mod action;
pub mod actual;
mod addresses;
mod container;
mod decide;
mod down;
mod draft;
mod field;
mod gate;
mod image;
mod incarnation;
mod kept;
mod liveness;
mod need;
mod network;
mod order;
mod requirement;
mod room;
#[cfg(test)]
mod scenario;
mod shown;
pub mod simulate;
mod site;
pub mod text;
mod up;
mod verdict;
mod volume;
mod words;

pub use network::{endpoint_on, place_of_network};

use action::{Cause, Plan, Purpose};
use actual::{Actual, Owner, SiteId};
use draft::Draft;
use site::Site;
use spec::desired::Desired;

/// What the planner is told besides the two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The site that is planned for: what belongs to any other is left alone.
    pub site: SiteId,
    /// What becomes of volumes no manifest names.
    pub volumes: Volumes,
    /// What the plan is for.
    pub purpose: Purpose,
}

/// What becomes of a site's volumes that no manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Volumes {
    /// They stay, with their data.
    #[default]
    Keep,
    /// They go: `destroy` with the flag that says so.
    Remove,
}

impl Policy {
    /// Every plan but a `destroy`.
    pub fn keep(site: SiteId) -> Self {
        Self { site, volumes: Volumes::Keep, purpose: Purpose::Match }
    }

    /// Why what nothing names goes.
    fn why_gone(&self) -> Cause {
        match self.purpose {
            Purpose::Match => Cause::Unnamed,
            Purpose::Destroy => Cause::Destroyed,
        }
    }
}

/// What has to be done so that the host is as desired. Total and deterministic; an empty `desired` is a `destroy`.
///
/// The steps of a provisional plan may all be carried out; then observe and plan again.
pub fn plan(desired: &Desired, actual: &Actual, policy: &Policy) -> Plan {
    let desired = kept::keep(desired, actual, &Owner::Site(policy.site.clone()));
    let site = Site::new(&desired, actual, policy);
    let mut draft = Draft::default();
    let firewall = up::firewall(&site, &mut draft);
    let images = image::plan(&site, &mut draft);
    let volumes = volume::plan(&site, &mut draft);
    let (networks, verdicts) = decide::decide(&site, &images, &volumes);
    let ground = up::Ground { firewall, volumes: &volumes };
    let done = up::write(&site, &networks, &verdicts, &ground, &mut draft);
    down::write(&site, &networks, &verdicts, done, &mut draft);
    site.note_unreadable(&mut draft);
    Plan { purpose: policy.purpose, ..draft.finish() }
}
