//! The command line: one command a file, [`render`] the only printer.

mod apply;
mod completion;
mod container;
mod destroy;
mod history;
mod image;
mod missing;
mod network;
mod plan;
mod registry;
pub mod render;
mod schema;
mod session;
mod site;
mod status;
mod system;
mod template;
mod until;
mod usage;
mod validate;
mod view;
mod volume;
mod watch;

use clap::{Args, Parser, Subcommand, ValueEnum};
use runtime::container::ContainerError;
use runtime::engine::EngineError;
use session::{Chatter, Session};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit codes, the same for every command.
pub mod exit {
    /// Done; for `plan`: nothing to do.
    pub const DONE: u8 = 0;
    /// Something failed or was refused.
    pub const FAILED: u8 = 1;
    /// For `plan`: there are changes. For everything else, as by convention: the command line was wrong.
    pub const CHANGES: u8 = 2;
    /// For `container run`, whose other exit codes are the command's: it could not be run. As docker has it.
    pub const NOT_RUN: u8 = 125;
}

/// Makes a Linux host match a Git repository or a directory of manifests.
#[derive(Debug, Parser)]
#[command(name = "agent", version, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Start here:
  agent validate ./site     check the manifests
  agent plan ./site         see what would change, and why
  agent apply ./site        change it
  agent watch ./site        keep doing it

Exit codes: 0 done (plan: nothing to do), 1 failed, 2 plan has changes (or wrong usage).";

/// Options of every command.
#[derive(Debug, Args)]
struct Global {
    /// What survives a reboot: images, volumes, containers, the ledger
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "AGENT_STATE_DIR",
        default_value = "/var/lib/host-agent",
        hide_env_values = true,
        hide_short_help = true,
        help_heading = "Global options"
    )]
    state_dir: PathBuf,
    /// What does not: sockets, pipes, live state
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "AGENT_RUN_DIR",
        default_value = "/run/host-agent",
        hide_env_values = true,
        hide_short_help = true,
        help_heading = "Global options"
    )]
    run_dir: PathBuf,
    /// Configuration of this host
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "AGENT_CONFIG_DIR",
        default_value = "/etc/host-agent",
        hide_env_values = true,
        hide_short_help = true,
        help_heading = "Global options"
    )]
    config_dir: PathBuf,
    /// Print data as JSON (one object a line where there are many)
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_short_help = true, help_heading = "Global options")]
    color: Color,
    /// Log more: once for information, twice for details (or set AGENT_LOG, such as agent=debug)
    // No short form: everywhere in Docker's words -v is a volume.
    #[arg(long, global = true, action = clap::ArgAction::Count, hide_short_help = true, help_heading = "Global options")]
    verbose: u8,
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the manifests of a site; every problem in one pass
    Validate(validate::ValidateArgs),
    /// Show what would be created, changed, replaced and removed, and why; changes nothing
    Plan(plan::PlanArgs),
    /// Make the host match the site
    Apply(apply::ApplyArgs),
    /// Keep the host matching the site
    Watch(watch::WatchArgs),
    /// Remove what a site's manifests made
    Destroy(destroy::DestroyArgs),
    /// Show what this host is made to match, and how far it does
    Status(status::StatusArgs),
    /// Show what was applied, when, and how it went
    History(history::HistoryArgs),
    /// Print the JSON schema of the manifests, for editors
    Schema(schema::SchemaArgs),
    /// Look at and steer containers
    #[command(subcommand, visible_alias = "ctr")]
    Container(container::ContainerCommand),
    /// Look at and make images
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// The build cache, in Docker's words
    #[command(subcommand, hide = true)]
    Builder(image::CacheCommand),
    /// Be the registry of other hosts
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Look at volumes
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// Look at networks
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Look at the host: kernel, store, disk
    #[command(subcommand)]
    System(system::SystemCommand),
    /// Print shell completions
    Completion(completion::CompletionArgs),
    /// Write the man pages to a directory
    #[command(hide = true)]
    Man(completion::ManArgs),
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// To be printed as an error with its chain of reasons, and a remedy where one is known.
    Error {
        /// What was tried, and why it did not work.
        error: anyhow::Error,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Everything has been printed already.
    Shown,
}

