//! How a build goes on, told while it does: which step, and what happened.

use crate::image::ImageId;
use crate::image::registry::IsWanted;
use spec::value::ImageReference;
use std::fmt;
use std::time::Duration;

/// Fetches an image that is neither a stage nor one of the site, as long as it is wanted: from the store by name, or from its registry.
/// Called from several threads at once, never twice for one reference in one build.
pub type Pull<'a> = dyn Fn(&ImageReference, &IsWanted<'_>) -> Result<ImageId, Box<dyn std::error::Error + Send + Sync>> + Sync + 'a;

/// Is told how a build goes on. Called from several threads at once; the events of one step come in order.
pub type Progress<'a> = dyn Fn(BuildEvent<'_>) + Sync + 'a;

/// Something happened in a step.
#[derive(Debug)]
pub struct BuildEvent<'a> {
    /// In which.
    pub step: &'a StepLabel,
    /// What.
    pub what: StepEvent<'a>,
}

/// A step: FROM, or an instruction that can make a layer. Prints as BuildKit shows it: `[build 2/4] RUN make`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepLabel {
    /// Its stage's number in the file, from 0.
    pub stage: usize,
    /// Its stage's name, `stage-2` for one without, empty if there is only one.
    pub stage_name: String,
    /// Its number in the stage, from 1.
    pub number: usize,
    /// How many steps the stage has.
    pub steps: usize,
    /// The instruction as written.
    pub instruction: String,
}

/// What can happen to a step.
#[derive(Debug)]
pub enum StepEvent<'a> {
    /// It begins.
    Started,
    /// An image is looked for in the store and in its registry.
    Fetching {
        /// Which.
        reference: &'a ImageReference,
    },
    /// It was done before. [`Self::Finished`] follows.
    Cached,
    /// A line of a command's output.
    Output {
        /// The line without its end.
        line: &'a str,
    },
    /// It is done.
    Finished {
        /// How long it took.
        took: Duration,
    },
    /// It failed; the build's error says why.
    Failed {
        /// How long it took.
        took: Duration,
    },
    /// It was broken off because another stage failed.
    Stopped,
}

impl fmt::Display for StepLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.stage_name.is_empty() { "" } else { " " };
        let mut lines = self.instruction.lines();
        let first = lines.next().unwrap_or_default();
        write!(f, "[{}{space}{}/{}] {first}", self.stage_name, self.number, self.steps)
    }
}
