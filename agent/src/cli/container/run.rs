//! `agent container run`: a container that no manifest describes, made by the same plan and the same hands as all others. It is
//! a site of its own that holds nothing else.

use super::attend::{Leaving, Stayed, code_of, request, stay};
use super::exec::pair;
use crate::apply::Event;
use crate::cli::render::Render;
use crate::cli::view::Teller;
use crate::cli::{Failure, Outcome, Session, exit};
use crate::clock::now;
use crate::daemon::EndSignals;
use crate::linux::{Attendant, LinuxHost, Transient, create_volume};
use crate::plan::Policy;
use crate::plan::action::{Action, Plan, Step};
use crate::plan::actual::SiteId;
use crate::reconcile::{Cycle, Watcher, converge};
use crate::site::Site;
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::container::state::{Exit, ExitCause, Phase};
use runtime::container::{self, Attachment, Follow, LogQuery, LogStream, Manner, OnSignal, Remover, StopBy, Waited, WhileRunning};
use runtime::engine::Engine;
use runtime::places::Places;
use runtime::shim::protocol::WaitCondition;
use spec::desired::Volume;
use spec::value::{ContainerId, Name, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Exit codes of a start that failed at the program itself: there is one that cannot be run, and there is none. As a shell has it.
const CODE_NO_PROGRAM: i32 = 126;
const CODE_NOT_FOUND: i32 = 127;

/// The network of containers that name none.
const DEFAULT_NETWORK: &str = "default";

/// A command that ends within this time needs no reader that follows it.
const SHORT: Duration = Duration::from_millis(200);

/// Run a command in a new container that no manifest describes.
///
/// It belongs to nobody: no plan touches it. In the foreground its output is shown, Ctrl-C stops it, and its exit code is returned.
/// With -it it has a terminal to type at: Ctrl-C is its own there, and ctrl-p ctrl-q leave it running.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Do not wait for it; print its id
    #[arg(short, long)]
    detach: bool,
    /// Give it our input, or with --detach keep its standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    #[command(flatten)]
    leaving: Leaving,
    /// Remove it with its anonymous volumes when it has exited
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
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// A further name that it answers to on these networks
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<Name>,
    /// Its address on its network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
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
    /// A file with environment variables, KEY=value a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Its host name; its name if not given
    #[arg(long)]
    hostname: Option<String>,
    /// A file system in memory, such as /run or /tmp:size=64m
    #[arg(long, value_name = "MOUNT")]
    tmpfs: Vec<String>,
    /// A capability more than usual
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// A capability less than usual, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// The signal that asks it to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds it has to stop before SIGKILL
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// The image
    image: String,
    /// The command and its arguments; the image's own if not given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Nothing ran: why, and the exit code that says so.
struct NotRun {
    failure: Failure,
    code: u8,
}

impl<E: Into<Failure>> From<E> for NotRun {
    fn from(failure: E) -> Self {
        Self { failure: failure.into(), code: exit::NOT_RUN }
    }
}

pub(super) fn run(args: &RunArgs, session: &Session) -> Outcome {
    attempt(args, session).or_else(|NotRun { failure, code }| {
        if let Failure::Error { error, hint } = failure {
            session.render.failure(&error, hint.as_deref());
        }
        Ok(code)
    })
}

fn attempt(args: &RunArgs, session: &Session) -> Result<u8, NotRun> {
    let engine = session.engine()?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => free_name(&engine)?,
    };
    // Arguments that are wrong are refused before anything is waited for.
    if args.rm && args.restart != "no" {
        let hint = Some("one that is removed when it has exited is not restarted: leave one of them out".to_owned());
        return Err(Failure::Error { error: anyhow!("--rm and --restart contradict each other"), hint }.into());
    }
    let site = site(args, &name)?;
    let is_attended = (args.interactive || args.tty) && !args.detach;
    let attendant = is_attended
        .then(|| request(args.tty, args.interactive, "leave -t out for input from a pipe or file"))
        .transpose()
        // The one refusal that has docker's plain code of failures.
        .map_err(|failure| NotRun { failure, code: exit::FAILED })?
        .map(Attendant::new);
    let transient = args.rm.then(|| remover(session)).transpose()?.map(Transient::new);
    let id = Start { args, session, engine: &engine, attendant: attendant.as_ref(), transient: transient.as_ref() }.start(site, name)?;
    if args.detach {
        session.render.answer("id", &id);
        return Ok(exit::DONE);
    }
    let attachment = attendant.and_then(Attendant::into_attachment);
    let ended = match foreground(args, session, &id, attachment)? {
        Stayed::Ended(ended) => ended,
        Stayed::Left(code) => return Ok(code),
    };
    if args.rm {
        engine.remove_container(&id, WhileRunning::Refuse)?;
    }
    match &ended.cause {
        ExitCause::StartFailed { reason } => Err(NotRun { failure: anyhow!("{reason}").into(), code: code_of(&ended) }),
        ExitCause::Own | ExitCause::Requested | ExitCause::OutOfMemory | ExitCause::Unknown => Ok(code_of(&ended)),
    }
}

