//! `agent image ls`.

use crate::cli::render::{age, size};
use crate::cli::{Outcome, Session, exit};
use clap::Args;
use serde::Serialize;
use spec::value::Digest;

/// List images.
#[derive(Debug, Args)]
pub(in crate::cli) struct LsArgs {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    id: Digest,
    size: u64,
    created: Option<String>,
}

pub(super) fn run(args: &LsArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut rows = Vec::new();
    for listed in engine.images().list()? {
        let created = listed.created;
        rows.extend(listed.keys.into_iter().map(|name| Row { name, id: listed.id, size: listed.size_bytes, created: created.clone() }));
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    if args.quiet {
        rows.iter().for_each(|row| session.render.line(row.id));
        return Ok(exit::DONE);
    }
    let now = session.now();
    session.render.rows(&["name", "id", "created", "size"], &rows, |row| {
        let created = row.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let created = created.map_or_else(|| "-".to_owned(), |time| format!("{} ago", age(now.0 / 1_000_000_000 - time.as_second())));
        vec![row.name.clone(), row.id.short(), created, size(row.size)]
    });
    Ok(exit::DONE)
}
