//! `agent watch`: keeps the host matching the site.

use super::session::holder;
use super::site::SiteArgs;
use super::{Failure, Outcome, Session, exit};
use crate::cycle::Turns;
use crate::daemon::{WatchError, WatchOptions, watch, watch_lock};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Keep the host matching the site, until SIGTERM or Ctrl-C; containers go on running then.
///
/// A directory is watched, a Git repository is asked every --interval, and so is each one that builds take from; SIGHUP asks at once.
/// What breaks on the host by other hands is repaired. A site with problems changes nothing: the last good one is kept up.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// How often a Git repository is asked
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = span)]
    interval: Duration,
    /// How often the host is looked at without a hint that something changed
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = span)]
    drift_interval: Duration,
}

pub(super) fn run(args: &WatchArgs, session: &Session) -> Outcome {
    let source = Arc::new(args.site.open(session)?);
    let options = WatchOptions { places: session.places.clone(), poll_interval: args.interval, drift_interval: args.drift_interval };
    let mut turns = Turns::new(session.engine()?, session.ledger()?, Arc::clone(&source));
    watch(source, options, move |wake| turns.turn(&wake)).map_err(|error| match &error {
        WatchError::AlreadyWatched { run } => {
            let who = holder(&watch_lock(run)).unwrap_or_else(|| "another process".to_owned());
            let hint = Some(format!("it is {who}; a host has one watch, and agent status shows what it does"));
            Failure::Error { error: error.into(), hint }
        }
        WatchError::Status(_) | WatchError::System { .. } | WatchError::Cycle { .. } => error.into(),
    })?;
    Ok(exit::DONE)
}

fn span(text: &str) -> Result<Duration, String> {
    let span = spec::value::duration::parse(text).map_err(|error| error.to_string())?;
    if span < Duration::from_millis(100) { Err("less than 100ms would only keep the host busy".to_owned()) } else { Ok(span) }
}
