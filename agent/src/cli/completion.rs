//! `agent completion SHELL` and the man pages: both from the one table of commands.

use super::{Cli, Outcome, exit};
use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Where to write agent.1, agent-plan.1, …
    directory: PathBuf,
}

pub(super) fn run(args: &CompletionArgs) -> Outcome {
    clap_complete::generate(args.shell, &mut Cli::command(), "agent", &mut std::io::stdout());
    Ok(exit::DONE)
}

pub(super) fn man(args: &ManArgs) -> Outcome {
    std::fs::create_dir_all(&args.directory).with_context(|| format!("create {}", args.directory.display()))?;
    clap_mangen::generate_to(Cli::command(), &args.directory).with_context(|| format!("write {}", args.directory.display()))?;
    Ok(exit::DONE)
}
