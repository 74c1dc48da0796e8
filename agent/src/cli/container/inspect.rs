//! `agent container inspect`.

use super::find::find;
use crate::cli::template::Format;
use crate::cli::{Outcome, Session, exit};
use clap::Args;

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
        documents.push(serde_json::json!({
            "id": id,
            "config": snapshot.config,
            "state": snapshot.state,
            "shimAlive": snapshot.shim_alive,
            "stoppedByUser": snapshot.stopped_by_user,
            "serving": keep.serving,
            "applied": keep.annotations,
        }));
    }
    Format::print(args.format.as_ref(), session.render, &documents, |render| render.json_document(&documents))?;
    Ok(exit::DONE)
}
