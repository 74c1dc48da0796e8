//! From the command line to a running loop: leave the caller, take the lock, start or take over, say how it went.

use super::control::{Asker, Control};
use super::life::never_started;
use super::shutdown::Shutdown;
use super::streams::Input;
use super::{Ground, Life, Logs, Monitor, Weight};
use crate::cgroup::Cgroup;
use crate::container::config::NetworkConfig;
use crate::container::document::read_config;
use crate::container::list::{SHIM_LOCK, read_state};
use crate::container::liveness;
use crate::places::Places;
use crate::process::TerminalSize;
use crate::shim::dns::RESOLV_CONF;
use crate::shim::dns::responder::Responder;
use crate::shim::log::file::LogFile;
use crate::shim::log::pump::{Bench, Pump};
use crate::shim::log::record::Stream;
use crate::shim::policy::Backoff;
use crate::shim::protocol::{Reply, Request};
use crate::shim::{Problem, fifo};
use crate::sys;
use rustix::fs::FlockOperation;
use spec::value::ContainerId;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a predecessor that is about to end is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What a shim is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Where the container lives.
    pub places: Places,
    /// Which container.
    pub id: ContainerId,
    /// Whether to start it or to take it over.
    pub task: Task,
}

/// What a shim is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Start the container.
    Start,
    /// Start it before the eyes of a client at the other end of standard input, which has sent its [`Request::Attach`].
    StartAttended,
    /// Go on with one whose shim died.
    Adopt,
}

/// Forks away from the caller and watches the container until it has exited. Standard error is the lock on the container, which is
/// held until the container runs or does not, whatever becomes of the caller. One line of JSON on standard output says how the
/// start went: a [`Reply`].
pub fn main(arguments: Arguments) -> ExitCode {
    match fork_away(&arguments.places) {
        Ok(sys::Forked::Parent { .. }) => return ExitCode::SUCCESS,
        Ok(sys::Forked::Child) => {}
        Err(problem) => return say(&Reply::Error { problem: problem.0 }),
    }
    match launch(arguments) {
        Ok(monitor) => {
            if let Err(error) = let_go_of_lock() {
                monitor.note("let go of the lock", &error);
            }
            say(&Reply::State { state: monitor.state() });
            if let Err(error) = leave_output(&monitor.ground.run) {
                monitor.note("leave standard output", &error);
            }
            monitor.run();
            ExitCode::SUCCESS
        }
        Err(problem) => say(&Reply::Error { problem: problem.0 }),
    }
}

/// Forks, the child into the group of shims.
fn fork_away(places: &Places) -> Result<sys::Forked, Problem> {
    let group = Cgroup::of_shims(places).map_err(Problem::of("find control groups"))?;
    let entrance = group.entrance().or_else(|_| group.ensure_unlimited().and_then(|()| group.entrance()));
    let entrance = entrance.map_err(Problem::of("make the control group of shims"))?;
    let forked = sys::clone3(sys::Namespaces::NONE, entrance.unified.as_ref().map(AsFd::as_fd)).map_err(Problem::of("fork"))?;
    if let sys::Forked::Child = forked {
        entrance.enter_tasks().map_err(Problem::of("enter the control group of shims"))?;
    }
    Ok(forked)
}

fn launch(Arguments { places, id, task }: Arguments) -> Result<Monitor, Problem> {
    // A session of our own: no signal of a terminal reaches us. EPERM cannot be: we were just forked.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/").map_err(Problem::of("enter /"))?;
    let (directory, run) = (places.container(&id), places.container_run(&id));
    let lock = lock(&run.join(SHIM_LOCK))?;
    let ground = Ground { places, id, directory, run, _lock: lock };
    let config = read_config(&ground.places, &ground.id).map_err(Problem::of("read configuration"))?;
    let cgroup = Cgroup::of_container(&ground.places, &ground.id).map_err(Problem::of("find control groups"))?;
    let me = liveness::reference(rustix::process::getpid().as_raw_nonzero().get());
    let mut monitor = Monitor {
        me: me.ok_or_else(|| Problem("read /proc/self/stat".to_owned()))?,
        logs: open_logs(&ground, &config)?,
        terminal: None,
        size: TerminalSize::default(),
        control: Control::open(&ground.run).map_err(Problem::of("open control socket"))?,
        shutdown: Shutdown::listen().map_err(Problem::of("listen to signals"))?,
        dns: None,
        life: Life::Exited { exit: never_started() },
        restarts: 0,
        starts: 0,
        backoff: Backoff::default(),
        weight: Weight::Working,
        cgroup,
        config,
        ground,
    };
    monitor.dns = open_dns(&monitor, task)?;
    match task {
        Task::Start => begin(monitor, Input::Endless),
        Task::StartAttended => begin_attended(monitor),
        Task::Adopt => take_over(monitor),
    }
}

