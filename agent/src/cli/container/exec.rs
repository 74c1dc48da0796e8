//! `agent container exec`.

use super::find::find_one;
use crate::cli::{Outcome, Session};
use clap::Args;
use runtime::container;
use runtime::shim::bundle::{ExecCommand, Terminal};
use spec::value::UserSpec;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;

/// Run a command inside a running container; the exit code is the command's.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Keep standard input open; always so, taken for Docker's sake
    #[arg(short, long)]
    interactive: bool,
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
    if args.tty && !std::io::stdin().is_terminal() {
        session.render.warn("standard input is no terminal; the command gets none");
    }
    let terminal = if args.tty && std::io::stdin().is_terminal() { Terminal::Allocate } else { Terminal::None };
    let command = ExecCommand {
        args: args.command.clone(),
        env: args.env.iter().cloned().collect::<BTreeMap<_, _>>(),
        working_dir: args.workdir.clone(),
        user: args.user.clone(),
        terminal,
    };
    let code = container::exec(engine.places(), &id, &command)?;
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
