//! `agent container inspect`.

use super::find::find;
use crate::cli::template::Format;
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use runtime::container::state::{ContainerState, Phase};
use serde_json::{Value, json};

/// Show everything that is known about containers, as JSON.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
    /// Only this of each, such as '{{.state}}' or '{{json .config}}'
    #[arg(short, long, value_name = "TEMPLATE", value_parser = Format::parse)]
    format: Option<Format>,
}

pub(super) fn run(args: &InspectArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut documents = Vec::new();
    for id in find(&engine, &args.containers)? {
        let snapshot = runtime::container::inspect(engine.places(), &id)?;
        let keep = runtime::engine::Keep::of(&snapshot.annotations);
        documents.push(json!({
            "id": id,
            "created": runtime::time::format(snapshot.created),
            "config": snapshot.config,
            "state": state(&snapshot.state),
            "shimAlive": snapshot.shim_alive,
            "stoppedByUser": snapshot.stopped_by_user,
            "serving": keep.serving,
            "applied": keep.annotations,
        }));
    }
    Format::print(args.format.as_ref(), session.render, &documents, |render| render.json_document(&documents))?;
    Ok(exit::DONE)
}

/// The state as it is, and beside it what docker's users ask for: `.State.Status`, `.Running`, `.Pid`, `.ExitCode`, `.Health.Status`.
fn state(state: &ContainerState) -> Value {
    let (status, health) = super::ps::words(state);
    let (pid, code) = match &state.phase {
        Phase::Running { process, .. } => (Some(process.pid), None),
        Phase::Exited { exit } | Phase::Restarting { exit, .. } => (None, Some(exit.code)),
        Phase::Created => (None, None),
    };
    let mut document = json!({ "status": status, "running": pid.is_some(), "pid": pid, "exitCode": code, "health": {"status": health} });
    if let (Value::Object(document), Ok(Value::Object(whole))) = (&mut document, serde_json::to_value(state)) {
        document.extend(whole);
    }
    document
}
