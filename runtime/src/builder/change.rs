//! Instructions of a Dockerfile that only say something, applied to an image as it is: `--change` of commit and import.

use super::error::StepError;
use super::file::{self, Instruction};
use super::state::State;
use super::step::metadata::{self, Said};
use super::words::Lexer;
use crate::image::config::ImageConfig;
use crate::image::store::Image;

/// Why a change cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is no instruction.
    #[error("change {text:?}: {problem}")]
    Syntax {
        /// As given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It is one that does more than say something.
    #[error(
        "change {0:?} is not one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR"
    )]
    NotAWord(String),
    /// It says something that cannot be.
    #[error("change {text:?}")]
    Value {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: Box<StepError>,
    },
}

/// The configuration after these instructions, in their order. Variables are those of its environment.
pub fn change(config: ImageConfig, changes: &[String]) -> Result<ImageConfig, ChangeError> {
    if changes.is_empty() {
        return Ok(config);
    }
    let (created, lexer) = (config.created.clone(), Lexer::new('\\'));
    let before = config.config.env.clone();
    let mut state = State::of_image(Image { id: spec::value::Digest::of(b""), config, layers: Vec::new() });
    for text in changes {
        let instruction = file::parse_trigger(text).map_err(|errors| ChangeError::Syntax {
            text: text.clone(),
            problem: errors.into_iter().map(|error| error.problem).collect::<Vec<_>>().join("; "),
        })?;
        apply(&mut state, &instruction.instruction, &lexer)
            .map_err(|source| ChangeError::Value { text: text.clone(), source: Box::new(source) })?
            .ok_or_else(|| ChangeError::NotAWord(text.clone()))?;
    }
    let mut changed = state.finish("");
    changed.created = created;
    // A build completes PATH; a change that does not speak of it leaves it alone.
    if !before.iter().any(|pair| pair.starts_with("PATH=")) && !changes.iter().any(|text| text.contains("PATH")) {
        changed.config.env.retain(|pair| !pair.starts_with("PATH="));
    }
    Ok(changed)
}

/// `None` for an instruction that does more than say something.
fn apply(state: &mut State, instruction: &Instruction, lexer: &Lexer) -> Result<Option<()>, StepError> {
    match instruction {
        Instruction::Workdir(path) => {
            let path = state.absolute(&state.word(lexer, path)?);
            state.config.config.working_dir = if path == "/" { path } else { path.trim_end_matches('/').to_owned() };
            Ok(Some(()))
        }
        // Commit and import have a flag of their own for that.
        Instruction::Maintainer(_) => Ok(None),
        other => Ok(match metadata::say(state, other, lexer)? {
            Said::Line(_) | Said::Unrecorded => Some(()),
            Said::DoesMore => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::platform::Platform;

    fn changed(changes: &[&str]) -> Result<ImageConfig, String> {
        let mut config = ImageConfig::empty(&Platform::host());
        config.config.env.push("HOME=/srv".to_owned());
        config.config.working_dir = "/srv".to_owned();
        let changes: Vec<_> = changes.iter().map(|text| (*text).to_owned()).collect();
        change(config, &changes).map_err(|error| error.to_string())
    }

    #[test]
    fn instructions_that_say_something_are_applied_in_order() {
        let config =
            changed(&["ENV A=1 B=$HOME", "WORKDIR app", "CMD [\"run\", \"x\"]", "EXPOSE 80", "LABEL a=b", "ENTRYPOINT go"]).unwrap();
        assert_eq!(config.config.env, ["HOME=/srv", "A=1", "B=/srv"]);
        assert_eq!(config.config.working_dir, "/srv/app");
        assert_eq!(config.config.cmd.unwrap(), ["run", "x"]);
        assert_eq!(config.config.entrypoint.unwrap(), ["/bin/sh", "-c", "go"]);
        assert_eq!(config.created, None);
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        assert!(changed(&["RUN true"]).unwrap_err().starts_with("change \"RUN true\" is not one of CMD"));
        assert!(changed(&["BLAH x"]).unwrap_err().starts_with("change \"BLAH x\": "));
        assert!(changed(&["EXPOSE x"]).unwrap_err().contains("EXPOSE x"));
    }
}
