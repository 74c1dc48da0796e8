//! Faults at every step: for every N the Nth action fails, or the process is killed just before or after it. The next apply
//! converges, and then nothing is on the host that is not on one that was never interrupted.
//!
//! The fault sits in the one seam, around the real Linux host, in a process of its own: this program started again, which then
//! runs [`the_hand_that_fails`] alone.

use agent::apply::Event;
use agent::clock::now;
use agent::host::{Host as Seam, HostError, Report};
use agent::ledger::Ledger;
use agent::linux::{LinuxHost, clear_up};
use agent::plan::action::{Action, Plan, Step};
use agent::plan::actual::Actual;
use agent::plan::{Policy, Volumes};
use agent::progress::Tell;
use agent::reconcile::{Watcher, converge};
use agent::site::repositories::Commits;
use agent::source::{Source, SourceOptions, SourceSpec};
use anyhow::{Context as _, Result, bail, ensure};
use runtime::engine::Engine;
use runtime::places::Places;
use rustix::process::{Signal, getpid, kill_process};
use spec::desired::Desired;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tests::census::Census;
use tests::host::{Host, is_root};

/// Tells this program, started again, what to do: `kind:N:verb:site`.
const TASK: &str = "AGENT_TEST_FAULT";
/// Exit code of a process whose fault happened and did not kill it.
const FAULTED: u8 = 99;
/// More actions than any of the plans here has: a loop that gets there is broken.
const ACTIONS_MAX: usize = 60;
/// Fewer actions than any of them has.
const ACTIONS_MIN: usize = 7;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The action is not done and fails.
    Refused,
    /// The action is done and fails all the same.
    Lost,
    /// The process is killed before the action.
    KilledBefore,
    /// The process is killed after the action.
    KilledAfter,
}

const FAULTS: [Fault; 4] = [Fault::Refused, Fault::Lost, Fault::KilledBefore, Fault::KilledAfter];

/// The Linux host with a fault at the Nth action.
struct Faulty<'a> {
    host: LinuxHost<'a>,
    fault: Fault,
    at: usize,
    begun: AtomicUsize,
}

impl Seam for Faulty<'_> {
    fn observe(&self, desired: &Desired) -> Result<Actual, HostError> {
        self.host.observe(desired)
    }

    fn announce(&self, plan: &Plan) -> Result<(), HostError> {
        self.host.announce(plan)
    }

    fn settle(&self, plan: &Plan, report: &Report) -> Result<(), HostError> {
        self.host.settle(plan, report)
    }

    fn perform(&self, action: &Action, progress: &Tell<'_>) -> Result<(), HostError> {
        let strikes = self.begun.fetch_add(1, Ordering::SeqCst) + 1 == self.at;
        match (strikes, self.fault) {
            (false, _) => return self.host.perform(action, progress),
            (true, Fault::Refused) => return Err(HostError::new("carry out the action", "a test refused it")),
            (true, Fault::KilledBefore) => die(),
            (true, Fault::Lost | Fault::KilledAfter) => {}
        }
        self.host.perform(action, progress)?;
        if self.fault == Fault::KilledAfter {
            die();
        }
        Err(HostError::new("carry out the action", "a test lost its success"))
    }
}

fn die() -> ! {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    unreachable!("SIGKILL does not return")
}

struct Silent;

