//! `agent image prune`.

use crate::cli::system::prune::{Sweep, sweep};
use crate::cli::until::{self, Until};
use crate::cli::{Outcome, Session};
use clap::Args;
use runtime::engine::{Reach, UnusedImages};
use std::time::SystemTime;

/// Remove images that nothing uses: those without a name, with --all every one that no container and no site uses.
#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Images with a name too
    #[arg(short, long)]
    all: bool,
    /// Only what has come before: until=24h, or a time
    #[arg(long, value_name = "FILTER", value_parser = until::parse)]
    filter: Option<Until>,
    /// Do not ask
    #[arg(short, long, visible_short_alias = 'y', visible_alias = "yes")]
    force: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &PruneArgs, session: &Session) -> Outcome {
    let unused = if args.all { UnusedImages::Remove } else { UnusedImages::Keep };
    let before = args.filter.map(|until| until.moment(SystemTime::now()));
    let reach = Reach { unused, before, ..Reach::default() };
    sweep(session, &Sweep { reach, containers: false, volumes: false, force: args.force, dry_run: args.dry_run })
}