/// Starts it before the eyes of the client that waits on standard input.
fn begin_attended(mut monitor: Monitor) -> Result<Monitor, Problem> {
    let (asker, request) = Asker::on_stdin().map_err(Problem::of("hear who attends the start"))?;
    let Request::Attach { size, stdin } = request else { return Err(Problem("who attends a start attaches".to_owned())) };
    monitor.size = size.unwrap_or_default();
    let mut monitor = begin(monitor, if stdin { Input::Attended } else { Input::Endless })?;
    monitor.attach(asker, None);
    Ok(monitor)
}

fn begin(mut monitor: Monitor, input: Input) -> Result<Monitor, Problem> {
    if let Err(error) = monitor.start(input) {
        let problem = Problem(crate::shim::chain(&error));
        monitor.never_ran(&error);
        return Err(problem);
    }
    Ok(monitor)
}

fn take_over(mut monitor: Monitor) -> Result<Monitor, Problem> {
    let state = read_state(&monitor.ground.places, &monitor.ground.id).map_err(Problem::of("read state"))?;
    monitor.restarts = state.restarts;
    let logs = &mut monitor.logs;
    logs.bench.recover([&logs.stdout, &logs.stderr], &mut logs.file).map_err(Problem::of("recover logs"))?;
    monitor.take_over(state.phase).map_err(Problem::of("open process"))?;
    Ok(monitor)
}

fn open_logs(ground: &Ground, config: &crate::container::config::ContainerConfig) -> Result<Logs, Problem> {
    let pump = |stream: Stream| {
        let path = ground.run.join(stream.name());
        fifo::ensure(&path).and_then(|()| Pump::open(&path, stream)).map_err(Problem::of("open output pipe"))
    };
    Ok(Logs {
        stdout: pump(Stream::Stdout)?,
        stderr: pump(Stream::Stderr)?,
        bench: Bench::open(&ground.run).map_err(Problem::of("prepare logs"))?,
        file: LogFile::new(ground.directory.join("logs"), config.logs.clone()),
    })
}

/// The name server of a bridged container. Without it a start fails; an adoption does not: what runs, runs on.
fn open_dns(monitor: &Monitor, task: Task) -> Result<Option<Responder>, Problem> {
    match monitor.config.network {
        NetworkConfig::Host | NetworkConfig::None => return Ok(None),
        NetworkConfig::Bridged { .. } => {}
    }
    let namespace = monitor.ground.run.join("netns");
    match (Responder::open(&namespace, monitor.records(), RESOLV_CONF.into()), task) {
        (Ok(responder), _) => Ok(Some(responder)),
        (Err(error), Task::Start | Task::StartAttended) => Err(Problem::of("open name server in the network namespace")(error)),
        (Err(error), Task::Adopt) => {
            monitor.note("open name server in the network namespace", &error);
            Ok(None)
        }
    }
}

/// Takes the lock that makes us the one shim of this container.
fn lock(path: &Path) -> Result<File, Problem> {
    let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = options.map_err(Problem::of("open shim.lock"))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Problem("another shim watches over it".to_owned())),
            Err(error) => return Err(Problem::of("lock shim.lock")(io::Error::from(error))),
        }
    }
}

fn say(reply: &Reply) -> ExitCode {
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    // The caller may be gone: that changes nothing for the container.
    let _ = io::stdout().write_all(&line).and_then(|()| io::stdout().flush());
    match reply {
        Reply::State { .. } => ExitCode::SUCCESS,
        Reply::Error { .. } => ExitCode::FAILURE,
    }
}

/// Standard error is the lock on the container, which is shared with the caller until the container is started.
fn let_go_of_lock() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stderr(&nothing)?)
}

/// Lets go of who attended the start and of the caller's pipe; what goes wrong from now on is noted in the run directory.
fn leave_output(run: &Path) -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    let log = File::options().append(true).create(true).mode(0o600).open(run.join("shim.log"))?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}
