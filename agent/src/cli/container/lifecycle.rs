//! `agent container start | stop | restart | kill | rm | wait`: each says a line for each container and goes on past failures.

use super::attend::{Leaving, request, stay};
use super::find::{find, find_one};
use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::container::state::Phase;
use runtime::container::{self, ContainerError, Manner, OnSignal, StopBy, WhileRunning, WhileSomebodyStays};
use runtime::engine::{Engine, EngineError, Lead};
use runtime::shim::protocol::WaitCondition;
use spec::value::{ContainerId, Signal};
use std::time::Duration;

/// How long the end of a killed container is waited for.
const KILLED_MAX: Duration = Duration::from_secs(10);

/// Start stopped containers.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Show what it writes, and exit with its exit code; for one container
    #[arg(short, long)]
    attach: bool,
    /// Give it our input, if its standard input is open; shows what it writes too
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    leaving: Leaving,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Stop containers: their stop signal, then after a grace period SIGKILL.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    /// Grace before SIGKILL, such as 10s; the container's own if not given
    #[arg(short, long, value_name = "DURATION", value_parser = seconds)]
    time: Option<Duration>,
}

/// Send a signal to containers.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    /// Which signal
    #[arg(short, long, default_value = "SIGKILL")]
    signal: Signal,
}

/// Remove containers.
///
/// A watch makes the containers of its site again: that is what it is for. To be rid of one for good, remove its manifest.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    /// Running ones too
    #[arg(short, long)]
    force: bool,
    /// Only those of `run --rm` that have exited, when nobody reads them any more: what their shims call
    #[arg(long, hide = true, conflicts_with = "force")]
    ended: bool,
}

/// Wait until containers have exited, print their exit codes.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

pub(super) fn start(args: &StartArgs, session: &Session) -> Outcome {
    if args.attach || args.interactive {
        return start_attached(args, session);
    }
    each(&args.containers, session, |engine, id| engine.start_container(id, Lead::Now).map(drop))
}

fn start_attached(args: &StartArgs, session: &Session) -> Outcome {
    let [name] = &args.containers[..] else {
        let hint = Some("start them without --attach and --interactive, then attach to one".to_owned());
        return Err(Failure::Error { error: anyhow!("only one container can be attached to at a time"), hint });
    };
    let engine = session.engine()?;
    let id = find_one(&engine, name)?;
    let config = container::inspect(engine.places(), &id)?.config;
    let request = request(config.tty, config.stdin_open && args.interactive, "only look: leave -i out")?;
    let attachment = engine.start_attached(&id, Lead::Now, request)?;
    let on_signal = if config.tty { OnSignal::Leave } else { OnSignal::PassOn };
    let manner = Manner::new(&args.leaving.detach_keys, on_signal).context("listen to signals")?;
    stay(session, &id, attachment, &manner).map(|stayed| stayed.code())
}

pub(super) fn stop(args: &StopArgs, session: &Session) -> Outcome {
    each(&args.containers, session, |engine, id| engine.stop_container(id, args.time, StopBy::User).map(drop))
}

pub(super) fn restart(args: &StopArgs, session: &Session) -> Outcome {
    each(&args.containers, session, |engine, id| {
        let _stay = container::stay(engine.places(), id)?;
        engine.stop_container(id, args.time, StopBy::Plan)?;
        engine.start_container(id, Lead::Now).map(drop)
    })
}

pub(super) fn kill(args: &KillArgs, session: &Session) -> Outcome {
    each(&args.containers, session, |engine, id| {
        container::kill(engine.places(), id, args.signal)?;
        // Nothing survives this one: who asked for it finds it done, as with docker.
        if args.signal == Signal::KILL {
            match container::wait(engine.places(), id, WaitCondition::Exited, Some(KILLED_MAX)) {
                Ok(_) | Err(ContainerError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    })
}

pub(super) fn rm(args: &RmArgs, session: &Session) -> Outcome {
    if args.ended {
        return rm_ended(args, session);
    }
    let while_running = if args.force { WhileRunning::Kill } else { WhileRunning::Refuse };
    each(&args.containers, session, |engine, id| engine.remove_container(id, while_running))
}

fn rm_ended(args: &RmArgs, session: &Session) -> Outcome {
    let Some(engine) = session.look()? else { return Ok(exit::DONE) };
    for id in &args.containers {
        engine.remove_ended(&id.parse()?, WhileSomebodyStays::Wait)?;
    }
    Ok(exit::DONE)
}

pub(super) fn wait(args: &WaitArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    for id in find(&engine, &args.containers)? {
        let waited = container::wait(engine.places(), &id, WaitCondition::Exited, None)?;
        let code = match &waited.state().phase {
            Phase::Exited { exit } => Some(exit.code),
            Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } => None,
        };
        match code {
            _ if session.render.json => session.render.json_line(&serde_json::json!({"id": id, "exitCode": code})),
            Some(code) => session.render.line(code),
            None => session.render.line("it never ran"),
        }
    }
    Ok(exit::DONE)
}

fn each(names: &[String], session: &Session, verb: impl Fn(&Engine, &ContainerId) -> Result<(), EngineError>) -> Outcome {
    let engine = session.engine()?;
    let mut failed = false;
    for id in find(&engine, names)? {
        match verb(&engine, &id) {
            Ok(()) => session.render.answer("id", &id),
            Err(error) => {
                failed = true;
                if let Failure::Error { error, hint } = error.into() {
                    session.render.failure(&error, hint.as_deref());
                }
            }
        }
    }
    if failed { Err(Failure::Shown) } else { Ok(exit::DONE) }
}

/// A span with a unit, or a bare number of seconds as Docker's `--time` has it.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => spec::value::duration::parse(text).map_err(|error| error.to_string()),
    }
}
