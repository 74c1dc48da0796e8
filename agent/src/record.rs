//! What a cycle came to, as the ledger remembers it.

use crate::host;
use crate::ledger::{Ledger, LedgerError, Outcome, OutcomeKind};
use crate::plan::action::Verb;
use crate::reconcile::Cycle;
use crate::site::Site;
use runtime::container::state::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Remembers a cycle that did something, failed, or found the host in order as it was not before. Any other one writes nothing.
pub fn record(
    ledger: &mut Ledger,
    source: &str,
    site: &Site,
    cycle: &Cycle,
    started: Timestamp,
    finished: Timestamp,
) -> Result<(), LedgerError> {
    let desired = Some(site.desired.digest());
    let last = ledger.history(&site.id, 1)?.pop().map(|last| last.outcome);
    let is_known = last.is_some_and(|it| it.kind == OutcomeKind::Converged && (&it.revision, it.desired) == (site.revision(), desired));
    if !cycle.acted() && cycle.converged() && is_known {
        return Ok(());
    }
    ledger.record_site(&site.id, source)?;
    ledger.record_outcome(&Outcome {
        site: site.id.clone(),
        revision: site.revision().clone(),
        desired,
        kind: if cycle.converged() { OutcomeKind::Converged } else { OutcomeKind::Incomplete },
        summary: summary(cycle),
        errors: errors(cycle),
        started,
        finished,
    })
}

/// What was done, in a line: `2 created, 1 replaced`; empty if nothing was.
pub fn summary(cycle: &Cycle) -> String {
    let mut done = BTreeMap::new();
    for round in &cycle.rounds {
        let steps = round.plan.steps.iter().zip(&round.report.outcomes);
        let touched: BTreeSet<_> = steps.filter(|(_, it)| matches!(it, host::Outcome::Done)).map(|(step, _)| &step.resource).collect();
        done.extend(round.plan.changes.iter().filter(|it| touched.contains(&it.resource)).map(|it| (&it.resource, it.verb)));
    }
    let mut counts: BTreeMap<Verb, usize> = BTreeMap::new();
    done.into_values().for_each(|verb| *counts.entry(verb).or_default() += 1);
    let counts: Vec<String> = counts.into_iter().map(|(verb, count)| format!("{count} {}", past(verb))).collect();
    counts.join(", ")
}

fn past(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "created",
        Verb::Update => "updated",
        Verb::Publish => "published",
        Verb::Replace => "replaced",
        Verb::Repair => "repaired",
        Verb::Start => "started",
        Verb::Remove => "removed",
    }
}

/// What went wrong and what is blocked, one text each.
pub fn errors(cycle: &Cycle) -> Vec<String> {
    let failed = cycle.failures().map(|(step, error)| format!("{}: {}", step.resource, error.chain()));
    failed.chain(cycle.rest.blocked.iter().map(|blocked| format!("{}: {}", blocked.resource, blocked.why))).collect()
}
