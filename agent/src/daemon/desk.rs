//! What the loop knows and what it makes of the answers: the only place where it is changed. Nothing here waits.

use super::backoff::{Backoff, jittered};
use super::call_off::{CallOff, CalledOffFor};
use super::contexts::{Contexts, News};
use super::drive::{Handle, random};
use super::queue::Verdict;
use super::status::{CycleStatus, Status};
use super::wake::{CycleOutcome, CycleResult, Reason, Wake, WatchError, WatchOptions};
use crate::clock::now;
use crate::host::chain;
use crate::site::repositories;
use crate::source::watch::DirectoryWatch;
use crate::source::{Checkout, CommitId, Revision, Source};
use runtime::container::state::Timestamp;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A cycle that failed is tried again after a second, then ever more rarely, but at least every minute. What changes on the host in
/// between is followed within five seconds, so that one container that cannot be mended does not hold up the repair of others; what
/// failed alone is not tried again for that, since its own traces look like changes of the host.
const CYCLE_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60), floor: Duration::from_secs(5) };

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Ask the source.
    Fetch,
    /// Ask a repository that builds take from.
    Context(String),
    /// Make the host match.
    Converge,
}

pub(super) type Cycle = Box<dyn FnMut(Wake) -> CycleOutcome + Send>;

/// What the loop knows. All of it lives on the loop's thread.
pub(super) struct Desk {
    pub(super) source: Arc<Source>,
    pub(super) options: WatchOptions,
    pub(super) handle: Handle<Key>,
    pub(super) closing: CancellationToken,
    pub(super) newest: Option<Checkout>,
    pub(super) contexts: Contexts,
    /// Held while a repository of the contexts is asked.
    pub(super) asking: Arc<Semaphore>,
    pub(super) directory_watch: Option<DirectoryWatch>,
    pub(super) reasons: BTreeSet<Reason>,
    /// When a cycle that failed is to be tried again.
    pub(super) retry: Option<Instant>,
    /// Away while a cycle runs.
    pub(super) cycle: Option<Cycle>,
    pub(super) running: Option<CallOff>,
    pub(super) status: Status,
    pub(super) broken: Option<WatchError>,
}

pub(super) type Shared = Rc<RefCell<Desk>>;

impl Desk {
    /// Asks the source, and meanwhile keeps up what was fetched last: what breaks on the host is mended whether or not the
    /// network is there.
    pub(super) fn begin(&mut self) {
        self.handle.reset(Key::Fetch);
        match self.source.kept() {
            Ok(Some(kept)) => {
                info!(revision = %kept.revision, "beginning with what was fetched last");
                self.moved_to(kept);
            }
            Ok(None) => {}
            Err(error) => warn!(error = chain(&error), "what was fetched last cannot be used"),
        }
    }

    /// What the source said.
    pub(super) fn answered(&mut self, checkout: Checkout) {
        self.status.fetch.answered = Some(now());
        if self.status.fetch.problem.take().is_some() {
            info!("the source answers again");
        }
        if self.newest.as_ref().is_some_and(|newest| newest.revision == checkout.revision) {
            return;
        }
        info!(revision = %checkout.revision, "the source moved");
        self.moved_to(checkout);
    }

    /// Why the source said nothing.
    pub(super) fn unanswered(&mut self, problem: String) {
        // The same problem again is no news.
        if self.status.fetch.problem.as_ref() != Some(&problem) {
            warn!(problem, "the source does not answer; what runs stays as it is");
        }
        self.status.fetch.problem = Some(problem);
    }

    fn moved_to(&mut self, checkout: Checkout) {
        self.status.revision = Some(checkout.revision.clone());
        self.newest = Some(checkout);
        self.contexts.forget_who_answers();
        self.moved(Reason::SourceMoved);
    }

    /// What a repository that builds take from said, or why it said nothing.
    pub(super) fn heard_of(&mut self, repository: &str, commits: BTreeMap<String, CommitId>, problem: Option<&str>) {
        let news = self.contexts.note(repository, problem);
        let shown = repositories::describe(repository);
        match (problem, news) {
            (Some(problem), News::New) => warn!(repository = shown, problem, "a build's repository cannot be followed; its images stay"),
            (None, News::New) => info!(repository = shown, "a build's repository can be followed again"),
            (Some(_) | None, News::Known) => {}
        }
        if news == News::New {
            self.write_status();
        }
        if !self.contexts.answered(commits).is_empty() {
            info!(repository = shown, "a build's repository moved");
            self.moved(Reason::ContextMoved);
        }
    }

    fn moved(&mut self, what: Reason) {
        if let Some(running) = &self.running {
            running.call_off(CalledOffFor::NewerRevision);
        }
        self.reasons.insert(what);
        self.handle.reset(Key::Converge);
    }

    /// What a cycle came to, and when the next one is due.
    pub(super) fn cycled(&mut self, revision: Revision, started: Timestamp, outcome: CycleOutcome) -> Verdict {
        for repository in self.contexts.follow(outcome.commits) {
            self.handle.add(Key::Context(repository), jittered(self.options.poll_interval, random()));
        }
        let soon = outcome.again.unwrap_or(self.options.drift_interval).min(self.options.drift_interval);
        let (result, errors) = match outcome.result {
            CycleResult::PutOff => return Verdict::PutOff { again: Some(soon) },
            CycleResult::Settled => ("settled", Vec::new()),
            CycleResult::Failed(errors) => ("failed", errors),
            CycleResult::CalledOff => ("calledOff", Vec::new()),
        };
        let before = self.status.cycle.as_ref();
        let failures = if result == "failed" { before.map_or(0, |before| before.failures) + 1 } else { 0 };
        // A cycle that found nothing to do leaves no trace, unless it ends a series of failures or is the first of its revision.
        let news = result != "settled"
            || !outcome.summary.is_empty()
            || before.is_none_or(|before| before.revision != revision || before.failures > 0);
        if news {
            let summary = outcome.summary;
            let result = result.to_owned();
            self.status.cycle = Some(CycleStatus { revision, started, finished: now(), result, summary, errors, failures });
            self.write_status();
        }
        match result {
            "failed" => Verdict::Failed { backoff: CYCLE_BACKOFF },
            "calledOff" => Verdict::Done { again: Some(Duration::ZERO) },
            _ => Verdict::Done { again: Some(soon) },
        }
    }

    /// Has the host looked at after this long.
    pub(super) fn wake(&mut self, reason: Reason, delay: Duration) {
        self.reasons.insert(reason);
        self.handle.add(Key::Converge, delay);
    }

    /// Writes down what is known for `agent status`.
    pub(super) fn write_status(&mut self) {
        let problems = self.contexts.problems();
        self.status.context_problems =
            problems.map(|(repository, problem)| (repositories::describe(repository), problem.clone())).collect();
        if let Err(error) = self.status.write(&self.options.places.run) {
            warn!(error = chain(&error), "the status is not up to date");
        }
    }
}
