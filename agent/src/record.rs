//! What a cycle came to, as the ledger remembers it.

use crate::ledger::{Ledger, LedgerError, Outcome, OutcomeKind};
use crate::plan::text::Summary;
use crate::reconcile::Cycle;
use crate::site::Site;
use runtime::container::state::Timestamp;

/// Remembers a cycle that did something, failed, or was the first of its revision. Any other one writes nothing.
pub fn record(
    ledger: &mut Ledger,
    source: &str,
    site: &Site,
    cycle: &Cycle,
    started: Timestamp,
    finished: Timestamp,
) -> Result<(), LedgerError> {
    let known = ledger.site(&site.id)?;
    let is_new = known.is_none_or(|known| known.last_revision.as_ref() != Some(site.revision()));
    if !cycle.acted() && cycle.converged() && !is_new {
        return Ok(());
    }
    ledger.record_site(&site.id, source)?;
    ledger.record_outcome(&Outcome {
        site: site.id.clone(),
        revision: site.revision().clone(),
        desired: Some(site.desired.digest()),
        kind: if cycle.converged() { OutcomeKind::Converged } else { OutcomeKind::Incomplete },
        summary: summary(cycle),
        errors: errors(cycle),
        started,
        finished,
    })
}

/// What was done, in a line: `2 to create, 1 to replace`.
pub fn summary(cycle: &Cycle) -> String {
    cycle.rounds.last().map(|round| Summary::of(&round.plan).to_string()).unwrap_or_default()
}

/// What went wrong and what is blocked, one text each.
pub fn errors(cycle: &Cycle) -> Vec<String> {
    let failed = cycle.failures().map(|(step, error)| format!("{}: {}", step.resource, error.chain()));
    failed.chain(cycle.rest.blocked.iter().map(|blocked| format!("{}: {}", blocked.resource, blocked.why))).collect()
}
