//! The loop itself: what the two keys of the queue do, and what wakes them.

use super::backoff::{Backoff, jittered};
use super::call_off::{CallOff, CalledOffFor};
use super::containers::{ContainerWatch, register};
use super::contexts::{Contexts, News};
use super::drive::{Handle, Inbox, drive, random};
use super::queue::{Schedule, Verdict};
use super::status::{CycleStatus, FetchStatus, Status, WatchLock};
use super::wake::{CycleOutcome, CycleResult, Reason, Wake, WatchError, WatchOptions};
use crate::clock::now;
use crate::host::chain;
use crate::site::repositories;
use crate::source::watch::DirectoryWatch;
use crate::source::{Checkout, CommitId, FetchError, Revision, Source};
use runtime::cgroup::Groups;
use runtime::container::state::Timestamp;
use runtime::network::ChangeWatch;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// A source that does not answer is asked again after seconds, then ever more rarely, but at least every ten minutes. Hints (a change in
/// a directory that could not be read before) are followed almost at once.
const FETCH_BACKOFF: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(600), floor: Duration::from_secs(1) };
/// Most repositories asked at the same time what builds take from them: each is a connection, and may hang for minutes.
const CONTEXTS_AT_ONCE: usize = 4;
/// A cycle that failed is tried again after a second, then ever more rarely, but at least every minute. What changes on the host in
/// between is followed within five seconds, so that one container that cannot be mended does not hold up the repair of others; what
/// failed alone is not tried again for that, since its own traces look like changes of the host.
const CYCLE_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60), floor: Duration::from_secs(5) };
/// A directory has settled when nothing happens in it for so long.
const DIRECTORY_QUIET: Duration = Duration::from_millis(200);
/// A directory that never settles is looked at nonetheless.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(2);
/// Changes of containers come in bursts.
const CONTAINER_QUIET: Duration = Duration::from_millis(50);
/// So do those of the network, and longer ones: a firewall that is loaded anew deletes and adds ours, too.
const NETWORK_QUIET: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Fetch,
    /// A repository that builds take from.
    Context(String),
    Converge,
}

