//! From a request to an image: what the Dockerfile says is read and checked, its stages are built side by side.

use super::build::Build;
use super::cache::Cache;
use super::clock::BuildTime;
use super::context::Context;
use super::distant::Distant;
use super::download::Downloads;
use super::error::BuildError;
use super::event::Progress;
use super::file;
use super::graph::{Graph, familiar};
use super::lint;
use super::schedule::Schedule;
use super::share;
use super::stage;
use super::state::State;
use super::words::Lexer;
use super::{BuildRequest, Built, Elsewhere, InlineCache, NamedContext};
use crate::image::store::ImageStore;
use crate::network::Sandboxes;
use spec::value::Digest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;

/// Builds the target and adds its image to the store.
pub(super) fn make(store: &ImageStore, request: &BuildRequest, from: Elsewhere<'_>, progress: &Progress<'_>) -> Result<Built, BuildError> {
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
        stage_builder: stage::build,
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
}