impl Failure {
    /// What is wrong with arguments, in the words for manifests.
    fn of_arguments(problems: Vec<spec::Diagnostic>) -> Self {
        let hint = problems.iter().find_map(|problem| problem.help.clone());
        let problems: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        Self::Error { error: anyhow::anyhow!("{}", problems.join("; ")), hint }
    }
}

/// What to do about a disk that is full, after all that may go went by itself.
const NO_ROOM_HINT: &str =
    "agent system df shows what takes the space, agent system prune --all frees more; the limits are in agent.yaml of the --config-dir";

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let hint = runtime::image::store::no_room(error.as_ref()).map(|_| NO_ROOM_HINT).or_else(|| refusal_hint(&error));
        Self::Error { hint: hint.map(str::to_owned).or_else(|| state_hint(&error)), error }
    }
}

/// What to do about a container that runs, or does not.
fn state_hint(error: &anyhow::Error) -> Option<String> {
    let of_container = |reason: &(dyn std::error::Error + 'static)| match reason.downcast_ref() {
        Some(EngineError::Container(error)) => hint_of(error),
        Some(_) | None => reason.downcast_ref().and_then(hint_of),
    };
    fn hint_of(error: &ContainerError) -> Option<String> {
        match error {
            ContainerError::StillRunning { id } => {
                Some(format!("agent container stop {} first, or remove it as it runs with --force", id.name))
            }
            ContainerError::NotRunning { id } => Some(format!("start it first: agent container start {}", id.name)),
            _ => None,
        }
    }
    error.chain().find_map(of_container)
}

/// What to do where the kernel refused to write, or to do what only root may.
fn refusal_hint(error: &anyhow::Error) -> Option<&'static str> {
    let kinds = error.chain().filter_map(|reason| reason.downcast_ref::<std::io::Error>().map(std::io::Error::kind));
    kinds.into_iter().find_map(|kind| match kind {
        ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => Some("the agent works as root: try again with sudo"),
        ErrorKind::ReadOnlyFilesystem => Some("--state-dir and --run-dir say where it may write"),
        _ => None,
    })
}

/// What a command comes to: an exit code, or why it has none.
type Outcome = Result<u8, Failure>;

/// Reads the command line, runs the command, prints a failure once.
pub fn main() -> ExitCode {
    let cli = usage::parse();
    let chatter = if matches!(cli.command, Command::Watch(_) | Command::Registry(_)) { Chatter::Informed } else { Chatter::Quiet };
    let session = Session::new(&cli.global, chatter);
    let outcome = run(cli.command, &session);
    ExitCode::from(match outcome {
        Ok(code) => code,
        Err(Failure::Shown) => exit::FAILED,
        Err(Failure::Error { error, hint }) => {
            session.render.failure(&error, hint.as_deref());
            exit::FAILED
        }
    })
}

fn run(command: Command, session: &Session) -> Outcome {
    match command {
        Command::Validate(args) => validate::run(&args, session),
        Command::Plan(args) => plan::run(&args, session),
        Command::Apply(args) => apply::run(&args, session),
        Command::Watch(args) => watch::run(&args, session),
        Command::Destroy(args) => destroy::run(&args, session),
        Command::Status(args) => status::run(&args, session),
        Command::History(args) => history::run(&args, session),
        Command::Schema(args) => schema::run(&args, session),
        Command::Container(command) => container::run(&command, session),
        Command::Image(command) => image::run(&command, session),
        Command::Builder(command) => image::cache(&command, session),
        Command::Registry(command) => registry::run(&command, session),
        Command::Volume(command) => volume::run(&command, session),
        Command::Network(command) => network::run(&command, session),
        Command::System(command) => system::run(&command, session),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => completion::man(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn no_option_means_two_things() {
        Cli::command().debug_assert();
    }
}
