//! The loop itself: what the keys of the queue do, and what wakes them.

use super::backoff::{Backoff, jittered};
use super::call_off::{CallOff, CalledOffFor};
use super::containers::{ContainerWatch, register};
use super::contexts::Contexts;
use super::desk::{Cycle, Desk, Key, Shared};
use super::drive::{Handle, Inbox, drive, random};
use super::queue::{Schedule, Verdict};
use super::status::{FetchStatus, Status, WatchLock};
use super::wake::{CycleOutcome, Reason, Wake, WatchError, WatchOptions};
use crate::clock::now;
use crate::host::chain;
use crate::site::repositories;
use crate::source::watch::DirectoryWatch;
use crate::source::{FetchError, Source};
use runtime::cgroup::Groups;
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
/// A directory has settled when nothing happens in it for so long.
const DIRECTORY_QUIET: Duration = Duration::from_millis(200);
/// A directory that never settles is looked at nonetheless.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(2);
/// Changes of containers come in bursts.
const CONTAINER_QUIET: Duration = Duration::from_millis(50);
/// So do those of the network, and longer ones: a firewall that is loaded anew deletes and adds ours, too.
const NETWORK_QUIET: Duration = Duration::from_millis(200);

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
    // A branch that is missing is no reason to ask more rarely for the others.
    let verdict = match &problem {
        Some(_) if commits.is_empty() => Verdict::Failed { backoff: FETCH_BACKOFF },
        Some(_) | None => Verdict::Done { again: Some(jittered(desk.options.poll_interval, random())) },
    };
    desk.heard_of(repository, commits, problem.as_deref());
    verdict
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
