//! A build as a whole: what all its stages share, and the threads they are built in.

use super::cache::{Cache, CacheRecord};
use super::clock::BuildTime;
use super::context::Context;
use super::distant::Distant;
use super::download::Downloads;
use super::error::{BuildError, StepError};
use super::event::{BuildEvent, Progress, Pull, StepEvent, StepLabel};
use super::file::{self, Statement};
use super::graph::{Graph, Origin, familiar};
use super::lint;
use super::schedule::Schedule;
use super::share::{self, Steps};
use super::stage;
use super::state::State;
use super::step::source::From;
use super::words::Lexer;
use super::{BuildRequest, Built, Elsewhere, InlineCache, NamedContext};
use crate::image::ImageId;
use crate::image::store::{Image, ImageStore};
use crate::network::Sandboxes;
use spec::value::{Digest, ImageReference};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// All that a build knows while it runs, for all its threads.
pub(super) struct Build<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) request: &'a BuildRequest,
    pub(super) context: Context,
    /// Directories that have a name.
    contexts: BTreeMap<String, Context>,
    pub(super) downloads: Downloads,
    /// Digest of the Dockerfile's text.
    pub(super) recipe: Digest,
    pub(super) cache: Cache,
    pub(super) distant: Distant<'a>,
    pub(super) graph: Graph,
    pub(super) schedule: Schedule,
    /// Networks of RUN steps.
    pub(super) sandboxes: Sandboxes,
    pub(super) lexer: Lexer,
    pub(super) time: BuildTime,
    /// An empty directory.
    pub(super) empty: PathBuf,
    /// The Dockerfile.
    text: String,
    pull: &'a Pull<'a>,
    progress: &'a Progress<'a>,
    images: Mutex<BTreeMap<String, Arc<Mutex<Option<ImageId>>>>>,
    /// Steps that are done, for whoever takes the cache elsewhere.
    steps: Mutex<Steps>,
}

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

/// Builds the target and adds its image to the store.
pub(super) fn build(store: &ImageStore, request: &BuildRequest, from: Elsewhere<'_>, progress: &Progress<'_>) -> Result<Built, BuildError> {
    let cache = Cache::open(&store.directory().join("build-cache")).map_err(BuildError::Cache)?;
    let context = Context::open(&request.context, &request.dockerfile, Some(&cache.index(&request.context)))?;
    let text = match &request.inline {
        Some(text) => text.clone(),
        None => context.dockerfile(&request.context, &request.dockerfile)?,
    };
    let file = file::parse(&request.dockerfile.display().to_string(), &text).map_err(BuildError::Syntax)?;
    let graph = Graph::new(&file, &request.args, request.target.as_deref()).map_err(|error| BuildError::Syntax(vec![error]))?;
    refuse_if_asked(&file, request, &context)?;
    let graph = graph.with_contexts(&request.contexts);
    let time = BuildTime::of(source_date(&graph, request)?);
    let _lease = store.lease()?;
    let scratch = store.scratch()?;
    let mut build = Build {
        store,
        request,
        context,
        contexts: contexts(request, &cache)?,
        recipe: Digest::of(text.as_bytes()),
        downloads: Downloads::of(store),
        cache,
        distant: Distant::new(from.caches),
        graph,
        schedule: Schedule::new(),
        sandboxes: Sandboxes::new(&request.places),
        lexer: Lexer::new(file.escape),
        time,
        empty: scratch.subdirectory("empty").map_err(BuildError::Cache)?,
        text,
        pull: from.pull,
        progress,
        images: Mutex::default(),
        steps: Mutex::default(),
    };
    let state = build.target()?;
    let mut config = state.finish(&build.time.rfc3339());
    config.config.labels.extend(request.labels.clone());
    let steps = std::mem::take(&mut *build.steps());
    if request.inline_cache == InlineCache::Add {
        share::annotate(&mut config, &steps);
    }
    // While the last things are written.
    build.sandboxes.retire();
    Ok(Built { image: store.put_image(&config)?, steps })
}

/// `# check=error=true`: what the checks find is an error.
fn refuse_if_asked(file: &file::Dockerfile, request: &BuildRequest, context: &Context) -> Result<(), BuildError> {
    // What base images set is not known yet; what depends on it is no reason to refuse.
    let facts = lint::Facts { args: &request.args, ignored: &context.rules, environment_of: &|_| None };
    let findings = lint::lint(file, &facts).map_err(|error| BuildError::Syntax(vec![error]))?;
    findings.refusal().map_or(Ok(()), |errors| Err(BuildError::Syntax(errors)))
}

/// `SOURCE_DATE_EPOCH` of the arguments, or of a global ARG's default.
fn source_date(graph: &Graph, request: &BuildRequest) -> Result<Option<i64>, BuildError> {
    let name = "SOURCE_DATE_EPOCH";
    let Some(text) = request.args.get(name).cloned().or_else(|| graph.globals.get(name)).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let place = graph.stages[graph.target].from.place.clone();
    let problem = format!("{name} is {text:?}, not a number of seconds since 1970");
    text.parse().map(Some).map_err(|_| BuildError::Syntax(vec![file::SyntaxError { place, problem, hint: None }]))
}

/// Opens the directories that have a name.
fn contexts(request: &BuildRequest, cache: &Cache) -> Result<BTreeMap<String, Context>, BuildError> {
    let mut contexts = BTreeMap::new();
    for (name, context) in &request.contexts {
        if let NamedContext::Directory(directory) = context {
            contexts.insert(familiar(name), Context::open_named(name, directory, &cache.index(directory))?);
        }
    }
    Ok(contexts)
}

impl Build<'_> {
    /// The stage that is wanted, with all its layers.
    fn target(&mut self) -> Result<Arc<State>, BuildError> {
        loop {
            self.stages();
            self.context.save_index();
            self.contexts.values().for_each(Context::save_index);
            match self.schedule.failure() {
                None => break,
                Some(failure) if failure.is_curable() => {
                    self.schedule = Schedule::new();
                    self.steps().clear();
                }
                Some(failure) => return Err(failure),
            }
        }
        Ok(self.schedule.done(self.graph.target).expect("without a failure every stage that is needed is done"))
    }

    /// Builds all stages that the target needs.
    fn stages(&self) {
        self.need(self.graph.target);
        let work = || self.schedule.work(&|stage| stage::build(self, stage));
        let workers = self.request.workers.get().min(self.graph.needed(self.graph.target).len());
        thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Notes that a stage and those that it needs are to be built.
    fn need(&self, stage: usize) {
        self.schedule.add(self.graph.needed(stage).into_iter().map(|stage| (stage, self.graph.stages[stage].base.stage())));
    }

    /// A stage, as soon as it is done. A trigger of a base image may be the first to name it.
    pub(super) fn stage(&self, index: usize) -> Result<Arc<State>, StepError> {
        self.need(index);
        self.schedule.need(index, &|stage| stage::build(self, stage))
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
