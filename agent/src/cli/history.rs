//! `agent history`: what was applied, when, and how it went.

use super::render::{paint, style};
use super::{Outcome, Session, exit};
use crate::clock::rfc3339;
use crate::human::age_of;
use crate::ledger::{DESTROYED, OutcomeKind};
use clap::Args;

/// Show what was applied, newest first.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// How many entries a site
    #[arg(short = 'n', long, default_value_t = 20)]
    count: u32,
}

pub(super) fn run(args: &HistoryArgs, session: &Session) -> Outcome {
    let mut rows = Vec::new();
    if let Some(ledger) = session.read_ledger()? {
        for site in ledger.sites()? {
            rows.extend(ledger.history(&site.id, args.count)?);
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.number));
    let rows: Vec<_> = rows
        .into_iter()
        .map(|it| {
            serde_json::json!({
                "number": it.number,
                "site": it.outcome.site,
                "revision": it.outcome.revision.to_string(),
                "result": it.outcome.word(),
                "times": it.times,
                "summary": it.outcome.summary,
                "errors": it.outcome.errors,
                "finished": rfc3339(it.outcome.finished),
            })
        })
        .collect();
    session.render.rows(&["nr", "age", "result", "revision", "site", "what"], &rows, |row| {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let is_good = row["result"] == OutcomeKind::Converged.as_str() || row["result"] == DESTROYED;
        let colour = if is_good { style::GOOD } else { style::BAD };
        let times = row["times"].as_u64().filter(|times| *times > 1).map(|times| format!(" ×{times}")).unwrap_or_default();
        let errors: Vec<&str> = row["errors"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
        // The first of many tells enough in a table; the JSON has them all.
        let more = errors.len().checked_sub(2).map(|rest| format!("and {} more", rest + 1));
        let what = [text("summary"), errors.first().copied().unwrap_or_default().to_owned(), more.unwrap_or_default()];
        let what: Vec<String> = what.into_iter().filter(|it| !it.is_empty()).collect();
        vec![
            row["number"].to_string(),
            age_of(&text("finished"), session.now()),
            format!("{}{times}", paint(colour, text("result"))),
            text("revision"),
            text("site"),
            what.join("; "),
        ]
    });
    Ok(exit::DONE)
}
