//! `agent container exec`.

use super::attend::require_terminal;
use super::find::find_one;
use crate::cli::{Outcome, Session, exit};
use anyhow::Context as _;
use clap::Args;
use runtime::container;
use runtime::shim::bundle::{ExecCommand, Terminal};
use spec::value::UserSpec;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

/// Run a command inside a running container; the exit code is the command's.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Give it our input
    #[arg(short, long)]
    interactive: bool,
    /// Do not wait for it, and show nothing of it
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,
    /// An environment variable
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// As whom
    #[arg(short, long)]
    user: Option<UserSpec>,
    /// In which directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Name or id
    container: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) fn run(args: &ExecArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    let id = find_one(&engine, &args.container)?;
    let terminal = if args.tty { Terminal::Allocate } else { Terminal::None };
    require_terminal(args.tty && args.interactive, "leave -t out for input from a pipe or file")?;
    let command = ExecCommand {
        args: args.command.clone(),
        env: args.env.iter().cloned().collect::<BTreeMap<_, _>>(),
        working_dir: args.workdir.clone(),
        user: args.user.clone(),
        terminal,
    };
    if args.detach {
        let mut program = container::exec_command(engine.places(), &id, &command)?;
        // In a group of its own: what is typed at our terminal later is not its business.
        let program = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        program.spawn().with_context(|| format!("run {}", container::shim_executable().display()))?;
        return Ok(exit::DONE);
    }
    // Only who asks for it gives its input away: a loop over lines goes on to read its own.
    let input = if args.interactive { Stdio::inherit() } else { Stdio::null() };
    let code = container::exec(engine.places(), &id, &command, input)?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// `KEY=value`, or `KEY` to take the value from our own environment.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) => Err("the name is empty".to_owned()),
        None => {
            std::env::var(text).map(|value| (text.to_owned(), value)).map_err(|_| format!("{text} is not set here: write {text}=value"))
        }
    }
}
