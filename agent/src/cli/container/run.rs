//! `agent container run`: a container that no manifest describes, made by the same plan and the same hands as all others. It is
//! a site of its own that holds nothing else.

use super::exec::pair;
use crate::apply::Event;
use crate::cli::render::Render;
use crate::cli::{Failure, Outcome, Session, exit};
use crate::clock::now;
use crate::linux::LinuxHost;
use crate::plan::action::{Action, Plan, Step};
use crate::plan::actual::SiteId;
use crate::plan::{Policy, Volumes};
use crate::reconcile::{Cycle, Watcher, converge};
use crate::site::Site;
use anyhow::anyhow;
use clap::Args;
use runtime::container::state::{Exit, ExitCause, Phase};
use runtime::container::{self, Follow, LogQuery, LogStream, Waited, WhileRunning};
use runtime::engine::Engine;
use runtime::shim::protocol::WaitCondition;
use spec::value::{ContainerId, Name};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A command that ends within this time needs no reader that follows it.
const SHORT: Duration = Duration::from_millis(200);

/// Run a command in a new container that no manifest describes.
///
/// It belongs to nobody: no plan touches it. In the foreground its output is shown and its exit code returned.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Do not wait for it; print its id
    #[arg(short, long)]
    detach: bool,
    /// Remove it when it has exited
    #[arg(long)]
    rm: bool,
    /// Its name
    #[arg(long)]
    name: Option<Name>,
    /// An environment variable
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// A published port, such as 8080:80
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// A volume or bind mount, such as data:/var/lib/x or /host/path:/x:ro
    #[arg(short, long, value_name = "MOUNT")]
    volume: Vec<String>,
    /// A network by name, or host, or none; the default network if not given
    #[arg(long)]
    network: Option<String>,
    /// As whom
    #[arg(short, long)]
    user: Option<String>,
    /// In which directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Replaces the image's entrypoint
    #[arg(long)]
    entrypoint: Option<String>,
    /// no, always, unless-stopped or on-failure[:n]
    #[arg(long, default_value = "no")]
    restart: String,
    /// Memory limit, such as 256Mi
    #[arg(short, long)]
    memory: Option<String>,
    /// Processor limit, such as 0.5
    #[arg(long)]
    cpus: Option<String>,
    /// Limit of processes
    #[arg(long)]
    pids_limit: Option<u32>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// The image
    image: String,
    /// The command and its arguments; the image's own if not given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) fn run(args: &RunArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => free_name(&engine)?,
    };
    // Arguments that are wrong are refused before anything is waited for.
    let site = site(args, &name)?;
    let id = start(args, session, &engine, site, name)?;
    if args.detach {
        session.render.line(&id);
        return Ok(exit::DONE);
    }
    let ended = attend(session, &engine, &id)?;
    if args.rm {
        engine.remove_container(&id, WhileRunning::Refuse)?;
    }
    if let ExitCause::StartFailed { reason } = &ended.cause {
        return Err(anyhow!("{reason}").into());
    }
    Ok(u8::try_from(ended.code).unwrap_or(u8::MAX))
}

/// The arguments as the manifest they stand for, read like any other: the same checks, the same short forms.
fn site(args: &RunArgs, name: &Name) -> Result<Site, Failure> {
    let mut spec = serde_json::json!({ "image": args.image, "restart": args.restart });
    let mut set = |field: &str, value: serde_json::Value| spec[field] = value;
    set("env", args.env.iter().cloned().collect());
    // Not even an empty list: without a network of its own a container can publish nothing.
    if !args.publish.is_empty() {
        set("ports", args.publish.clone().into());
    }
    set("volumes", args.volume.clone().into());
    set("readOnlyRoot", args.read_only.into());
    if !args.command.is_empty() {
        set("command", args.command.clone().into());
    }
    let limits = [
        ("memory", args.memory.clone().map(Into::into)),
        ("cpus", args.cpus.clone().map(Into::into)),
        ("pids", args.pids_limit.map(Into::into)),
    ];
    let limits: serde_json::Map<String, serde_json::Value> =
        limits.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect();
    set("resources", limits.into());
    for (field, value) in [("user", &args.user), ("workingDir", &args.workdir)] {
        if let Some(value) = value {
            set(field, value.clone().into());
        }
    }
    if let Some(entrypoint) = &args.entrypoint {
        set("entrypoint", vec![entrypoint.clone()].into());
    }
    match args.network.as_deref() {
        None | Some("default") => {}
        Some(mode @ ("host" | "none")) => set("networkMode", mode.into()),
        Some(network) => set("networks", vec![network].into()),
    }
    let manifest = serde_json::json!({"apiVersion": "agent/v1", "kind": "Container", "metadata": {"name": name}, "spec": spec});
    crate::site::single(SiteId::of_run(name), &manifest).map_err(|problems| {
        let problems: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        anyhow!("{}", problems.join("; ")).into()
    })
}

