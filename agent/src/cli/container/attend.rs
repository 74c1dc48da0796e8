//! Staying with a container in the foreground, which `run`, `attach` and `start --attach` do.

use crate::cli::{Failure, Session, exit};
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::console::{self, keys::DetachKeys};
use runtime::container::state::{Exit, Phase};
use runtime::container::{AttachRequest, Attachment, Manner, Parting};
use spec::value::ContainerId;
use std::io::{ErrorKind, IsTerminal as _};

/// How to leave a container that goes on.
#[derive(Debug, Args)]
pub(super) struct Leaving {
    /// The keys that leave it running, where it has a terminal
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(super) detach_keys: DetachKeys,
}

/// What became of it while we stayed.
pub(super) enum Stayed {
    /// Its process ended.
    Ended(Exit),
    /// It goes on without us; our exit code.
    Left(u8),
}

impl Stayed {
    /// The exit code of who stayed.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Ended(exit) => code_of(exit),
            Self::Left(code) => *code,
        }
    }
}

/// What to ask of a container, which has a terminal or not, for a caller who wants to give it his input or not.
///
/// Errors: a container's terminal can be typed at from another one only; `otherwise` is what to do without one.
pub(super) fn request(tty: bool, stdin: bool, otherwise: &str) -> Result<AttachRequest, Failure> {
    require_terminal(tty && stdin, otherwise)?;
    Ok(AttachRequest { size: tty.then(console::size), stdin })
}

/// Refuses to type at a terminal from anything but another one; `otherwise` is what to do without one.
pub(super) fn require_terminal(is_typed_at: bool, otherwise: &str) -> Result<(), Failure> {
    if is_typed_at && !std::io::stdin().is_terminal() {
        let hint = format!("try it on a terminal, or {otherwise}");
        return Err(Failure::Error { error: anyhow!("the input device is not a TTY"), hint: Some(hint) });
    }
    Ok(())
}

/// Stays until it ends or the caller leaves.
pub(super) fn stay(session: &Session, id: &ContainerId, attachment: Attachment, manner: &Manner<'_>) -> Result<Stayed, Failure> {
    let parting = match attachment.attend(manner) {
        // A reader that went away (`| head`) ends us quietly, as with all else that we print.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Stayed::Left(exit::DONE)),
        parting => parting.with_context(|| format!("show what {id} writes"))?,
    };
    let dropped = |why: &str| {
        let hint = Some(format!("look at it: agent container logs {id}; join it again: agent container attach {id}"));
        Failure::Error { error: anyhow!("no longer attached to {id}: {why}"), hint }
    };
    match parting {
        Parting::Ended(state) => match state.phase {
            Phase::Exited { exit } => Ok(Stayed::Ended(exit)),
            Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } => Err(dropped("its shim does not say how it ended")),
        },
        Parting::Detached => {
            // The cursor is somewhere in the container's line.
            session.render.say("");
            Ok(Stayed::Left(exit::DONE))
        }
        // As a shell has it.
        Parting::Signal(number) => Ok(Stayed::Left(u8::try_from(128 + number).unwrap_or(u8::MAX))),
        Parting::Dropped(why) => Err(dropped(&why)),
    }
}

/// The exit code of a process as ours.
pub(super) fn code_of(ended: &Exit) -> u8 {
    u8::try_from(ended.code).unwrap_or(u8::MAX)
}
