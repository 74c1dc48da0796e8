//! PURE: no I/O, no clock, no randomness. `plan(desired, actual, policy)` decides everything; applying a plan decides nothing.

pub mod action;
pub mod actual;

use actual::SiteId;

/// What the planner is told besides the two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The site that is planned for: what belongs to any other is left alone.
    pub site: SiteId,
    /// What becomes of volumes no manifest names.
    pub volumes: Volumes,
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
