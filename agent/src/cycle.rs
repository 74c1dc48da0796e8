//! One turn of the watch: reads the site if it moved, makes the host match it, remembers what came of it.
//!
//! A site that cannot be used (its manifests are wrong) changes nothing: the last good one is kept up instead.

use crate::apply::Event;
use crate::clock::now;
use crate::daemon::{CalledOffFor, CycleOutcome, CycleResult, Wake};
use crate::host::{Host as _, HostError, chain};
use crate::ledger::{Ledger, Outcome, OutcomeKind};
use crate::linux::{LinuxHost, clear_up};
use crate::plan::action::{Blocked, Plan, Step};
use crate::plan::actual::SiteId;
use crate::plan::{Policy, plan, text};
use crate::reconcile::{Watcher, converge};
use crate::record;
use crate::site::repositories::Commits;
use crate::site::{self, Site, SiteError};
use crate::source::{Checkout, CommitId, Revision, Source};
use runtime::container::state::{Health, Phase};
use runtime::engine::Engine;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{error, info, warn};

/// How soon a host is looked at again while a container is on its way to health.
const SOON: Duration = Duration::from_secs(1);

/// What the turns of a watch share.
pub struct Turns {
    engine: Engine,
    ledger: Mutex<Ledger>,
    source: Arc<Source>,
    /// The last site that could be used.
    site: Option<Site>,
    /// The steps that are left after a cycle that failed: what a hint alone does not have tried again.
    failed: Vec<Step>,
    /// What was blocked in the last cycle, so that it is told once.
    blocked: Vec<Blocked>,
    /// What was refused last, so that it is read and reported once.
    refused: Option<Refused>,
}

/// A site that cannot be used, with what the repositories stood for that its builds take from.
struct Refused {
    revision: Revision,
    commits: Commits,
    problems: Vec<String>,
}

impl Turns {
    /// Begins with nothing known.
    pub fn new(engine: Engine, ledger: Ledger, source: Arc<Source>) -> Self {
        Self { engine, ledger: Mutex::new(ledger), source, site: None, failed: Vec::new(), blocked: Vec::new(), refused: None }
    }

    /// One turn.
    pub fn turn(&mut self, wake: &Wake) -> CycleOutcome {
        if let Some(problem) = &wake.fetch_problem {
            warn!(problem, "the source does not answer; what was fetched last is kept up");
        }
        let problems = self.read(wake);
        if self.site.is_none() {
            self.fall_back(&wake.checkout.site, &wake.commits);
        }
        let Some(site) = &self.site else { return failed(problems, Commits::new()) };
        let newest = if problems.is_empty() { Newest::Used } else { Newest::Refused };
        let around = Surroundings { engine: &self.engine, ledger: &self.ledger, source: &self.source, site };
        let mut outcome = match converge_site(&around, wake, newest, (&mut self.failed, &mut self.blocked)) {
            Ok(outcome) => outcome,
            Err(error) => {
                error!(error = error.chain(), "the host could not be looked at");
                failed(vec![error.chain()], site.commits.clone())
            }
        };
        if !problems.is_empty() {
            outcome.result = match outcome.result {
                CycleResult::Failed(more) => CycleResult::Failed(problems.into_iter().chain(more).collect()),
                CycleResult::Settled => CycleResult::Failed(problems),
                CycleResult::PutOff => CycleResult::PutOff,
                CycleResult::CalledOff => CycleResult::CalledOff,
            };
        }
        self.prune();
        outcome
    }

