//! The one seam between deciding and doing: what a plan is made from, and what carries its actions out.
//!
//! Two things implement it: the Linux host ([`crate::linux`]) and, in tests, the simulator. Nothing else of our own is ever faked.

use crate::plan::action::{Action, Plan};
use crate::plan::actual::Actual;
use crate::progress::Tell;
pub use runtime::cause::chain;
use spec::desired::Desired;

/// What failed, on what, and why below it.
#[derive(Debug, thiserror::Error)]
#[error("{tried}")]
pub struct HostError {
    /// What was tried on what: `start web@2`.
    pub tried: String,
    /// The reason.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl HostError {
    /// An error with its reason.
    pub fn new(tried: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { tried: tried.into(), source: source.into() }
    }

    /// The whole chain in one line, outermost first: `start web@2: mount /data: no such file or directory`.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// How a step ended.
#[derive(Debug)]
pub enum Outcome {
    /// Done.
    Done,
    /// It failed.
    Failed(HostError),
    /// Not tried: a step it comes after failed, or the application was called off.
    Skipped,
}

/// What an application of a plan came to: one outcome a step, in the plan's order.
#[derive(Debug)]
pub struct Report {
    /// In the order of [`Plan::steps`].
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Whether every step was done.
    pub fn succeeded(&self) -> bool {
        self.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done))
    }

    /// The failures, by place of their step.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &HostError)> {
        self.outcomes.iter().enumerate().filter_map(|(index, outcome)| match outcome {
            Outcome::Failed(error) => Some((index, error)),
            Outcome::Done | Outcome::Skipped => None,
        })
    }
}

/// A host that can be looked at and changed. Shared between the threads of one application of a plan.
pub trait Host: Sync {
    /// One snapshot. What `desired` names decides what is looked up (images by key), never what is seen.
    fn observe(&self, desired: &Desired) -> Result<Actual, HostError>;

    /// Remembers what a plan is about to make and to remove, before its first step.
    fn announce(&self, plan: &Plan) -> Result<(), HostError>;

    /// Remembers what came of it, after its last step.
    fn settle(&self, plan: &Plan, report: &Report) -> Result<(), HostError>;

    /// Carries out one action; idempotent where it was interrupted before. `progress` is told how it goes on.
    fn perform(&self, action: &Action, progress: &Tell<'_>) -> Result<(), HostError>;
}
