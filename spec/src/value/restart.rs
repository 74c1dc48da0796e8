//! What to do when a container's process ends.

use super::{ValueError, digits, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// Docker's restart policies: `no`, `always`, `unless-stopped`, `on-failure[:n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum RestartPolicy {
    /// Never again.
    #[default]
    No,
    /// After every exit, and at boot even if a user stopped it.
    Always,
    /// After every exit, but a stop by a user lasts, across a reboot too.
    UnlessStopped,
    /// After an exit other than 0, at most this many times in a row (without end if `None`).
    OnFailure {
        /// How many restarts in a row are tried.
        max_retries: Option<u32>,
    },
}

impl FromStr for RestartPolicy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let hint = "use no, always, unless-stopped or on-failure[:retries]";
        match text.split_once(':') {
            None => match text {
                "no" => Ok(Self::No),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                "on-failure" => Ok(Self::OnFailure { max_retries: None }),
                _ => Err(ValueError::with_hint(format!("{text:?} is not a restart policy"), hint)),
            },
            Some(("on-failure", retries)) => {
                let number =
                    digits(retries).ok_or_else(|| ValueError::with_hint(format!("{retries:?} is not a number of retries"), hint))?;
                if number == 0 {
                    // To Docker it is no limit, to a reader no retry.
                    let hint = "write on-failure for no limit, or no";
                    return Err(ValueError::with_hint("0 retries may mean none or any number", hint));
                }
                Ok(Self::OnFailure { max_retries: Some(number) })
            }
            Some(_) => Err(ValueError::with_hint(format!("{text:?} is not a restart policy"), hint)),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.pad("no"),
            Self::Always => f.pad("always"),
            Self::UnlessStopped => f.pad("unless-stopped"),
            Self::OnFailure { max_retries: None } => f.pad("on-failure"),
            Self::OnFailure { max_retries: Some(n) } => f.pad(&format!("on-failure:{n}")),
        }
    }
}

serde_as_text!(RestartPolicy);
