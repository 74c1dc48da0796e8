//! What all stages of a build share.

use super::BuildRequest;
use super::cache::{Cache, CacheRecord};
use super::clock::BuildTime;
use super::context::Context;
use super::distant::Distant;
use super::download::Downloads;
use super::error::{BuildError, StepError};
use super::event::{BuildEvent, Progress, Pull, StepEvent, StepLabel};
use super::file::Statement;
use super::graph::{Graph, Origin};
use super::schedule::Schedule;
use super::share::Steps;
use super::state::State;
use super::step::source::From;
use super::words::Lexer;
use crate::image::ImageId;
use crate::image::store::{Image, ImageStore};
use crate::network::Sandboxes;
use spec::value::{Digest, ImageReference};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All that a build knows while it runs, for all its threads.
pub(super) struct Build<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) request: &'a BuildRequest,
    pub(super) context: Context,
    /// Directories that have a name.
    pub(super) contexts: BTreeMap<String, Context>,
    pub(super) downloads: Downloads,
    /// Digest of the Dockerfile's text.
    pub(super) recipe: Digest,
    pub(super) cache: Cache,
    pub(super) distant: Distant<'a>,
    pub(super) graph: Graph,
    pub(super) schedule: Schedule,
    /// How a stage is built; one may need another.
    pub(super) stage_builder: StageBuilder,
    /// Networks of RUN steps.
    pub(super) sandboxes: Sandboxes,
    pub(super) lexer: Lexer,
    pub(super) time: BuildTime,
    /// An empty directory.
    pub(super) empty: PathBuf,
    /// The Dockerfile.
    pub(super) text: String,
    pub(super) pull: &'a Pull<'a>,
    pub(super) progress: &'a Progress<'a>,
    pub(super) images: Mutex<BTreeMap<String, Arc<Mutex<Option<ImageId>>>>>,
    /// Steps that are done, for whoever takes the cache elsewhere.
    pub(super) steps: Mutex<Steps>,
}

