//! Checks of a Dockerfile beyond what makes it build: BuildKit's rules, with our places and remedies. Pure.
//!
//! `report` collects, `names` looks at the file as a whole, `stage` walks through it with the variables that are set so far.

mod names;
mod options;
mod report;
mod rule;
mod stage;
#[cfg(test)]
mod tests;

pub use rule::Rule;

use super::file::{Dockerfile, Place, SyntaxError};
use super::ignore::IgnoreRules;
use options::Options;
use report::Report;
use std::collections::BTreeMap;

/// The build argument that stands in for the directive, as with BuildKit.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What is known besides the file.
pub struct Facts<'a> {
    /// Build arguments.
    pub args: &'a BTreeMap<String, String>,
    /// What `.dockerignore` hides.
    pub ignored: &'a IgnoreRules,
    /// The environment (`NAME=value`) of an image that FROM names; `None` if it is not known here.
    pub environment_of: &'a dyn Fn(&str) -> Option<Vec<String>>,
}

/// What is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule it breaks.
    pub rule: Rule,
    /// What is wrong, without a full stop.
    pub message: String,
    /// Where it begins.
    pub place: Place,
    /// Characters it takes on its line.
    pub length: usize,
    /// What to write instead.
    pub hint: String,
    /// Whether it is wrong in any case.
    pub certainty: Certainty,
}

/// Whether something is wrong in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It is.
    Sure,
    /// Not if the base image, which is not here to be looked at, sets the variable.
    UnlessBaseSetsIt,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// All of it, in the file's order.
    pub warnings: Vec<Warning>,
    /// Whether the author wants a build to fail for it: `# check=error=true`.
    pub fatal: bool,
}

impl Findings {
    /// Why a build is refused: what is sure, if the author wants it so.
    pub fn refusal(&self) -> Option<Vec<SyntaxError>> {
        let sure = self.warnings.iter().filter(|warning| self.fatal && warning.certainty == Certainty::Sure);
        let errors: Vec<_> = sure.map(Warning::as_error).collect();
        (!errors.is_empty()).then_some(errors)
    }
}

impl Warning {
    fn as_error(&self) -> SyntaxError {
        SyntaxError { place: self.place.clone(), problem: format!("{} ({})", self.message, self.rule), hint: Some(self.hint.clone()) }
    }
}

/// Checks a file. The error is a `check` directive that cannot be read.
pub fn lint(file: &Dockerfile, facts: &Facts<'_>) -> Result<Findings, SyntaxError> {
    let directive = || file.check.as_ref().map(|(line, text)| (file.place_of_line(*line), text.as_str()));
    let given = facts.args.get(CHECK_ARGUMENT).map(|text| (file.place_of_line(1), text.as_str()));
    let options = match given.or_else(directive) {
        None => Options::default(),
        Some((place, text)) => Options::parse(text).map_err(|problem| SyntaxError { place, problem, hint: None })?,
    };
    let fatal = options.error;
    let mut report = Report::new(file, options);
    names::check(&mut report, file);
    stage::check(&mut report, file, facts);
    Ok(Findings { warnings: report.finish(), fatal })
}