    /// Reads the site if it moved, or what its builds take from; what is wrong with it, if it cannot be used.
    fn read(&mut self, wake: &Wake) -> Vec<String> {
        let Wake { checkout, commits, .. } = wake;
        let is_newest = |read: &Commits| read.iter().all(|(address, commit)| commits.get(address).is_none_or(|known| known == commit));
        if self.site.as_ref().is_some_and(|site| *site.revision() == checkout.revision && is_newest(&site.commits)) {
            self.refused = None;
            return Vec::new();
        }
        if let Some(refused) = &self.refused
            && refused.revision == checkout.revision
            && refused.commits == *commits
        {
            return refused.problems.clone();
        }
        match site::load(checkout.clone(), &self.engine.places().state, commits) {
            Ok(site) => {
                info!(revision = %site.revision(), containers = site.desired.containers.len(), "site read");
                self.refused = None;
                self.site = Some(site);
                Vec::new()
            }
            Err(refusal) => {
                let problems = match &refusal {
                    SiteError::Invalid(problems) => problems.iter().map(|it| format!("{}: {}", it.place.location, it.message)).collect(),
                    SiteError::Fetch(_) | SiteError::Manifests(_) | SiteError::Empty(_) => vec![chain(&refusal)],
                };
                for problem in &problems {
                    error!(revision = %checkout.revision, problem, "the site is refused; nothing is changed");
                }
                self.remember_refusal(checkout, &problems);
                let (revision, commits) = (checkout.revision.clone(), commits.clone());
                self.refused = Some(Refused { revision, commits, problems: problems.clone() });
                problems
            }
        }
    }

    fn remember_refusal(&mut self, checkout: &Checkout, problems: &[String]) {
        let at = now();
        let outcome = Outcome {
            site: checkout.site.clone(),
            revision: checkout.revision.clone(),
            desired: None,
            kind: OutcomeKind::Refused,
            summary: String::new(),
            errors: problems.to_vec(),
            started: at,
            finished: at,
        };
        let ledger = self.ledger.get_mut().unwrap_or_else(PoisonError::into_inner);
        let remembered = ledger.record_site(&checkout.site, &self.source.describe()).and_then(|()| ledger.record_outcome(&outcome));
        if let Err(error) = remembered {
            warn!(error = chain(&error), "the refusal could not be remembered");
        }
    }

    /// Takes the last revision that converged, where the newest one is refused from the start.
    fn fall_back(&mut self, id: &SiteId, known: &Commits) {
        let Some(good) = self.last_good(id) else { return };
        let loaded = match self.source.checkout_of(&good) {
            Ok(Some(checkout)) => site::load(checkout, &self.engine.places().state, known),
            Ok(None) => return warn!(commit = %good, "the last good revision is not here any more"),
            Err(error) => Err(error.into()),
        };
        match loaded {
            Ok(site) => {
                info!(revision = %site.revision(), "the last good revision is kept up");
                self.site = Some(site);
            }
            Err(error) => warn!(commit = %good, error = chain(&error), "the last good revision cannot be used"),
        }
    }

    /// The commit that converged last.
    fn last_good(&self, id: &SiteId) -> Option<CommitId> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match ledger.site(id) {
            Ok(known) => known.and_then(|known| known.good_revision).and_then(|good| good.commit().cloned()),
            Err(error) => {
                warn!(error = chain(&error), "the last good revision cannot be looked up");
                None
            }
        }
    }

    /// Removes checkouts that are neither the newest, nor in use, nor the last good one.
    fn prune(&self) {
        let in_use = self.site.iter().filter_map(|site| site.revision().commit().cloned());
        let keep: BTreeSet<_> = in_use.chain(self.last_good(self.source.site())).collect();
        if let Err(error) = self.source.prune(&keep) {
            warn!(error = chain(&error), "old checkouts could not be removed");
        }
    }
}

fn failed(problems: Vec<String>, commits: Commits) -> CycleOutcome {
    CycleOutcome { result: CycleResult::Failed(problems), summary: String::new(), commits, again: None }
}

/// What became of the newest revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newest {
    /// It is the site.
    Used,
    /// An older one is kept up instead.
    Refused,
}

/// What a turn works with.
struct Surroundings<'a> {
    engine: &'a Engine,
    ledger: &'a Mutex<Ledger>,
    source: &'a Source,
    site: &'a Site,
}

