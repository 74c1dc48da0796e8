//! `agent image login`.

use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::image::registry::credentials::{self, Kept};
use runtime::image::registry::{Credential, verify_login};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use spec::value::Secret;
use std::io::{BufRead as _, IsTerminal as _, Read as _};

/// Longest password or token that is read.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// Log in to a registry: the password is tried there, then kept where Docker keeps it.
///
/// It goes into ~/.docker/config.json (or $DOCKER_CONFIG/config.json), readable by you alone, or to the credential helper that this
/// file names. Docker, podman and this agent share it.
#[derive(Debug, Args)]
pub(in crate::cli) struct LoginArgs {
    /// The registry, such as registry.example or 127.0.0.1:5000; Docker Hub if not given
    #[arg(default_value = "docker.io")]
    registry: String,
    /// The user; asked for on a terminal if not given
    #[arg(short, long)]
    username: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(super) fn run(args: &LoginArgs, session: &Session) -> Outcome {
    let registry = registry(&args.registry)?;
    if args.password_stdin && args.username.is_none() {
        return Err(anyhow!("--password-stdin needs --username").into());
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask(session, "Username: ", Echo::On)?,
    };
    let password = if args.password_stdin { read_password()? } else { ask(session, "Password: ", Echo::Off)? };
    if user.is_empty() || password.is_empty() || user.contains(':') {
        return Err(anyhow!("a user (without ':') and a password are needed").into());
    }
    let password = Secret::new(password);
    let access = crate::linux::registry_access(&session.places)?;
    verify_login(&access, &registry, &Credential::Password { user: user.clone(), password: password.clone() })?;
    let path = access.credentials.0.first().context("there is no home directory to keep the password in: set HOME or DOCKER_CONFIG")?;
    match credentials::store(path, &registry, &user, &password)? {
        Kept::File(path) => session.render.say(format_args!("The password is in {}, as base64 and readable by its owner.", path.display())),
        Kept::Helper(name) => session.render.say(format_args!("The password is with docker-credential-{name}.")),
    }
    session.render.line("Login Succeeded");
    Ok(exit::DONE)
}

/// The registry's name as it begins image names: people also write its URL.
pub(super) fn registry(text: &str) -> Result<String, Failure> {
    let bare = text.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    let bare = if ["index.docker.io", "registry-1.docker.io", ""].contains(&bare) { "docker.io" } else { bare };
    // A name without a dot is a host here, not a repository.
    let valid = bare.parse::<spec::value::RegistryLocation>().is_ok_and(|location| location.path().is_empty() && location.host() == bare);
    if valid { Ok(bare.to_owned()) } else { Err(anyhow!("{text:?} is not a registry: write host or host:port").into()) }
}

fn read_password() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().take(PASSWORD_BYTES_MAX).read_to_string(&mut text).context("read the password from standard input")?;
    // As with docker one line end is not part of it.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Whether what is typed is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

fn ask(session: &Session, question: &str, echo: Echo) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let hint = "give --username, and the password with --password-stdin".to_owned();
        return Err(Failure::Error { error: anyhow!("there is no terminal to ask at"), hint: Some(hint) });
    }
    // Before the question: whoever answers at once is not shown either.
    let _quiet = (echo == Echo::Off).then(|| Quiet::begin(session)).transpose()?;
    session.render.say_text(question);
    let mut line = String::new();
    stdin.lock().take(PASSWORD_BYTES_MAX).read_line(&mut line).context("read the answer")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, while it lives.
struct Quiet<'a> {
    session: &'a Session,
    before: rustix::termios::Termios,
}

impl<'a> Quiet<'a> {
    fn begin(session: &'a Session) -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).context("ask the terminal for its settings")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &quiet).context("keep the terminal from showing the password")?;
        Ok(Self { session, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that went away needs no settings.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
        self.session.render.say_text("\n");
    }
}
