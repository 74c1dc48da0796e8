//! `agent status`: what this host is made to match, and how far it does.

use super::render::{paint, style};
use super::{Failure, Outcome, Session, exit};
use crate::clock::rfc3339;
use crate::daemon::{Status, is_watched};
use crate::human::age_of;
use crate::ledger::{DESTROYED, OutcomeKind};
use clap::Args;

/// How far back the outcome of the present revision is looked for; behind it there are only repairs after an older one.
const HISTORY_LENGTH: u32 = 100;

/// Show what this host is made to match, and how far it does.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {}

pub(super) fn run(_: &StatusArgs, session: &Session) -> Outcome {
    let rows = rows(session)?;
    if session.render.json {
        rows.iter().for_each(|row| session.render.json_line(row));
    } else if rows.is_empty() {
        session.render.line("Nothing is applied to this host.");
    } else {
        rows.iter().for_each(|row| show(row, session));
    }
    Ok(exit::DONE)
}

/// One object a site.
fn rows(session: &Session) -> Result<Vec<serde_json::Value>, Failure> {
    let watch = if is_watched(&session.places.run)? { Status::read(&session.places.run)? } else { None };
    let mut rows = Vec::new();
    let mut is_known = false;
    if let Some(ledger) = session.read_ledger()? {
        for site in ledger.sites()? {
            let watched = watch.as_ref().filter(|watch| watch.site == site.id);
            is_known |= watched.is_some();
            // A refused revision stays what the host should match, whatever is repaired meanwhile after the last good one.
            let revision = watched.and_then(|watch| watch.revision.clone()).or(site.last_revision);
            let mut history = ledger.history(&site.id, HISTORY_LENGTH)?.into_iter();
            let last = history.find(|it| Some(&it.outcome.revision) == revision.as_ref());
            // It has nothing any more; the history knows of it.
            if watched.is_none() && last.as_ref().is_some_and(|it| it.outcome.word() == DESTROYED) {
                continue;
            }
            let cycle = watched.and_then(|watch| watch.cycle.as_ref()).filter(|cycle| !cycle.errors.is_empty());
            let errors = cycle.map(|cycle| &cycle.errors).or(last.as_ref().map(|it| &it.outcome.errors));
            rows.push(serde_json::json!({
                "site": site.id,
                "source": site.source,
                "revision": revision.as_ref().map(ToString::to_string),
                "goodRevision": site.good_revision.as_ref().map(ToString::to_string),
                "result": last.as_ref().map(|it| it.outcome.word()),
                "errors": errors,
                "fetchProblem": watched.and_then(|watch| watch.fetch.problem.as_ref()),
                "finished": last.as_ref().map(|it| rfc3339(it.outcome.finished)),
                "watched": watched,
            }));
        }
    }
    // A site that is watched for the first time: nothing is on record until its first turn is over.
    if let Some(watch) = watch.as_ref().filter(|_| !is_known) {
        rows.push(serde_json::json!({
            "site": watch.site,
            "source": watch.source,
            "revision": watch.revision.as_ref().map(ToString::to_string),
            "errors": watch.cycle.as_ref().map(|cycle| &cycle.errors),
            "fetchProblem": watch.fetch.problem,
            "watched": watch,
        }));
    }
    Ok(rows)
}

fn show(row: &serde_json::Value, session: &Session) {
    let render = session.render;
    let text = |field: &str| row[field].as_str().unwrap_or("-").to_owned();
    let colour = if row["result"] == OutcomeKind::Converged.as_str() { style::GOOD } else { style::BAD };
    let result = match row["result"].as_str() {
        Some(result) => format!("{} {} ago", paint(colour, result), age_of(&text("finished"), session.now())),
        None => "none yet".to_owned(),
    };
    render.line(paint(style::STRONG, text("site")));
    render.line(format_args!("  source      {}", text("source")));
    render.line(format_args!("  revision    {}", text("revision")));
    render.line(format_args!("  result      {result}"));
    if row["goodRevision"] != row["revision"] && row["goodRevision"].is_string() {
        render.line(format_args!("  last good   {}", text("goodRevision")));
    }
    for error in row["errors"].as_array().into_iter().flatten() {
        render.line(format_args!("  {} {}", paint(style::BAD, "error"), error.as_str().unwrap_or_default()));
    }
    if let Some(problem) = row["fetchProblem"].as_str() {
        render.line(format_args!("  {} the source does not answer: {problem}", paint(style::BAD, "error")));
    }
    for (repository, problem) in row["watched"]["contextProblems"].as_object().into_iter().flatten() {
        let problem = problem.as_str().unwrap_or_default();
        render.line(format_args!("  {} {repository}, which builds take from, cannot be followed: {problem}", paint(style::BAD, "error")));
    }
    let watched = if row["watched"].is_null() { "no watch is running" } else { "a watch is running" };
    render.line(format_args!("  watch       {watched}"));
}