fn converge_site(
    around: &Surroundings<'_>,
    wake: &Wake,
    newest: Newest,
    (failed, blocked): (&mut Vec<Step>, &mut Vec<Blocked>),
) -> Result<CycleOutcome, HostError> {
    let Surroundings { engine, ledger, source, site } = *around;
    let Some(_lock) = engine.try_lock_host().map_err(|error| HostError::new("lock the host", error))? else {
        info!("another agent is changing this host; trying again soon");
        return Ok(CycleOutcome { result: CycleResult::Settled, summary: String::new(), commits: site.commits.clone(), again: Some(SOON) });
    };
    let started = now();
    let host = LinuxHost::new(engine, ledger, site);
    let policy = Policy::keep(site.id.clone());
    if !wake.retry && !failed.is_empty() && plan(&site.desired, &host.observe(&site.desired)?, &policy).steps == *failed {
        let (summary, commits) = (String::new(), site.commits.clone());
        return Ok(CycleOutcome { result: CycleResult::PutOff, summary, commits, again: settling(engine).then_some(SOON) });
    }
    let cycle = converge(&host, &site.desired, &policy, wake.call_off.flag(), &Log)?;
    if *blocked != cycle.rest.blocked {
        blocked.clone_from(&cycle.rest.blocked);
        for Blocked { resource, why } in blocked {
            warn!(%resource, why, "blocked");
        }
    }
    failed.clear();
    if cycle.failures().next().is_some() {
        failed.clone_from(&cycle.rest.steps);
    }
    let recorded = {
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = clear_up(engine, &mut ledger, &site.id, &cycle, now()) {
            warn!(error = error.chain(), "what is not needed any more stays");
        }
        // That the older revision is still in place is no news, and must not hide the refusal.
        if newest == Newest::Used || cycle.acted() {
            record::record(&mut ledger, &source.describe(), site, &cycle, started, now())
        } else {
            Ok(())
        }
    };
    if let Err(error) = recorded {
        warn!(error = chain(&error), "what was done could not be remembered");
    }
    let errors = record::errors(&cycle);
    let result = match wake.call_off.reason() {
        Some(CalledOffFor::NewerRevision | CalledOffFor::End) => CycleResult::CalledOff,
        None if errors.is_empty() && cycle.rest.steps.is_empty() => CycleResult::Settled,
        None if errors.is_empty() => CycleResult::Failed(vec![format!("it does not settle: {}", text::Summary::of(&cycle.rest))]),
        None => CycleResult::Failed(errors),
    };
    let (summary, commits) = (record::summary(&cycle), site.commits.clone());
    Ok(CycleOutcome { result, summary, commits, again: settling(engine).then_some(SOON) })
}

/// Whether some container's health is not decided yet.
fn settling(engine: &Engine) -> bool {
    let containers = engine.containers().unwrap_or_default();
    containers.values().flatten().any(|it| matches!(it.state.phase, Phase::Running { health: Health::Starting, .. }))
}

/// Progress as log lines.
struct Log;

impl Watcher for Log {
    fn planned(&self, plan: &Plan) {
        info!(plan = %text::Summary::of(plan), "planned");
        for change in &plan.changes {
            let causes: Vec<String> = change.causes.iter().map(ToString::to_string).collect();
            info!(resource = %change.resource, what = change.words(), because = causes.join("; "), "change");
        }
    }

    fn step(&self, _: usize, step: &Step, event: Event<'_>) {
        match event {
            Event::Started | Event::Progress(_) => {}
            Event::Line(line) => info!(resource = %step.resource, line),
            Event::Finished { took, error: None } => info!(step = %step, took_ms = took.as_millis(), "done"),
            Event::Finished { took, error: Some(error) } => {
                error!(step = %step, took_ms = took.as_millis(), error = error.chain(), "failed");
            }
        }
    }
}
