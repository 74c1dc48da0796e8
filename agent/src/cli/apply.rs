//! `agent apply`: makes the host match the site, showing each step.

use super::site::{SiteArgs, load};
use super::view::Progress;
use super::{Failure, Outcome, Session, exit, render};
use crate::clock::now;
use crate::linux::{LinuxHost, clear_up};
use crate::plan::Policy;
use crate::plan::action::Plan;
use crate::reconcile::{Cycle, converge};
use crate::record::record;
use crate::site::Site;
use anyhow::anyhow;
use clap::Args;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

/// Make the host match the site.
///
/// Images are built and pulled first; nothing that runs is stopped before its successor is ready. What fails takes down only what
/// depends on it, and the next apply goes on from there.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Do not show the plan before carrying it out
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &ApplyArgs, session: &Session) -> Outcome {
    let source = args.site.open(session)?;
    let site = load(&source, session)?;
    let policy = Policy::keep(site.id.clone());
    carry_out(
        session,
        &source.describe(),
        &site,
        &policy,
        Telling { quiet: args.quiet, done: "Done: the host matches the site.", verb: "apply" },
    )
}

/// What is told of a converging.
pub(super) struct Telling {
    /// Whether the plan is kept to itself.
    pub(super) quiet: bool,
    /// The last line if all is done.
    pub(super) done: &'static str,
    /// The verb that goes on after a failure.
    pub(super) verb: &'static str,
}

/// Converges the host, prints what is done, and says how it went. Shared with `destroy`.
pub(super) fn carry_out(session: &Session, source: &str, site: &Site, policy: &Policy, telling: Telling) -> Outcome {
    let engine = session.engine()?;
    let _lock = session.lock_host(&engine)?;
    let ledger = Mutex::new(session.ledger()?);
    let started = now();
    let progress = Progress::new(session.render, telling.quiet);
    let cycle = converge(&LinuxHost::new(&engine, &ledger, site), &site.desired, policy, &AtomicBool::new(false), &progress)?;
    drop(progress);
    let mut ledger = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    clear_up(&engine, &mut ledger, &site.id, &cycle, now())?;
    record(&mut ledger, source, site, &cycle, started, now())?;
    summary(session, &cycle, &telling)
}

fn summary(session: &Session, cycle: &Cycle, telling: &Telling) -> Outcome {
    let failures = cycle.failures().count();
    if session.render.json {
        let applied =
            serde_json::json!({"type": "applied", "converged": cycle.converged(), "rounds": cycle.rounds.len(), "failures": failures});
        session.render.json_line(&applied);
    } else {
        print_rest(session, &cycle.rest, cycle.acted().then_some(telling.done));
    }
    match (failures, cycle.converged()) {
        (0, true) => Ok(exit::DONE),
        (0, false) => Err(Failure::Error {
            error: anyhow!("not all could be done"),
            hint: Some(format!("see above what is left and why; {} again once that is mended", telling.verb)),
        }),
        (_, _) => Err(Failure::Error {
            error: anyhow!("{failures} step{} failed", if failures == 1 { "" } else { "s" }),
            hint: Some(format!("what was not reached is left as it was; {} again to go on", telling.verb)),
        }),
    }
}

/// The usual last line if something was done and nothing is left, else the plan that is left.
fn print_rest(session: &Session, rest: &Plan, done: Option<&str>) {
    match done.filter(|_| rest.steps.is_empty() && rest.blocked.is_empty()) {
        Some(done) => session.render.line(done),
        None => session.render.text(&render::plan(rest)),
    }
}
