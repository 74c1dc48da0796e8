//! `agent container …`: look at and steer containers, in Docker's words. Works with or without a watch running.

mod attach;
mod attend;
mod commit;
mod cp;
mod create;
mod exec;
mod export;
mod find;
mod inspect;
mod lifecycle;
mod logs;
mod make;
mod port;
mod prune;
mod ps;
mod run;
mod stats;
mod top;
mod update;

pub(super) use commit::{CommitArgs, run as commit};
pub(super) use export::{ExportArgs, run as export};
pub(super) use find::find_one;
pub(super) use make::{DEFAULT_NETWORK, label};
pub(super) use update::refuse_if_of_site;

use super::{Outcome, Session};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum ContainerCommand {
    /// List containers
    #[command(visible_alias = "ls", alias = "list")]
    Ps(ps::PsArgs),
    /// Run a command in a new container that no manifest describes
    Run(Box<run::RunArgs>),
    /// Make a container that no manifest describes, and do not start it
    Create(Box<create::CreateArgs>),
    /// Join a running container: its terminal, or what it reads and writes
    Attach(attach::AttachArgs),
    /// Show what containers wrote
    Logs(logs::LogsArgs),
    /// Run a command inside a running container
    Exec(exec::ExecArgs),
    /// Copy files between a container and the host
    Cp(cp::CpArgs),
    /// Show processor time, memory and processes of running containers
    Stats(stats::StatsArgs),
    /// Show the processes of a running container
    Top(top::TopArgs),
    /// Show which ports of the host lead to a container
    Port(port::PortArgs),
    /// Change limits and the restart policy of containers run by hand
    Update(update::UpdateArgs),
    /// Show everything that is known about containers, as JSON
    Inspect(inspect::InspectArgs),
    /// Start stopped containers
    Start(lifecycle::StartArgs),
    /// Stop containers; they stay stopped until they are started again
    Stop(lifecycle::StopArgs),
    /// Stop containers and start them again
    Restart(lifecycle::StopArgs),
    /// Send a signal to containers
    Kill(lifecycle::KillArgs),
    /// Remove containers; a watch makes those of its site again
    #[command(alias = "remove")]
    Rm(lifecycle::RmArgs),
    /// Remove stopped containers of no site
    Prune(prune::PruneArgs),
    /// Wait until containers have exited, print their exit codes
    Wait(lifecycle::WaitArgs),
    /// Make an image of a container as it is now
    Commit(CommitArgs),
    /// Write a container's files to a tar
    Export(ExportArgs),
}

pub(super) fn run(command: &ContainerCommand, session: &Session) -> Outcome {
    match command {
        ContainerCommand::Ps(args) => ps::run(args, session),
        ContainerCommand::Run(args) => run::run(args, session),
        ContainerCommand::Create(args) => create::run(args, session),
        ContainerCommand::Cp(args) => cp::run(args, session),
        ContainerCommand::Top(args) => top::run(args, session),
        ContainerCommand::Port(args) => port::run(args, session),
        ContainerCommand::Update(args) => update::run(args, session),
        ContainerCommand::Prune(args) => prune::run(args, session),
        ContainerCommand::Attach(args) => attach::run(args, session),
        ContainerCommand::Logs(args) => logs::run(args, session),
        ContainerCommand::Exec(args) => exec::run(args, session),
        ContainerCommand::Stats(args) => stats::run(args, session),
        ContainerCommand::Inspect(args) => inspect::run(args, session),
        ContainerCommand::Start(args) => lifecycle::start(args, session),
        ContainerCommand::Stop(args) => lifecycle::stop(args, session),
        ContainerCommand::Restart(args) => lifecycle::restart(args, session),
        ContainerCommand::Kill(args) => lifecycle::kill(args, session),
        ContainerCommand::Rm(args) => lifecycle::rm(args, session),
        ContainerCommand::Wait(args) => lifecycle::wait(args, session),
        ContainerCommand::Commit(args) => commit(args, session),
        ContainerCommand::Export(args) => export(args, session),
    }
}