/// Keeps a host at what its source says, until SIGTERM or SIGINT: then the step that runs is finished, and containers stay as they
/// are. A second signal ends it at once. SIGHUP asks the source now.
///
/// `cycle` is called on a thread of its own, never twice at a time. It brings the host to `wake.checkout`, whatever it did before; it
/// also prunes old checkouts ([`Source::prune`]), because only it knows which one was the last to work.
pub fn watch<C>(source: Arc<Source>, options: WatchOptions, cycle: C) -> Result<(), WatchError>
where
    C: FnMut(Wake) -> CycleOutcome + Send + 'static,
{
    let system = |action| move |source| WatchError::System { action, source };
    let run = options.places.run.clone();
    DirBuilder::new().recursive(true).mode(0o700).create(&run).map_err(system("make the run directory"))?;
    let Some(_lock) = WatchLock::take(&run)? else { return Err(WatchError::AlreadyWatched { run }) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("agent-work")
        .build()
        .map_err(system("start the event loop"))?;
    let ended = runtime.block_on(run_loop(source, options, Box::new(cycle)));
    // A fetch may still hang in the network: nobody waits for it.
    runtime.shutdown_background();
    ended
}

type Cycle = Box<dyn FnMut(Wake) -> CycleOutcome + Send>;

/// What the loop knows. All of it lives on the loop's thread.
struct Desk {
    source: Arc<Source>,
    options: WatchOptions,
    handle: Handle<Key>,
    closing: CancellationToken,
    newest: Option<Checkout>,
    contexts: Contexts,
    /// Held while a repository of the contexts is asked.
    asking: Arc<Semaphore>,
    directory_watch: Option<DirectoryWatch>,
    reasons: BTreeSet<Reason>,
    /// When a cycle that failed is to be tried again.
    retry: Option<Instant>,
    /// Away while a cycle runs.
    cycle: Option<Cycle>,
    running: Option<CallOff>,
    status: Status,
    broken: Option<WatchError>,
}

type Shared = Rc<RefCell<Desk>>;

async fn run_loop(source: Arc<Source>, options: WatchOptions, cycle: Cycle) -> Result<(), WatchError> {
    let (handle, inbox) = Handle::new();
    let system = |action| move |source| WatchError::System { action, source };
    let signals = Signals::new().map_err(system("listen to signals"))?;
    let (hint, hints) = mpsc::channel(1);
    let directory_watch = source.watched().and_then(|root| {
        let watch = DirectoryWatch::start(root, move || {
            // One hint that waits says as much as a thousand.
            let _ = hint.try_send(());
        });
        watch.map_err(|error| warn!(error = chain(&error), "changes are noticed by looking only")).ok()
    });
    let groups =
        Groups::open(&options.places).map_err(|error| warn!(error = chain(&error), "changes of limits are noticed by looking only"));
    let containers = ContainerWatch::start(&options.places.containers_run(), groups.ok())
        .map_err(|error| warn!(%error, "changes of containers are noticed by looking only"))
        .ok();
    let networks = [ChangeWatch::links(&options.places), ChangeWatch::firewall(&options.places)]
        .map(|watch| watch.map_err(|error| warn!(error = chain(&error), "changes of the network are noticed by looking only")).ok());
    let [links, firewall] = networks;
    let status = Status {
        pid: std::process::id(),
        started: now(),
        site: source.site().clone(),
        source: source.describe(),
        revision: None,
        fetch: FetchStatus::default(),
        context_problems: BTreeMap::new(),
        cycle: None,
    };
    status.write(&options.places.run)?;
    info!(source = status.source, site = status.site.0, "watching");
    let closing = CancellationToken::new();
    let desk = Rc::new(RefCell::new(Desk {
        source,
        options,
        handle,
        closing: closing.clone(),
        newest: None,
        contexts: Contexts::default(),
        asking: Arc::new(Semaphore::new(CONTEXTS_AT_ONCE)),
        directory_watch,
        reasons: BTreeSet::new(),
        retry: None,
        cycle: Some(cycle),
        running: None,
        status,
        broken: None,
    }));
    desk.borrow_mut().begin();
    tokio::select! {
        () = work(&desk, inbox, closing) => {}
        () = listen(&desk, signals) => warn!("ended at once"),
        () = heed_directory(&desk, hints) => {}
        () = heed_containers(&desk, containers) => {}
        () = heed_network(&desk, links) => {}
        () = heed_network(&desk, firewall) => {}
    }
    let broken = desk.borrow_mut().broken.take();
    info!("watch ended; containers stay as they are");
    broken.map_or(Ok(()), Err)
}

async fn work(desk: &Shared, inbox: Inbox<Key>, closing: CancellationToken) {
    let start = |key| {
        let desk = desk.clone();
        async move {
            match key {
                Key::Fetch => fetch(&desk).await,
                Key::Context(repository) => ask(&desk, &repository).await,
                Key::Converge => converge(&desk).await,
            }
        }
    };
    let scheduled = |key: &Key, due: Schedule| match key {
        Key::Fetch => {
            let mut desk = desk.borrow_mut();
            desk.status.fetch.next = due.next.map(|due| now().after(due.saturating_duration_since(Instant::now())));
            desk.write_status();
        }
        Key::Context(_) => {}
        Key::Converge => desk.borrow_mut().retry = due.retry,
    };
    // No key waits for another: each is started once, and repositories wait among themselves.
    drive(inbox, usize::MAX, closing, start, scheduled).await;
}

/// Asks the source. The answer is noted; if it is a new revision, the cycle gets it.
async fn fetch(desk: &Shared) -> Verdict {
    let (source, closing) = {
        let mut desk = desk.borrow_mut();
        desk.status.fetch.asked = Some(now());
        // Before the look, so that what changes during it is noticed.
        if let Some(Err(error)) = desk.directory_watch.as_mut().map(DirectoryWatch::ensure) {
            warn!(error = chain(&error), "changes are noticed by looking only");
        }
        (desk.source.clone(), desk.closing.clone())
    };
    let ask = spawn_blocking(move || source.fetch());
    let answer = tokio::select! {
        answer = ask => answer,
        // Nobody waits for the network when we are to end.
        () = closing.cancelled() => return Verdict::Done { again: None },
    };
    let mut desk = desk.borrow_mut();
    match answer {
        Ok(Ok(checkout)) => {
            desk.answered(checkout);
            Verdict::Done { again: Some(jittered(desk.options.poll_interval, random())) }
        }
        Ok(Err(error)) => {
            desk.unanswered(explain(&error));
            Verdict::Failed { backoff: FETCH_BACKOFF }
        }
        Err(panic) => {
            desk.unanswered(format!("the fetch broke off: {panic}"));
            Verdict::Failed { backoff: FETCH_BACKOFF }
        }
    }
}

/// Asks a repository that builds take from what their addresses stand for. If one has moved, the cycle gets to know.
async fn ask(desk: &Shared, repository: &str) -> Verdict {
    let (addresses, state, asking, closing) = {
        let desk = desk.borrow();
        let Some(addresses) = desk.contexts.addresses(repository).cloned() else { return Verdict::Done { again: None } };
        (addresses, desk.options.places.state.clone(), desk.asking.clone(), desk.closing.clone())
    };
    let question = async {
        let permit = asking.acquire_owned().await;
        let repository = repository.to_owned();
        let asked = spawn_blocking(move || {
            // Kept while the thread runs, whether or not somebody still waits for it.
            let _permit = permit;
            repositories::ask(&repository, &addresses, &state)
        });
        asked.await
    };
    let answer = tokio::select! {
        answer = question => answer,
        () = closing.cancelled() => return Verdict::Done { again: None },
    };
    let (commits, problem) = match answer {
        Ok((commits, problem)) => (commits, problem.map(|error| explain(&error))),
        Err(panic) => (BTreeMap::new(), Some(format!("the question broke off: {panic}"))),
    };
    let mut desk = desk.borrow_mut();
    desk.heard_of(repository, commits, problem.as_deref());
    match problem {
        None => Verdict::Done { again: Some(jittered(desk.options.poll_interval, random())) },
        Some(_) => Verdict::Failed { backoff: FETCH_BACKOFF },
    }
}

/// Runs one cycle on the newest checkout.
async fn converge(desk: &Shared) -> Verdict {
    let (mut cycle, wake) = {
        let mut desk = desk.borrow_mut();
        // Without a checkout there is nothing to converge to; the first answer of the source brings one.
        let (Some(checkout), Some(cycle)) = (desk.newest.clone(), desk.cycle.take()) else { return Verdict::Done { again: None } };
        let mut reasons = std::mem::take(&mut desk.reasons);
        if reasons.is_empty() {
            reasons.insert(Reason::Due);
        }
        let is_new = [Reason::SourceMoved, Reason::ContextMoved, Reason::Asked].iter().any(|reason| reasons.contains(reason));
        let retry = is_new || desk.retry.is_none_or(|due| due <= Instant::now());
        let call_off = CallOff::default();
        desk.running = Some(call_off.clone());
        debug!(revision = %checkout.revision, ?reasons, "cycle");
        let (commits, fetch_problem) = (desk.contexts.known().clone(), desk.status.fetch.problem.clone());
        (cycle, Wake { checkout, commits, reasons, fetch_problem, retry, call_off })
    };
    let (revision, started) = (wake.checkout.revision.clone(), now());
    let ended = spawn_blocking(move || {
        let outcome = cycle(wake);
        (cycle, outcome)
    });
    let ended = ended.await;
    let mut desk = desk.borrow_mut();
    desk.running = None;
    match ended {
        Ok((cycle, outcome)) => {
            desk.cycle = Some(cycle);
            desk.cycled(revision, started, outcome)
        }
        Err(panic) => {
            desk.broken = Some(WatchError::Cycle { problem: panic.to_string() });
            desk.closing.cancel();
            Verdict::Done { again: None }
        }
    }
}

/// Follows signals. Returns at the second one that says to end.
async fn listen(desk: &Shared, mut signals: Signals) {
    let mut ending = false;
    loop {
        let end = tokio::select! {
            _ = signals.terminate.recv() => true,
            _ = signals.interrupt.recv() => true,
            _ = signals.hang_up.recv() => false,
        };
        let mut desk = desk.borrow_mut();
        if !end {
            info!("asked to look now");
            desk.handle.reset(Key::Fetch);
            desk.contexts.repositories().for_each(|repository| desk.handle.reset(Key::Context(repository.clone())));
            desk.wake(Reason::Asked, Duration::ZERO);
        } else if ending {
            return;
        } else {
            ending = true;
            info!("told to end: the step that runs is finished first");
            if let Some(running) = &desk.running {
                running.call_off(CalledOffFor::End);
            }
            desk.closing.cancel();
        }
    }
}

/// Lets a directory settle, then has it looked at.
async fn heed_directory(desk: &Shared, mut hints: mpsc::Receiver<()>) {
    loop {
        if hints.recv().await.is_none() {
            return std::future::pending().await;
        }
        let patience = Instant::now() + DIRECTORY_PATIENCE;
        while let Ok(Ok(Some(()))) = timeout_at(patience, timeout(DIRECTORY_QUIET, hints.recv())).await {}
        desk.borrow().handle.add(Key::Fetch, Duration::ZERO);
    }
}

/// Has the host looked at when a container changes.
async fn heed_containers(desk: &Shared, containers: Option<ContainerWatch>) {
    let Some(mut containers) = containers else { return std::future::pending().await };
    loop {
        match containers.changed().await {
            Ok(()) => desk.borrow_mut().wake(Reason::ContainerChanged, CONTAINER_QUIET),
            Err(error) => {
                warn!(%error, "changes of containers are noticed by looking only");
                return std::future::pending().await;
            }
        }
    }
}

/// Has the host looked at when somebody changes its links or its nftables table.
async fn heed_network(desk: &Shared, watch: Option<ChangeWatch>) {
    let Some(watch) = watch else { return std::future::pending().await };
    let listened = async {
        let watch = register(watch)?;
        loop {
            let mut ready = watch.readable().await?;
            ready.clear_ready();
            if watch.get_ref().read()? {
                desk.borrow_mut().wake(Reason::NetworkChanged, NETWORK_QUIET);
            }
        }
    };
    let Err(error): io::Result<Infallible> = listened.await;
    warn!(%error, "changes of the network are noticed by looking only");
    std::future::pending().await
}

impl Desk {
    /// Asks the source, and meanwhile keeps up what was fetched last: what breaks on the host is mended whether or not the
    /// network is there.
    fn begin(&mut self) {
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

    fn answered(&mut self, checkout: Checkout) {
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

    fn unanswered(&mut self, problem: String) {
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
    fn heard_of(&mut self, repository: &str, commits: BTreeMap<String, CommitId>, problem: Option<&str>) {
        let news = self.contexts.note(repository, problem);
        let shown = repositories::describe(repository);
        match (problem, news) {
            (Some(problem), News::New) => warn!(repository = shown, problem, "a build's repository does not answer; its images stay"),
            (None, News::New) => info!(repository = shown, "a build's repository answers again"),
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

    fn cycled(&mut self, revision: Revision, started: Timestamp, outcome: CycleOutcome) -> Verdict {
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

    fn wake(&mut self, reason: Reason, delay: Duration) {
        self.reasons.insert(reason);
        self.handle.add(Key::Converge, delay);
    }

    fn write_status(&mut self) {
        let problems = self.contexts.problems();
        self.status.context_problems =
            problems.map(|(repository, problem)| (repositories::describe(repository), problem.clone())).collect();
        if let Err(error) = self.status.write(&self.options.places.run) {
            warn!(error = chain(&error), "the status is not up to date");
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// An error with its causes, and what to do about it.
fn explain(error: &FetchError) -> String {
    match error.remedy() {
        Some(remedy) => format!("{}; {remedy}", chain(error)),
        None => chain(error),
    }
}
