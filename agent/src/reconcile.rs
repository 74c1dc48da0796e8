//! One cycle: look, plan, apply, and look again until there is nothing left to do or nothing more can be done.
//!
//! Level-triggered: every round starts from a fresh snapshot. Images come in a first round of their own, because only
//! their digests tell which containers have to follow.

use crate::apply;
use crate::host::{Host, HostError, Outcome, Report};
use crate::plan::action::{Action, Plan, Step};
use crate::plan::{Policy, plan};
use spec::desired::Desired;
use std::sync::atomic::AtomicBool;

/// Rounds in one cycle: images, everything else, and one more for what only shows after a repair.
/// More would be a plan that does not settle, and that is named, not looped on.
const ROUNDS_MAX: usize = 4;

/// What is told about a cycle while it runs. Called from several threads.
pub trait Watcher: Sync {
    /// A plan was made that has steps.
    fn planned(&self, plan: &Plan);
    /// Something happened to a step of the current plan.
    fn step(&self, index: usize, step: &Step, event: apply::Event<'_>);
}

/// One plan and what came of it.
#[derive(Debug)]
pub struct Round {
    /// The plan.
    pub plan: Plan,
    /// One outcome a step.
    pub report: Report,
}

/// What a cycle came to.
#[derive(Debug)]
pub struct Cycle {
    /// The rounds that had steps; empty if there was nothing to do.
    pub rounds: Vec<Round>,
    /// The plan that is left over: without steps if the host matches the site as far as it can.
    pub rest: Plan,
}

impl Cycle {
    /// Whether the host now matches the site.
    pub fn converged(&self) -> bool {
        self.rest.steps.is_empty() && self.rest.blocked.is_empty()
    }

    /// Whether anything was done or tried.
    pub fn acted(&self) -> bool {
        !self.rounds.is_empty()
    }

    /// Every failed step with its reason.
    pub fn failures(&self) -> impl Iterator<Item = (&Step, &HostError)> {
        self.rounds.iter().flat_map(|round| round.report.failures().map(|(index, error)| (&round.plan.steps[index], error)))
    }
}

/// Whether all that failed is that images were not published: no reason to keep what runs waiting for the rest of its images.
fn only_pushes_failed(plan: &Plan, report: &Report) -> bool {
    plan.steps.iter().zip(&report.outcomes).all(|(step, outcome)| match outcome {
        Outcome::Done => true,
        Outcome::Failed(_) => matches!(step.action, Action::PushImage { .. }),
        Outcome::Skipped => false,
    })
}

/// Makes the host match the site as far as it can be done now.
pub fn converge(
    host: &dyn Host,
    desired: &Desired,
    policy: &Policy,
    called_off: &AtomicBool,
    watcher: &dyn Watcher,
) -> Result<Cycle, HostError> {
    let mut rounds = Vec::new();
    loop {
        let rest = plan(desired, &host.observe(desired)?, policy);
        if rest.steps.is_empty() || rounds.len() == ROUNDS_MAX {
            return Ok(Cycle { rounds, rest });
        }
        watcher.planned(&rest);
        host.announce(&rest)?;
        let report = apply::apply(&rest, host, apply::STEPS_AT_ONCE, called_off, &|index, step, event| watcher.step(index, step, event));
        host.settle(&rest, &report)?;
        let go_on = report.succeeded() || (rest.provisional && only_pushes_failed(&rest, &report));
        rounds.push(Round { plan: rest, report });
        if !go_on {
            let rest = plan(desired, &host.observe(desired)?, policy);
            return Ok(Cycle { rounds, rest });
        }
    }
}
