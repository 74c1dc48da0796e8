//! What a container made by hand is to be, as arguments of `run` and `create`, and its making: by the same plan and the same hands as
//! all others. It is a site of its own that holds nothing else.

use super::attend::code_of;
use super::exec::pair;
use crate::apply::Event;
use crate::cli::render::Render;
use crate::cli::view::Teller;
use crate::cli::{Failure, Session, exit};
use crate::linux::{Attendant, ByHand, LinuxHost, Then, Transient, create_volume};
use crate::plan::Policy;
use crate::plan::action::{Action, Plan, Step};
use crate::plan::actual::SiteId;
use crate::reconcile::{Cycle, Watcher, converge};
use crate::site::Site;
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::container::state::Phase;
use runtime::container::{self, Remover, WhileRunning};
use runtime::engine::Engine;
use runtime::places::Places;
use spec::desired::Volume;
use spec::value::{ContainerId, MountTarget, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

/// Exit codes of a start that failed at the program itself: there is one that cannot be run, and there is none. As a shell has it.
const CODE_NO_PROGRAM: i32 = 126;
const CODE_NOT_FOUND: i32 = 127;

/// The network of containers that name none.
pub(crate) const DEFAULT_NETWORK: &str = "default";

/// What it is to be.
#[derive(Debug, Args)]
pub(super) struct MakeArgs {
    /// Give it our input, or with --detach keep its standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Remove it with its anonymous volumes when it has exited
    #[arg(long)]
    pub(super) rm: bool,
    /// Its name
    #[arg(long)]
    pub(super) name: Option<Name>,
    /// An environment variable
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) env: Vec<(String, String)>,
    /// A published port, such as 8080:80
    #[arg(short, long, value_name = "PORT")]
    pub(super) publish: Vec<String>,
    /// A volume or bind mount, such as data:/var/lib/x or /host/path:/x:ro; /x alone is a volume that goes with it
    #[arg(short, long, value_name = "MOUNT")]
    pub(super) volume: Vec<String>,
    /// The same in the long form, such as type=volume,source=data,target=/var/lib/x,readonly
    #[arg(long, value_name = "MOUNT")]
    pub(super) mount: Vec<String>,
    /// A network by name, or host, or none; the default network if not given
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(super) network: Vec<String>,
    /// A further name that it answers to on these networks
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub(super) network_alias: Vec<Name>,
    /// Its address on its network
    #[arg(long, value_name = "ADDRESS")]
    pub(super) ip: Option<String>,
    /// As whom
    #[arg(short, long)]
    pub(super) user: Option<String>,
    /// In which directory
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// Replaces the image's entrypoint
    #[arg(long)]
    pub(super) entrypoint: Option<String>,
    /// no, always, unless-stopped or on-failure[:n]
    #[arg(long, default_value = "no")]
    pub(super) restart: String,
    /// Memory limit, such as 256Mi
    #[arg(short, long)]
    pub(super) memory: Option<String>,
    /// Processor limit, such as 0.5
    #[arg(long)]
    pub(super) cpus: Option<String>,
    /// Limit of processes
    #[arg(long)]
    pub(super) pids_limit: Option<u32>,
    /// A file with environment variables, KEY=value a line
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// A label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    pub(super) label: Vec<(String, String)>,
    /// Its host name; its name if not given
    #[arg(long)]
    pub(super) hostname: Option<String>,
    /// A file system in memory, such as /run or /tmp:size=64m
    #[arg(long, value_name = "MOUNT")]
    pub(super) tmpfs: Vec<String>,
    /// A capability more than usual
    #[arg(long, value_name = "CAPABILITY")]
    pub(super) cap_add: Vec<String>,
    /// A capability less than usual, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(super) cap_drop: Vec<String>,
    /// The signal that asks it to stop
    #[arg(long, value_name = "SIGNAL")]
    pub(super) stop_signal: Option<String>,
    /// Seconds it has to stop before SIGKILL
    #[arg(long, value_name = "SECONDS")]
    pub(super) stop_timeout: Option<u32>,
    /// A command that tells whether it is healthy
    #[arg(long, value_name = "COMMAND")]
    pub(super) health_cmd: Option<String>,
    /// Time between two of them, such as 30s
    #[arg(long, value_name = "DURATION", requires = "health_cmd")]
    pub(super) health_interval: Option<String>,
    /// Time that one may take
    #[arg(long, value_name = "DURATION", requires = "health_cmd")]
    pub(super) health_timeout: Option<String>,
    /// Failures in a row after which it is unhealthy
    #[arg(long, value_name = "COUNT", requires = "health_cmd")]
    pub(super) health_retries: Option<u32>,
    /// Time to start in which failures do not count
    #[arg(long, value_name = "DURATION", requires = "health_cmd")]
    pub(super) health_start_period: Option<String>,
    /// Leave out the image's own health check
    #[arg(long, conflicts_with = "health_cmd")]
    pub(super) no_healthcheck: bool,
    /// Mount the root file system read-only
    #[arg(long)]
    pub(super) read_only: bool,
    /// The image
    pub(super) image: String,
    /// The command and its arguments; the image's own if not given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

/// Nothing ran: why, and the exit code that says so.
pub(super) struct NotRun {
    pub(super) failure: Failure,
    pub(super) code: u8,
}

impl<E: Into<Failure>> From<E> for NotRun {
    fn from(failure: E) -> Self {
        Self { failure: failure.into(), code: exit::NOT_RUN }
    }
}

/// What is to be made, as far as that can be said without a look at the host.
pub(super) struct Plain {
    name: Name,
    site: Site,
    anonymous: Vec<MountTarget>,
    transient: Option<Transient>,
}

/// What was made; as long as somebody has this, it is not removed by itself.
pub(super) struct Made {
    pub(super) id: ContainerId,
    #[expect(dead_code, reason = "it stays as long as this does")]
    transient: Option<Transient>,
}

impl MakeArgs {
    /// What it is to be. Arguments that are wrong are refused before anything is waited for.
    pub(super) fn plain(&self, session: &Session, engine: &Engine) -> Result<Plain, Failure> {
        if self.rm && self.restart != "no" {
            let hint = Some("one that is removed when it has exited is not restarted: leave one of them out".to_owned());
            return Err(Failure::Error { error: anyhow!("--rm and --restart contradict each other"), hint });
        }
        if self.network.iter().any(|network| network.starts_with("container:")) {
            let hint = Some("put both on a network: agent container run --network NAME, agent network connect NAME CONTAINER".to_owned());
            return Err(Failure::Error { error: anyhow!("a container has no part in another one's network"), hint });
        }
        let name = self.name.clone().map_or_else(|| free_name(engine), Ok)?;
        let site = site(self, &name)?;
        let anonymous = self.volume.iter().filter(|mount| is_anonymous(mount)).map(|target| target.parse());
        let anonymous = anonymous.collect::<Result<_, _>>()?;
        let transient = self.rm.then(|| remover(session)).transpose()?.map(Transient::new);
        Ok(Plain { name, site, anonymous, transient })
    }

    /// Its probe, if it is not just the image's.
    fn health(&self) -> Option<serde_json::Value> {
        if self.no_healthcheck {
            return Some(serde_json::json!({"test": ["NONE"]}));
        }
        let command = self.health_cmd.as_ref()?;
        let mut health = serde_json::json!({"test": ["CMD-SHELL", command]});
        let spans = [("interval", &self.health_interval), ("timeout", &self.health_timeout), ("startPeriod", &self.health_start_period)];
        for (field, span) in spans.into_iter().filter(|(_, span)| span.is_some()) {
            health[field] = span.clone().into();
        }
        if let Some(retries) = self.health_retries {
            health["retries"] = retries.into();
        }
        Some(health)
    }
}

/// What a container is made with.
pub(super) struct Make<'a> {
    pub(super) args: &'a MakeArgs,
    pub(super) session: &'a Session,
    pub(super) engine: &'a Engine,
    pub(super) attendant: Option<&'a Attendant>,
    pub(super) then: Then,
}

