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
    /// When it was made, as it says itself: the same for the same content, so it tells little of built ones.
    created: Option<String>,
    /// When it came to this host.
    added: jiff::Timestamp,
}

pub(super) fn run(args: &LsArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let mut rows = Vec::new();
    for listed in engine.images().list()? {
        let (created, added) = (listed.created, jiff::Timestamp::try_from(listed.added)?);
        let row = |name| Row { name, id: listed.id, size: listed.size_bytes, created: created.clone(), added };
        rows.extend(listed.keys.into_iter().map(row));
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    if args.quiet {
        rows.iter().for_each(|row| session.render.line(row.id));
        return Ok(exit::DONE);
    }
    let now = session.now().0 / 1_000_000_000;
    session.render.rows(&["name", "id", "added", "size"], &rows, |row| {
        let added = format!("{} ago", age(now - row.added.as_second()));
        vec![row.name.clone(), row.id.short(), added, size(row.size)]
    });
    Ok(exit::DONE)
}