/// `run-1`, `run-2`, …: the first that no container has.
fn free_name(engine: &Engine) -> Result<Name, Failure> {
    let taken = engine.container_ids()?;
    let candidates = (1u32..).map(|number| format!("run-{number}").parse::<Name>().expect("letters, a dash and digits are a name"));
    let mut free = candidates.filter(|name| !taken.iter().any(|id| id.name == *name));
    Ok(free.next().expect("there are more numbers than containers"))
}

fn start(args: &RunArgs, session: &Session, engine: &Engine, mut made: Site, mut name: Name) -> Result<ContainerId, Failure> {
    let ledger = Mutex::new(session.ledger()?);
    let _lock = engine.lock_host()?;
    if engine.container_ids()?.iter().any(|id| id.name == name) {
        if args.name.is_some() {
            let hint = Some(format!("choose another --name, or remove it: agent container rm -f {name}"));
            return Err(Failure::Error { error: anyhow!("container {name} exists"), hint });
        }
        // Somebody else took it while we waited for the host; until we let go of that nobody takes another.
        name = free_name(engine)?;
        made = site(args, &name)?;
    }
    let policy = Policy { site: made.id.clone(), volumes: Volumes::Keep };
    let host = LinuxHost::new(engine, &ledger, &made);
    let cycle = converge(&host, &made.desired, &policy, &AtomicBool::new(false), &Pulls(session.render))?;
    match (refuse(&cycle), engine.current(&name)?) {
        (Ok(()), Some(id)) => Ok(id),
        (Ok(()), None) => Err(anyhow!("container {name} is gone again").into()),
        (Err(failure), Some(id)) if args.rm => {
            engine.remove_container(&id, WhileRunning::Kill)?;
            Err(failure)
        }
        (Err(failure), _) => Err(failure),
    }
}

/// Shows how an image comes; everything else is the command's own output.
struct Pulls(Render);

impl Watcher for Pulls {
    fn planned(&self, _: &Plan) {}

    fn step(&self, _: usize, _: &Step, event: Event<'_>) {
        match event {
            Event::Line(line) => self.0.say(line),
            Event::Started | Event::Finished { .. } => {}
        }
    }
}

/// A container that ran and ended is fine here, however it did; one that could not be made is not.
fn refuse(cycle: &Cycle) -> Result<(), Failure> {
    let made = |step: &Step| matches!(step.action, Action::AwaitContainer { .. });
    if let Some((_, error)) = cycle.failures().find(|(step, _)| !made(step)) {
        return Err(anyhow!("{}", error.chain()).into());
    }
    match cycle.rest.blocked.first() {
        Some(blocked) => Err(anyhow!("{}: {}", blocked.resource, blocked.why).into()),
        None => Ok(()),
    }
}

/// Shows what it writes until it has exited, and says how it did.
fn attend(session: &Session, engine: &Engine, id: &ContainerId) -> Result<Exit, Failure> {
    let places = engine.places();
    let short = container::wait(places, id, WaitCondition::Exited, Some(SHORT))?;
    let follow = match short {
        Waited::TimedOut(_) => Follow::UntilExit,
        Waited::Reached(_) | Waited::Missed(_) => Follow::Stop,
    };
    container::logs(places, id, LogQuery { follow, ..LogQuery::default() }, |record| {
        match record.stream {
            LogStream::Stdout => session.render.text(&record.text),
            LogStream::Stderr => session.render.say_text(&record.text),
        }
        ControlFlow::Continue(())
    })?;
    let ended = container::wait(places, id, WaitCondition::Exited, None)?;
    match &ended.state().phase {
        Phase::Exited { exit } => Ok(exit.clone()),
        Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } => {
            Ok(Exit { code: 0, cause: ExitCause::Own, started: now(), finished: now() })
        }
    }
}
