//! `agent image history`: docker's columns, newest step first.

use super::find::find;
use crate::cli::{Outcome, Session, exit};
use crate::human::{made, size};
use clap::Args;
use serde::Serialize;

/// Show how an image came to be, step by step, the last one first.
///
/// What is built here has no time of its own (N/A), so that it is the same whenever it is built; SOURCE_DATE_EPOCH gives it one.
#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// Name or id
    image: String,
    /// Whole ids and instructions
    #[arg(long)]
    no_trunc: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Characters of an instruction that are shown.
const SHOWN: usize = 45;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    id: String,
    created: Option<String>,
    created_by: String,
    size: u64,
    comment: String,
}

pub(super) fn run(args: &HistoryArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let store = engine.images();
    let id = find(&engine, &args.image)?;
    let config = store.image(&id)?.config;
    let mut layers = config.rootfs.diff_ids.into_iter();
    let mut steps = Vec::new();
    for step in config.history {
        let layer = if step.empty_layer { None } else { layers.next() };
        let size = layer.map(|layer| store.layer(&layer)).transpose()?.flatten().map_or(0, |layer| layer.size_bytes);
        // Only the image itself has an id: what stands below it was made elsewhere, or is no image.
        let (id, created_by) = ("<missing>".to_owned(), step.created_by.unwrap_or_default());
        steps.push(Step { id, created: step.created, created_by, size, comment: step.comment.unwrap_or_default() });
    }
    if let Some(last) = steps.last_mut() {
        last.id = if args.no_trunc || session.render.json { id.to_string() } else { id.short() };
    }
    steps.reverse();
    if args.quiet {
        steps.iter().for_each(|step| session.render.line(&step.id));
        return Ok(exit::DONE);
    }
    let now = session.now().0 / 1_000_000_000;
    session.render.rows(&["image", "created", "created by", "size", "comment"], &steps, |step| {
        let mut by = step.created_by.replace(['\n', '\t'], " ");
        if !args.no_trunc && by.chars().count() > SHOWN {
            by = by.chars().take(SHOWN - 1).chain(['…']).collect();
        }
        vec![step.id.clone(), made(step.created.as_deref(), now), by, size(step.size), step.comment.clone()]
    });
    Ok(exit::DONE)
}