/// Builds a stage, by its place in the graph.
pub(super) type StageBuilder = fn(&Build<'_>, usize) -> Result<State, BuildError>;

/// What `--from` leads to.
pub(super) enum Layers {
    /// A stage or image.
    Stack {
        /// What errors call it.
        name: String,
        /// Directories, lowest first.
        directories: Vec<PathBuf>,
        /// Digests, lowest first.
        diff_ids: Vec<Digest>,
    },
    /// A context by this name.
    Context(String),
}

impl Build<'_> {
    /// Notes that a stage and those that it needs are to be built.
    pub(super) fn need(&self, stage: usize) {
        self.schedule.add(self.graph.needed(stage).into_iter().map(|stage| (stage, self.graph.stages[stage].base.stage())));
    }

    /// A stage, as soon as it is done. A trigger of a base image may be the first to name it.
    pub(super) fn stage(&self, index: usize) -> Result<Arc<State>, StepError> {
        self.need(index);
        self.schedule.need(index, &|stage| (self.stage_builder)(self, stage))
    }

    /// What `--from` means in a stage; `None` is the context. Waits for a stage that is not done.
    pub(super) fn layers_of(&self, stage: usize, from: Option<&str>, label: &StepLabel) -> Result<Option<Layers>, StepError> {
        let origin = from.map(|from| self.graph.origin(stage, from)).transpose().map_err(StepError::Invalid)?;
        Ok(match &origin {
            None | Some(Origin::Scratch) => None,
            Some(Origin::Context(name)) => Some(Layers::Context(name.clone())),
            Some(Origin::Stage(index)) => {
                let done = self.stage(*index)?;
                let name = format!("stage {}", from.unwrap_or_default());
                Some(Layers::Stack { name, directories: done.layers.clone(), diff_ids: done.config.rootfs.diff_ids.clone() })
            }
            Some(Origin::Image(reference)) => {
                let image = self.image(reference, label)?;
                let name = format!("image {reference}");
                Some(Layers::Stack { name, directories: image.layers, diff_ids: image.config.rootfs.diff_ids })
            }
        })
    }

    /// An image by the name a Dockerfile has for it: one of the site, one in the store, or one to be pulled.
    pub(super) fn image(&self, reference: &str, label: &StepLabel) -> Result<Image, StepError> {
        let failed = |source| StepError::Image { reference: reference.to_owned(), source };
        if let Some(id) = self.request.bases.get(reference) {
            return Ok(self.store.image(id)?);
        }
        let known = self.images.lock().unwrap_or_else(PoisonError::into_inner).entry(reference.to_owned()).or_default().clone();
        // Whoever else wants it meanwhile waits here.
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match *known {
            Some(id) => id,
            None => {
                let parsed: ImageReference = reference.parse().map_err(|error| failed(Box::new(error)))?;
                self.tell(label, StepEvent::Fetching { reference: &parsed });
                let pulled = (self.pull)(&parsed, &|| !self.schedule.is_stopped());
                pulled.map_err(|error| if self.schedule.is_stopped() { StepError::Stopped } else { failed(error) })?
            }
        };
        *known = Some(id);
        Ok(self.store.image(&id)?)
    }

    /// Brings those of a stack's layers that are not here: somebody is about to look into it.
    pub(super) fn bring(&self, diff_ids: &[Digest]) -> Result<(), StepError> {
        if self.distant.is_empty() {
            return Ok(());
        }
        let missing: BTreeSet<Digest> = diff_ids.iter().filter(|layer| !self.store.has_layer(layer)).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let brought = self.distant.bring(&missing, &|| !self.schedule.is_stopped());
        self.remember(&missing)?;
        brought.map_err(|error| if self.schedule.is_stopped() { StepError::Stopped } else { error })
    }

    /// Remembers the steps that made layers which are here by now.
    fn remember(&self, layers: &BTreeSet<Digest>) -> Result<(), StepError> {
        let noted = self.steps();
        for (key, record) in noted.iter().chain(self.distant.steps()) {
            let Some(layer) = record.layer.filter(|layer| layers.contains(layer)) else { continue };
            if let Some(here) = self.store.layer(&layer)? {
                self.cache.put(key, &CacheRecord { size_bytes: here.size_bytes, ..record.clone() })?;
            }
        }
        Ok(())
    }

    /// Notes a step that is done.
    pub(super) fn note(&self, key: &Digest, record: &CacheRecord) {
        self.steps().insert(*key, record.clone());
    }

    /// The steps that are done.
    pub(super) fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the place of a failure.
    pub(super) fn at(&self, shown: &Statement, instruction: &str, source: StepError) -> BuildError {
        let excerpt = excerpt(&self.text, shown.place.line, shown.last_line);
        BuildError::Step { place: shown.place.clone(), instruction: instruction.to_owned(), excerpt, source: Box::new(source) }
    }

    /// Tells of a step.
    pub(super) fn tell(&self, step: &StepLabel, what: StepEvent<'_>) {
        (self.progress)(BuildEvent { step, what });
    }

    /// What a transfer or mount takes files from.
    pub(super) fn source<'b>(&'b self, layers: &Option<Layers>) -> From<'b> {
        match layers {
            None => From::Context(&self.context),
            Some(Layers::Context(name)) => From::Context(self.contexts.get(name).unwrap_or(&self.context)),
            Some(Layers::Stack { name, directories, diff_ids }) => {
                From::Layers { name: name.clone(), directories: directories.clone(), diff_ids: diff_ids.clone() }
            }
        }
    }
}

/// Lines shown before and after an instruction.
const LINES_AROUND: usize = 2;
/// Most lines shown of an instruction itself: a long heredoc is known by its beginning.
const LINES_SHOWN_MAX: usize = 15;

/// Lines of a text with their numbers, those from `first` to `last` marked.
fn excerpt(text: &str, first: usize, last: usize) -> String {
    let shown = last.min(first + LINES_SHOWN_MAX - 1);
    let after = if shown < last { 0 } else { LINES_AROUND };
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let around = lines.filter(|(number, _)| (first.saturating_sub(LINES_AROUND)..=shown + after).contains(number));
    let mark = |number: usize| if (first..=last).contains(&number) { ">>>" } else { "   " };
    let rows: Vec<_> = around.map(|(number, line)| format!("{number:4} | {} {line}", mark(number)).trim_end().to_owned()).collect();
    rows.join("\n")
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn an_excerpt_marks_its_lines() {
        let text = "FROM a\nRUN one\nRUN two \\\n  three\n\nCOPY a b\nCMD x\n";
        assert_eq!(
            excerpt(text, 3, 4),
            "   1 |     FROM a\n   2 |     RUN one\n   3 | >>> RUN two \\\n   4 | >>>   three\n   5 |\n   6 |     COPY a b"
        );
        assert_eq!(excerpt(text, 1, 1), "   1 | >>> FROM a\n   2 |     RUN one\n   3 |     RUN two \\");
        assert_eq!(excerpt(&"x\n".repeat(100), 1, 100).lines().count(), 15);
    }
}