impl Watcher for Silent {
    fn planned(&self, _: &Plan) {}
    fn step(&self, _: usize, _: &Step, _: Event<'_>) {}
}

/// No test of its own: what the tests below start in a process that may be killed.
#[test]
fn the_hand_that_fails() -> Result<()> {
    let Ok(task) = std::env::var(TASK) else { return Ok(()) };
    let mut words = task.splitn(4, ':');
    let mut word = || words.next().context("four words");
    let (fault, at, verb, site) = (word()?, word()?.parse()?, word()?, word()?);
    let fault = FAULTS.into_iter().find(|it| format!("{it:?}") == fault).context("a fault")?;
    let place = |name: &str| std::env::var_os(name).map(Into::into).context("places are given");
    let places = Places { state: place("AGENT_STATE_DIR")?, run: place("AGENT_RUN_DIR")?, config: place("AGENT_CONFIG_DIR")? };

    let source = Source::open(SourceSpec::parse(site, SourceOptions::default())?, &places.state)?;
    let mut site = agent::site::load(source.fetch()?, &places.state, &Commits::new())?;
    let volumes = if verb == "destroy" { Volumes::Remove } else { Volumes::Keep };
    if verb == "destroy" {
        site.desired = Desired::default();
    }
    let engine = Engine::open(&places)?;
    let _lock = engine.lock_host()?;
    let ledger = Mutex::new(Ledger::open(&places.ledger())?);
    let started = now();
    let host = Faulty { host: LinuxHost::new(&engine, &ledger, &site), fault, at, begun: AtomicUsize::new(0) };
    let cycle = converge(&host, &site.desired, &Policy { volumes, ..Policy::keep(site.id.clone()) }, &AtomicBool::new(false), &Silent)?;
    let struck = host.begun.load(Ordering::SeqCst) >= at;
    let mut ledger = ledger.lock().expect("nobody else has it");
    clear_up(&engine, &mut ledger, &site.id, &cycle, now())?;
    agent::record::record(&mut ledger, &source.describe(), &site, &cycle, started, now())?;
    ensure!(struck || cycle.converged(), "without a fault it converges: {:?}", cycle.rest);
    std::process::exit(if struck { i32::from(FAULTED) } else { 0 })
}

/// A step in the life of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    First,
    Update,
    Destroy,
}

const PHASES: [Phase; 3] = [Phase::First, Phase::Update, Phase::Destroy];

impl Phase {
    fn verb(self) -> &'static str {
        match self {
            Self::First | Self::Update => "apply",
            Self::Destroy => "destroy",
        }
    }
}

const SLEEP: &str = "[/bin/busybox, sh, -c, 'trap exit TERM; /bin/busybox sleep 1000 & wait']";

/// Writes the site as it is in this phase. Between the first and the second everything changes that can: an image, a mounted
/// file, a writer of a volume, a server with a port, and a container and its network go.
fn write_site(host: &Host, phase: Phase) -> Result<String> {
    let version = if phase == Phase::First { 1 } else { 2 };
    host.busybox("site/image/busybox")?;
    host.files(&[
        ("site/image/Dockerfile", &format!("FROM scratch\nCOPY busybox /bin/busybox\nENV VERSION={version}\n")),
        ("site/www/index.html", &format!("{version}\n")),
    ])?;
    let image = "kind: Image\nmetadata: {name: box}\nspec: {build: {context: ./image}}".to_owned();
    let network = |name: &str| format!("kind: Network\nmetadata: {{name: {name}}}");
    let volume = "kind: Volume\nmetadata: {name: data}".to_owned();
    let container =
        |name: &str, more: &str| format!("kind: Container\nmetadata: {{name: {name}}}\nspec:\n  image: box\n  command: {SLEEP}\n{more}");
    let mut documents = vec![
        image,
        network("front"),
        volume,
        container("writer", "  networks: [front]\n  volumes: ['data:/data']"),
        container(
            "server",
            "  networks: [front]\n  ports: ['8080:80']\n  volumes: ['./www:/www:ro']\n  dependsOn: [writer]\n  \
             healthcheck: {test: [CMD, /bin/busybox, 'true'], interval: 60s}",
        ),
    ];
    if phase == Phase::First {
        documents.extend([network("back"), container("leaving", "  networks: [back]")]);
    }
    let text: Vec<String> = documents.iter().map(|document| format!("apiVersion: agent/v1\n{document}\n")).collect();
    Ok(host.files(&[("site/site.yaml", &text.join("---\n"))])?.display().to_string())
}

/// Brings the host from the phase before to this one.
fn go(host: &Host, phase: Phase) -> Result<()> {
    let site = write_site(host, phase)?;
    let ran = match phase {
        Phase::First | Phase::Update => host.agent(&["apply", &site]),
        Phase::Destroy => host.agent(&["destroy", "--yes", "--volumes", &site]),
    };
    ran.ok().map(drop)
}

/// The phase in which a phase begins.
fn before(phase: Phase) -> Phase {
    match phase {
        Phase::First => Phase::Destroy,
        Phase::Update => Phase::First,
        Phase::Destroy => Phase::Update,
    }
}

