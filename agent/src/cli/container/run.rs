//! `agent container run`: makes a container that no manifest describes, and stays with it or not.

use super::attend::{Leaving, Stayed, code_of, request, stay};
use super::make::{Make, MakeArgs, NotRun};
use crate::cli::{Failure, Outcome, Session, exit};
use crate::clock::now;
use crate::daemon::EndSignals;
use crate::linux::{Attendant, Then};
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::container::state::{Exit, ExitCause, Phase};
use runtime::container::{self, Attachment, Follow, LogQuery, LogStream, Manner, OnSignal, StopBy, Waited, WhileRunning};
use runtime::engine::Engine;
use runtime::shim::protocol::WaitCondition;
use spec::value::{ContainerId, Signal};
use std::ops::ControlFlow;
use std::time::Duration;

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
    #[command(flatten)]
    leaving: Leaving,
    #[command(flatten)]
    make: MakeArgs,
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
    let MakeArgs { interactive, tty, rm, .. } = args.make;
    let plain = args.make.plain(session, &engine)?;
    let is_attended = (interactive || tty) && !args.detach;
    let attendant = is_attended
        .then(|| request(tty, interactive, "leave -t out for input from a pipe or file"))
        .transpose()
        // The one refusal that has docker's plain code of failures.
        .map_err(|failure| NotRun { failure, code: exit::FAILED })?
        .map(Attendant::new);
    let make = Make { args: &args.make, session, engine: &engine, attendant: attendant.as_ref(), then: Then::Start };
    let made = make.make(plain)?;
    let id = &made.id;
    if args.detach {
        session.render.answer("id", id);
        return Ok(exit::DONE);
    }
    let attachment = attendant.and_then(Attendant::into_attachment);
    let ended = match foreground(args, session, id, attachment)? {
        Stayed::Ended(ended) => ended,
        Stayed::Left(code) => return Ok(code),
    };
    if rm {
        engine.remove_container(id, WhileRunning::Refuse)?;
    }
    match &ended.cause {
        ExitCause::StartFailed { reason } => Err(NotRun { failure: anyhow!("{reason}").into(), code: code_of(&ended) }),
        ExitCause::Own | ExitCause::Requested | ExitCause::OutOfMemory | ExitCause::Unknown => Ok(code_of(&ended)),
    }
}

/// Stays with it until it has ended or the caller leaves. What is typed at a terminal is the container's, signals too; without one
/// they stop it.
fn foreground(args: &RunArgs, session: &Session, id: &ContainerId, attachment: Option<Attachment>) -> Result<Stayed, Failure> {
    let on_signal = if args.make.tty && args.make.interactive { OnSignal::Leave } else { OnSignal::Ignore };
    let manner = Manner::new(&args.leaving.detach_keys, on_signal).context("listen to signals")?;
    if on_signal == OnSignal::Ignore {
        stop_when_told(session, id)?;
    }
    match attachment {
        Some(attachment) => stay(session, id, attachment, &manner),
        None => read_logs(session, id).map(Stayed::Ended),
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
