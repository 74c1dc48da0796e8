//! `agent container attach`.

use super::attend::{Leaving, request, stay};
use super::find::find_one;
use crate::cli::{Outcome, Session};
use anyhow::Context as _;
use clap::Args;
use runtime::container::{self, Manner, OnSignal};

/// Join a running container: see what it writes from now on, and type what it reads.
///
/// The exit code is the container's. The keys ctrl-p ctrl-q leave one that has a terminal and let it run on.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Only look
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to a container without a terminal
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[arg(require_equals = true)]
    sig_proxy: bool,
    #[command(flatten)]
    leaving: Leaving,
    /// Name or id
    container: String,
}

pub(super) fn run(args: &AttachArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let id = find_one(&engine, &args.container)?;
    let config = container::inspect(engine.places(), &id)?.config;
    let request = request(config.tty, config.stdin_open && !args.no_stdin, "only look: --no-stdin")?;
    let on_signal = match (config.tty, args.sig_proxy) {
        (true, _) => OnSignal::Leave,
        (false, true) => OnSignal::PassOn,
        (false, false) => OnSignal::Ignore,
    };
    let attachment = container::attach(engine.places(), &id, request)?;
    let manner = Manner::new(&args.leaving.detach_keys, on_signal).context("listen to signals")?;
    stay(session, &id, attachment, &manner).map(|stayed| stayed.code())
}
