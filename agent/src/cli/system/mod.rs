//! `agent system …`: the host as a whole. A verb a file.

mod df;
mod info;
pub(super) mod prune;
mod reset;

use super::{Outcome, Session};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum SystemCommand {
    /// Show what the kernel offers, and what is missing
    Info(info::InfoArgs),
    /// Show what uses disk space, and what of it could be freed
    Df(df::DfArgs),
    /// Remove what nothing uses, after showing it
    Prune(prune::PruneArgs),
    /// Remove everything of this agent from the host: containers, networks, images, volumes
    Reset(reset::ResetArgs),
}

pub(super) fn run(command: &SystemCommand, session: &Session) -> Outcome {
    match command {
        SystemCommand::Info(_) => info::run(session),
        SystemCommand::Df(args) => df::run(args, session),
        SystemCommand::Prune(args) => prune::run(args, session),
        SystemCommand::Reset(args) => reset::run(args, session),
    }
}