/// `run-1`, `run-2`, …: the first that no container has.
fn free_name(engine: &Engine) -> Result<Name, Failure> {
    let taken = engine.container_ids()?;
    let candidates = (1u32..).map(|number| format!("run-{number}").parse::<Name>().expect("letters, a dash and digits are a name"));
    let mut free = candidates.filter(|name| !taken.iter().any(|id| id.name == *name));
    Ok(free.next().expect("there are more numbers than containers"))
}

impl Make<'_> {
    /// Makes it, and starts it if it is to run.
    pub(super) fn make(self, Plain { mut name, site: mut made, anonymous, transient }: Plain) -> Result<Made, NotRun> {
        let Self { args, session, engine, attendant, then } = self;
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
        let by_hand = ByHand { attendant, transient: transient.as_ref(), then, anonymous: &anonymous };
        let host = LinuxHost::new(engine, &ledger, &made).by_hand(by_hand);
        let pulls = Pulls { render: session.render, image: args.image.clone(), teller: OnceLock::new() };
        let cycle = converge(&host, &made.desired, &policy, &AtomicBool::new(false), &pulls);
        if let Some(teller) = pulls.teller.into_inner() {
            teller.end();
        }
        let cycle = cycle?;
        match (refuse(&cycle), engine.current(&name)?) {
            (Ok(()), Some(id)) => Ok(Made { id, transient }),
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

/// The arguments as the manifest they stand for, read like any other: the same checks, the same short forms.
fn site(args: &MakeArgs, name: &Name) -> Result<Site, Failure> {
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
    let mounts = args.mount.iter().map(|mount| long_mount(mount)).collect::<Result<Vec<_>, _>>()?;
    let named = args.volume.iter().filter(|mount| !is_anonymous(mount));
    set("volumes", named.map(|mount| mount.clone().into()).chain(mounts).collect());
    if let Some(health) = args.health() {
        set("healthcheck", health);
    }
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

/// Whether only a place is named: a volume of the container's own is mounted there.
fn is_anonymous(mount: &str) -> bool {
    mount.starts_with('/') && !mount.contains(':')
}

/// The volumes that are mounted by name.
fn volume_names(args: &MakeArgs) -> BTreeSet<Name> {
    let short = args.volume.iter().filter_map(|mount| mount.split_once(':')?.0.parse().ok());
    let long = args.mount.iter().filter_map(|mount| {
        let mount = long_mount(mount).ok().filter(|mount| mount["type"] == "volume")?;
        mount["source"].as_str()?.parse().ok()
    });
    short.chain(long).collect()
}

/// `type=volume,source=data,target=/data,readonly` as the long form of manifests.
fn long_mount(text: &str) -> Result<serde_json::Value, Failure> {
    let mut mount = serde_json::json!({"type": "volume"});
    for option in text.split(',') {
        let (key, value) = option.split_once('=').unwrap_or((option, "true"));
        let (field, value) = match key {
            "type" => ("type", value.into()),
            "source" | "src" => ("source", value.into()),
            "target" | "destination" | "dst" => ("target", value.into()),
            "readonly" | "ro" => ("readOnly", ["true", "1"].contains(&value).into()),
            "tmpfs-size" => ("size", value.into()),
            "tmpfs-mode" => ("mode", value.into()),
            _ => {
                let hint = Some("it takes type, source, target, readonly, tmpfs-size and tmpfs-mode".to_owned());
                return Err(Failure::Error { error: anyhow!("--mount does not know {key:?}"), hint });
            }
        };
        mount[field] = value;
    }
    Ok(mount)
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