/// What a shim is to run when a container of `--rm` has ended: this program, at the same places.
fn remover(session: &Session) -> Result<Remover, Failure> {
    let program = std::env::current_exe().context("find this program")?;
    let Places { state, run, config } = &session.places;
    let words = [
        program.as_os_str(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        "--run-dir".as_ref(),
        run.as_os_str(),
        "--config-dir".as_ref(),
        config.as_os_str(),
        "container".as_ref(),
        "rm".as_ref(),
        "--ended".as_ref(),
    ];
    let text = |word: &OsStr| word.to_str().map(str::to_owned).with_context(|| format!("{} is not text", word.display()));
    Ok(Remover(words.into_iter().map(text).collect::<Result<_, _>>()?))
}

/// The arguments as the manifest they stand for, read like any other: the same checks, the same short forms.
fn site(args: &RunArgs, name: &Name) -> Result<Site, Failure> {
    let mut spec = serde_json::json!({ "image": args.image, "restart": args.restart });
    let mut set = |field: &str, value: serde_json::Value| spec[field] = value;
    let mut env = env_of(&args.env_file)?;
    env.extend(args.env.iter().cloned());
    set("env", env.into_iter().collect());
    set("labels", args.label.iter().cloned().collect());
    set("capabilities", serde_json::json!({"add": args.cap_add, "drop": args.cap_drop}));
    if !args.tmpfs.is_empty() {
        set("tmpfs", args.tmpfs.clone().into());
    }
    if let Some(seconds) = args.stop_timeout {
        set("stopGracePeriod", format!("{seconds}s").into());
    }
    // Not even an empty list: without a network of its own a container can publish nothing.
    if !args.publish.is_empty() {
        set("ports", args.publish.clone().into());
    }
    set("volumes", args.volume.clone().into());
    set("readOnlyRoot", args.read_only.into());
    if !args.command.is_empty() {
        set("command", args.command.clone().into());
    }
    for (field, is_set) in [("tty", args.tty), ("stdinOpen", args.interactive)] {
        if is_set {
            set(field, true.into());
        }
    }
    let limits = [
        ("memory", args.memory.clone().map(Into::into)),
        ("cpus", args.cpus.clone().map(Into::into)),
        ("pids", args.pids_limit.map(Into::into)),
    ];
    let limits: serde_json::Map<String, serde_json::Value> =
        limits.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect();
    set("resources", limits.into());
    let texts = [("user", &args.user), ("workingDir", &args.workdir), ("hostname", &args.hostname), ("stopSignal", &args.stop_signal)];
    for (field, value) in texts {
        if let Some(value) = value {
            set(field, value.clone().into());
        }
    }
    if let Some(entrypoint) = &args.entrypoint {
        set("entrypoint", vec![entrypoint.clone()].into());
    }
    match &args.network[..] {
        [mode] if ["host", "none"].contains(&mode.as_str()) => set("networkMode", mode.clone().into()),
        networks => {
            let entry = serde_json::json!({"aliases": args.network_alias, "address": args.ip});
            let entries: serde_json::Map<_, _> = networks.iter().map(|network| (network_name(network).to_owned(), entry.clone())).collect();
            if !entries.is_empty() {
                set("networks", entries.into());
            }
        }
    }
    let document =
        |kind, name: &str, spec| serde_json::json!({"apiVersion": "agent/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let mut manifests = vec![document("Container", name.as_str(), spec)];
    let external = || serde_json::json!({"external": true});
    manifests.extend(volume_names(args).iter().map(|volume| document("Volume", volume.as_str(), external())));
    let others =
        args.network.iter().map(|network| network_name(network)).filter(|network| !["host", "none", DEFAULT_NETWORK].contains(network));
    manifests.extend(others.collect::<BTreeSet<_>>().into_iter().map(|network| document("Network", network, external())));
    crate::site::unwritten(SiteId::of_run(name), &manifests).map_err(Failure::of_arguments)
}

/// A network by our name for it: docker's users know the default one as `bridge`.
fn network_name(network: &str) -> &str {
    if network == "bridge" { DEFAULT_NETWORK } else { network }
}

/// The volumes that are mounted by name.
fn volume_names(args: &RunArgs) -> BTreeSet<Name> {
    args.volume.iter().filter_map(|mount| mount.split_once(':')?.0.parse().ok()).collect()
}

/// Files of `KEY=value` lines as docker has them: no quotes, `#` begins a comment, `KEY` alone is taken from the environment.
fn env_of(files: &[PathBuf]) -> Result<Vec<(String, String)>, Failure> {
    let mut env = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_start())) {
            if !line.is_empty() && !line.starts_with('#') {
                env.push(pair(line).map_err(|problem| anyhow!("{}:{number}: {problem}", path.display()))?);
            }
        }
    }
    Ok(env)
}