/// The census of a host after each phase if nothing goes wrong; the second time round, when all caches are warm.
fn undisturbed(host: &Host) -> Result<[Census; 3]> {
    for phase in PHASES {
        go(host, phase)?;
    }
    let mut found = Vec::new();
    for phase in PHASES {
        go(host, phase)?;
        found.push(Census::take(host));
    }
    found.try_into().map_err(|_| anyhow::anyhow!("three phases"))
}

/// What must hold after an interrupted phase was gone through again.
fn check(host: &Host, phase: Phase, expected: &Census, what: &str) -> Result<()> {
    let differences = tests::host::eventually("what was ended is gone", || {
        let differences = Census::take(host).differences(expected);
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        Ok(())
    });
    differences.with_context(|| format!("{what}: not as on a host that was never interrupted"))?;
    if phase != Phase::Destroy {
        let plan = host.agent(&["plan", &host.path().join("site").display().to_string()]);
        ensure!(plan.code == 0, "{what}: {plan:?}");
    }
    Ok(())
}

fn survives(fault: Fault) -> Result<()> {
    if !is_root(&format!("{fault:?} at every action")) {
        return Ok(());
    }
    let host = Host::new()?;
    let expected = undisturbed(&host)?;
    for (phase, expected) in PHASES.into_iter().zip(&expected) {
        for at in 1.. {
            ensure!(at < ACTIONS_MAX, "{phase:?} does not end");
            let what = format!("{fault:?} at action {at} of {phase:?}");
            let site = write_site(&host, phase)?;
            let mut child = host.command(std::env::current_exe()?);
            child
                .args(["--exact", "faults::the_hand_that_fails", "--nocapture"])
                .env(TASK, format!("{fault:?}:{at}:{}:{site}", phase.verb()));
            let output = child.output()?;
            match (output.status.code(), fault) {
                (Some(0), _) => {
                    ensure!(at > ACTIONS_MIN, "{phase:?} has only {at} actions: is the fault really in the seam?");
                    break;
                }
                (Some(code), _) if code == i32::from(FAULTED) => {}
                (None, Fault::KilledBefore | Fault::KilledAfter) => {}
                (_, _) => bail!("{what}: {:?}\n{}", output.status, String::from_utf8_lossy(&output.stdout)),
            }
            go(&host, phase).with_context(|| format!("{what}: the next one"))?;
            check(&host, phase, expected, &what)?;
            go(&host, before(phase)).with_context(|| format!("{what}: on the way back"))?;
        }
    }
    Ok(())
}

#[test]
fn an_action_that_is_refused() -> Result<()> {
    survives(Fault::Refused)
}

#[test]
fn an_action_whose_success_is_lost() -> Result<()> {
    survives(Fault::Lost)
}

#[test]
fn a_kill_before_an_action() -> Result<()> {
    survives(Fault::KilledBefore)
}

#[test]
fn a_kill_after_an_action() -> Result<()> {
    survives(Fault::KilledAfter)
}

/// Not between actions but anywhere: the real program, killed after a time.
#[test]
fn a_kill_at_any_moment() -> Result<()> {
    const MOMENTS: u32 = 12;
    if !is_root("a_kill_at_any_moment") {
        return Ok(());
    }
    let host = Host::new()?;
    let expected = undisturbed(&host)?;
    for (phase, expected) in PHASES.into_iter().zip(&expected) {
        let began = std::time::Instant::now();
        go(&host, phase)?;
        let whole = began.elapsed();
        go(&host, before(phase))?;
        for moment in 1..=MOMENTS {
            let after: Duration = whole * moment / (MOMENTS + 1);
            let site = write_site(&host, phase)?;
            let running = match phase {
                Phase::First | Phase::Update => host.spawn_agent(&["apply", &site])?,
                Phase::Destroy => host.spawn_agent(&["destroy", "--yes", "--volumes", &site])?,
            };
            std::thread::sleep(after);
            running.signal("KILL")?;
            running.wait()?;
            let what = format!("killed {} ms into {phase:?}", after.as_millis());
            go(&host, phase).with_context(|| format!("{what}: the next one"))?;
            check(&host, phase, expected, &what)?;
            go(&host, before(phase)).with_context(|| format!("{what}: on the way back"))?;
        }
        go(&host, phase)?;
    }
    Ok(())
}
