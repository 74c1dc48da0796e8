//! `agent container prune`.

use crate::cli::system::prune::confirm_removal;
use crate::cli::until::{self, Until};
use crate::cli::{Outcome, Session};
use clap::Args;
use runtime::container::WhileRunning;
use std::time::SystemTime;

/// Remove stopped containers of no site.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only those made before: until=24h, or a time
    #[arg(long, value_name = "FILTER", value_parser = until::parse)]
    filter: Option<Until>,
    /// Do not ask
    #[arg(short, long, visible_short_alias = 'y', visible_alias = "yes")]
    force: bool,
}

pub(super) fn run(args: &PruneArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let before = args.filter.map(|until| until.moment(SystemTime::now()));
    let containers = engine.disk_usage(&session.needed(&engine)?)?.containers.into_iter();
    let unused = containers.filter(|it| it.is_unused() && before.is_none_or(|before| it.created < before));
    let unused = unused.map(|it| (it.id, it.bytes)).collect();
    confirm_removal(session, args.force, "stopped containers", unused, |id| {
        // One that was started meanwhile refuses.
        Ok(engine.remove_container(id, WhileRunning::Refuse)?)
    })
}