/// `KEY=value`; `KEY` alone has an empty value.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err("the name is empty".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// Stays with it until it has ended or the caller leaves. What is typed at a terminal is the container's, signals too; without one
/// they stop it.
fn foreground(args: &RunArgs, session: &Session, id: &ContainerId, attachment: Option<Attachment>) -> Result<Stayed, Failure> {
    let on_signal = if args.tty && args.interactive { OnSignal::Leave } else { OnSignal::Ignore };
    let manner = Manner::new(&args.leaving.detach_keys, on_signal).context("listen to signals")?;
    if on_signal == OnSignal::Ignore {
        stop_when_told(session, id)?;
    }
    match attachment {
        Some(attachment) => stay(session, id, attachment, &manner),
        None => read_logs(session, id).map(Stayed::Ended),
    }
}

/// `run-1`, `run-2`, …: the first that no container has.
fn free_name(engine: &Engine) -> Result<Name, Failure> {
    let taken = engine.container_ids()?;
    let candidates = (1u32..).map(|number| format!("run-{number}").parse::<Name>().expect("letters, a dash and digits are a name"));
    let mut free = candidates.filter(|name| !taken.iter().any(|id| id.name == *name));
    Ok(free.next().expect("there are more numbers than containers"))
}

/// What a start takes.
struct Start<'a> {
    args: &'a RunArgs,
    session: &'a Session,
    engine: &'a Engine,
    attendant: Option<&'a Attendant>,
    transient: Option<&'a Transient>,
}

impl Start<'_> {
    fn start(self, mut made: Site, mut name: Name) -> Result<ContainerId, NotRun> {
        let Self { args, session, engine, attendant, transient } = self;
        let ledger = Mutex::new(session.ledger()?);
        let _lock = session.lock_host(engine)?;
        if engine.container_ids()?.iter().any(|id| id.name == name) {
            if args.name.is_some() {
                let hint = Some(format!("choose another --name, or remove it: agent container rm -f {name}"));
                return Err(Failure::Error { error: anyhow!("container {name} exists"), hint }.into());
            }
            // Somebody else took it while we waited for the host; until we let go of that nobody takes another.
            name = free_name(engine)?;
            made = site(args, &name)?;
        }
        for volume in volume_names(args) {
            create_volume(engine, &volume, &Volume { labels: BTreeMap::new() })?;
        }
        let policy = Policy::keep(made.id.clone());
        let host = LinuxHost::new(engine, &ledger, &made).attended(attendant).transient(transient);
        let pulls = Pulls { render: session.render, image: args.image.clone(), teller: OnceLock::new() };
        let cycle = converge(&host, &made.desired, &policy, &AtomicBool::new(false), &pulls);
        if let Some(teller) = pulls.teller.into_inner() {
            teller.end();
        }
        let cycle = cycle?;
        match (refuse(&cycle), engine.current(&name)?) {
            (Ok(()), Some(id)) => Ok(id),
            (Ok(()), None) => Err(anyhow!("container {name} is gone again").into()),
            (Err(failure), Some(id)) => {
                // It says why it could not be started: no such program, or one that is none.
                let code = match container::inspect(engine.places(), &id)?.state.phase {
                    Phase::Exited { exit: ended } if [CODE_NO_PROGRAM, CODE_NOT_FOUND].contains(&ended.code) => code_of(&ended),
                    Phase::Exited { .. } | Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } => exit::NOT_RUN,
                };
                if args.rm {
                    engine.remove_container(&id, WhileRunning::Kill)?;
                }
                Err(NotRun { failure, code })
            }
            (Err(failure), None) => Err(failure.into()),
        }
    }
}

/// Shows how an image comes, if one has to; everything else is the command's own output.
struct Pulls {
    render: Render,
    image: String,
    teller: OnceLock<Teller>,
}

impl Watcher for Pulls {
    fn planned(&self, _: &Plan) {}

    fn step(&self, _: usize, _: &Step, event: Event<'_>) {
        match event {
            Event::Progress(progress) => {
                self.teller.get_or_init(|| Teller::auto(format!("Pulling {}", self.image), self.render)).tell(progress)
            }
            Event::Started | Event::Line(_) | Event::Finished { .. } => {}
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

/// Ctrl-C and SIGTERM end the container as `agent container stop` does, and a second one at once: who runs a command in the foreground
/// should not have to look for it afterwards.
fn stop_when_told(session: &Session, id: &ContainerId) -> Result<(), Failure> {
    let mut signals = EndSignals::listen().context("listen to signals")?;
    let (places, render, id) = (session.places.clone(), session.render, id.clone());
    // It ends with the process, which ends with the container.
    std::thread::spawn(move || {
        signals.wait();
        render.say(format_args!("Stopping {id}; the next Ctrl-C kills it …"));
        let (stopped_places, stopped) = (places.clone(), id.clone());
        std::thread::spawn(move || {
            let done = Engine::open(&stopped_places).and_then(|engine| engine.stop_container(&stopped, None, StopBy::User));
            if let Err(error) = done {
                render.failure(&error.into(), None);
            }
        });
        signals.wait();
        if let Err(error) = container::kill(&places, &id, Signal::KILL) {
            render.failure(&error.into(), None);
        }
    });
    Ok(())
}

/// Shows what it writes until it has exited, and says how it did.
fn read_logs(session: &Session, id: &ContainerId) -> Result<Exit, Failure> {
    let places = &session.places;
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
