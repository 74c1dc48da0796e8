//! A build: stages in order, steps in order, each from the cache or done.

use super::cache::{Cache, CacheRecord};
use super::clock::BuildTime;
use super::context::Context;
use super::error::{BuildError, StepError};
use super::file::{self, Instruction, Statement};
use super::graph::{Graph, Origin};
use super::lint;
use super::owner;
use super::state::{Made, State};
use super::step::mount::Mount;
use super::step::{Layering, metadata, run, transfer};
use super::tree::{Overlay, Owner, Root, Writing, settle};
use super::words::Lexer;
use super::{BuildEvent, BuildRequest, Caching, Progress, Pull};
use crate::image::ImageId;
use crate::image::layer::Times;
use crate::image::store::{Image, ImageStore};
use crate::store::Scratch;
use rustix::fs::{Mode, OFlags};
use spec::value::{Digest, ImageReference};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

type Step<T> = Result<T, StepError>;

/// All that a build knows while it runs.
pub(super) struct Build<'a> {
    store: &'a ImageStore,
    request: &'a BuildRequest,
    pull: &'a mut Pull<'a>,
    progress: &'a mut Progress<'a>,
    context: Context,
    cache: Cache,
    graph: Graph,
    lexer: Lexer,
    time: BuildTime,
    /// Holds the empty directory.
    _scratch: Scratch,
    empty: PathBuf,
    /// Stages that are done.
    stages: BTreeMap<usize, State>,
    images: BTreeMap<String, ImageId>,
    step: usize,
    steps: usize,
}

/// What a step did to the stage, for its history.
struct Note {
    text: String,
    made: Made,
}

impl Note {
    fn said(text: impl Into<String>) -> Self {
        Self { text: text.into(), made: Made::Nothing }
    }
}

/// Builds the target and adds its image to the store.
pub(super) fn build(
    store: &ImageStore,
    request: &BuildRequest,
    pull: &mut Pull<'_>,
    progress: &mut Progress<'_>,
) -> Result<ImageId, BuildError> {
    let cache = Cache::open(&store.directory().join("build-cache")).map_err(BuildError::Cache)?;
    let context = Context::open(&request.context, &request.dockerfile, Some(&cache.index(&request.context)))?;
    let text = context.dockerfile(&request.context, &request.dockerfile)?;
    let file = file::parse(&request.dockerfile.display().to_string(), &text).map_err(BuildError::Syntax)?;
    let graph = Graph::new(&file, &request.args, request.target.as_deref()).map_err(|error| BuildError::Syntax(vec![error]))?;
    refuse_if_asked(&file, request, &context)?;
    let time = BuildTime::of(source_date(&graph, request)?);
    let needed = graph.needed();
    let steps = needed.iter().map(|index| graph.stages[*index].statements.len() + 1).sum();
    let _lease = store.lease()?;
    let scratch = store.scratch()?;
    let empty = scratch.subdirectory("empty").map_err(BuildError::Cache)?;
    let target = graph.target;
    let mut build = Build {
        store,
        request,
        pull,
        progress,
        context,
        cache,
        graph,
        lexer: Lexer::new(file.escape),
        time,
        _scratch: scratch,
        empty,
        stages: BTreeMap::new(),
        images: BTreeMap::new(),
        step: 0,
        steps,
    };
    for index in needed {
        build.stage(index)?;
    }
    build.context.save_index();
    let state = build.stages.get(&target).expect("the target is the last of the needed stages");
    Ok(store.put_image(&state.finish(&build.time.rfc3339()))?)
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

impl Build<'_> {
    /// Builds a stage, if it is not built yet.
    fn stage(&mut self, index: usize) -> Result<(), BuildError> {
        if self.stages.contains_key(&index) {
            return Ok(());
        }
        let stage = self.graph.stages[index].clone();
        let mut state = self.told(&stage.from, |build| build.base(&stage.base))?;
        for trigger in std::mem::take(&mut state.config.config.on_build) {
            let triggered = file::parse_trigger(&trigger).map_err(|errors| at(&stage.from, StepError::Trigger(errors)))?;
            self.steps += 1;
            self.told(&stage.from, |build| build.statement(index, &mut state, &triggered))?;
        }
        for statement in &stage.statements {
            self.told(statement, |build| build.statement(index, &mut state, statement))?;
        }
        self.stages.insert(index, state);
        Ok(())
    }

    /// Does a step and tells of it.
    fn told<T>(&mut self, statement: &Statement, step: impl FnOnce(&mut Self) -> Step<T>) -> Result<T, BuildError> {
        self.step += 1;
        let begun = Instant::now();
        let (number, steps) = (self.step, self.steps);
        (self.progress)(BuildEvent::Started { step: number, steps, instruction: &statement.text });
        let result = step(self).map_err(|source| at(statement, source))?;
        (self.progress)(BuildEvent::Finished { step: number, took: begun.elapsed() });
        Ok(result)
    }

    /// What FROM begins with.
    fn base(&mut self, origin: &Origin) -> Step<State> {
        match origin {
            Origin::Scratch => Ok(State::scratch()),
            Origin::Stage(index) => Ok(State::of_stage(self.done(*index)?)),
            Origin::Image(reference) => Ok(State::of_image(self.image(reference)?)),
        }
    }

    fn done(&self, index: usize) -> Step<&State> {
        self.stages.get(&index).ok_or_else(|| StepError::Invalid(format!("stage {index} is not built: a trigger cannot copy from it")))
    }

    /// An image by the name a Dockerfile has for it: one of the site, one in the store, or one to be pulled.
    fn image(&mut self, reference: &str) -> Step<Image> {
        let failed = |source| StepError::Image { reference: reference.to_owned(), source };
        let id = match self.images.get(reference).or_else(|| self.request.bases.get(reference)) {
            Some(id) => *id,
            None => {
                let parsed: ImageReference = reference.parse().map_err(|error| failed(Box::new(error)))?;
                (self.progress)(BuildEvent::Fetching { reference: &parsed });
                (self.pull)(&parsed).map_err(failed)?
            }
        };
        self.images.insert(reference.to_owned(), id);
        Ok(self.store.image(&id)?)
    }

    fn statement(&mut self, stage: usize, state: &mut State, statement: &Statement) -> Step<()> {
        let note = self.instruction(stage, state, statement)?;
        let created = self.time.rfc3339();
        // ARG leaves no trace but in what it changes; as in BuildKit it has its line of history all the same.
        state.push_history(&created, note.text, note.made);
        Ok(())
    }

    fn instruction(&mut self, stage: usize, state: &mut State, statement: &Statement) -> Step<Note> {
        let lexer = self.lexer;
        let text = statement.text.as_str();
        let pairs = |verb: &str, pairs: Vec<(String, String)>| {
            let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            Note::said(format!("{verb} {}", pairs.join(" ")))
        };
        match &statement.instruction {
            Instruction::Run(run) => return self.run(state, run, stage),
            Instruction::Copy { parents: true, .. } => return Err(StepError::Unsupported("--parents".to_owned())),
            Instruction::Copy { transfer, from, .. } => {
                let prepared = transfer::prepare(state, transfer::Verb::Copy, transfer, lexer.escape)?;
                return self.transfer(state, &prepared, stage, from.as_deref());
            }
            Instruction::Add { unpack: Some(_), .. } => return Err(StepError::Unsupported("--unpack".to_owned())),
            Instruction::Add { checksum: Some(_), .. } => return Err(StepError::Unsupported("--checksum".to_owned())),
            Instruction::Add { transfer, .. } => {
                let prepared = transfer::prepare(state, transfer::Verb::Add, transfer, lexer.escape)?;
                return self.transfer(state, &prepared, stage, None);
            }
            Instruction::Workdir(path) => return self.workdir(state, path),
            Instruction::Env(list) => return Ok(pairs("ENV", metadata::env(state, list, &lexer)?)),
            Instruction::Label(list) => return Ok(pairs("LABEL", metadata::label(state, list, &lexer)?)),
            Instruction::Arg(declared) => metadata::arg(state, declared, &self.request.args, &self.graph.globals, &lexer)?,
            Instruction::Cmd(line) => metadata::cmd(state, line),
            Instruction::Entrypoint(line) => metadata::entrypoint(state, line),
            Instruction::Shell(words) => state.config.config.shell = Some(words.clone()),
            Instruction::User(user) => metadata::user(state, user, &lexer)?,
            Instruction::Expose(ports) => metadata::expose(state, ports, &lexer)?,
            Instruction::Volume(paths) => metadata::volume(state, paths, &lexer)?,
            Instruction::StopSignal(signal) => metadata::stop_signal(state, signal, &lexer)?,
            Instruction::HealthCheck(check) => metadata::health(state, check),
            Instruction::OnBuild(trigger) => state.config.config.on_build.push(trigger.clone()),
            Instruction::Maintainer(author) => state.config.author = Some(author.clone()),
            Instruction::From(_) => return Err(StepError::Invalid("FROM inside a stage".to_owned())),
        }
        Ok(Note::said(text))
    }

    fn run(&mut self, state: &mut State, instruction: &file::Run, stage: usize) -> Step<Note> {
        let prepared = run::prepare(state, instruction, self.lexer.escape)?;
        let text = format!("RUN {}", prepared.args.join(" "));
        let mut layers = Vec::new();
        for mount in &prepared.mounts {
            layers.push(match mount {
                Mount::Bind { from, .. } => self.layers_of(stage, from.as_deref())?,
                Mount::Tmpfs { .. } | Mount::Cache { .. } => None,
            });
        }
        let sources: Vec<_> = layers.iter().map(|layers| source_of(layers, &self.context)).collect();
        let key = run::key(state, &prepared, &sources)?;
        if let Some(made) = self.cached(state, &key) {
            return Ok(Note { text, made });
        }
        let begun = since(SystemTime::now());
        let layering = self.layering(state)?;
        let proxies = state.scope.proxies(&self.request.args);
        let sources: Vec<_> = layers.iter().map(|layers| source_of(layers, &self.context)).collect();
        let (step, progress) = (self.step, &mut *self.progress);
        run::execute(state, &prepared, &sources, &layering, proxies, &mut |line| progress(BuildEvent::Output { step, line }))?;
        let made = self.commit(state, &key, &text, layering, begun)?;
        Ok(Note { text, made })
    }

    /// What `--from` leads to; `None` is the context.
    fn layers_of(&mut self, stage: usize, from: Option<&str>) -> Step<Layers> {
        let origin = from.map(|from| self.graph.origin(stage, from)).transpose().map_err(StepError::Invalid)?;
        Ok(match &origin {
            None | Some(Origin::Scratch) => None,
            Some(Origin::Stage(index)) => {
                let done = self.done(*index)?;
                Some((format!("stage {}", from.unwrap_or_default()), done.layers.clone(), done.config.rootfs.diff_ids.clone()))
            }
            Some(Origin::Image(reference)) => {
                let image = self.image(reference)?;
                Some((format!("image {reference}"), image.layers, image.config.rootfs.diff_ids))
            }
        })
    }

    fn transfer(&mut self, state: &mut State, prepared: &transfer::Prepared, stage: usize, from: Option<&str>) -> Step<Note> {
        let layers = self.layers_of(stage, from)?;
        let seconds = self.time.seconds;
        let key = transfer::key(state, prepared, &source_of(&layers, &self.context), seconds)?;
        let text = prepared.text.clone();
        if let Some(made) = self.cached(state, &key) {
            return Ok(Note { text, made });
        }
        let begun = since(SystemTime::now());
        let layering = self.layering(state)?;
        transfer::execute(state, prepared, &source_of(&layers, &self.context), &layering, seconds)?;
        let made = self.commit(state, &key, &text, layering, begun)?;
        Ok(Note { text, made })
    }

    fn workdir(&mut self, state: &mut State, path: &str) -> Step<Note> {
        let path = state.word(&self.lexer, path)?;
        if path.is_empty() {
            return Err(StepError::Invalid("the working directory is empty".to_owned()));
        }
        let absolute = state.absolute(&path);
        let absolute = if absolute.len() > 1 { absolute.trim_end_matches('/') } else { &absolute }.to_owned();
        // As every builder: an absolute path is kept as it is written, slash at the end included.
        state.config.config.working_dir = if path.starts_with('/') { path } else { absolute.clone() };
        let text = format!("WORKDIR {absolute}");
        if absolute == "/" {
            return Ok(Note::said(text));
        }
        let mut key = state.key("workdir");
        key.text(&absolute).text(&state.config.config.user);
        let key = key.finish();
        if let Some(made) = self.cached(state, &key) {
            return Ok(Note { text, made });
        }
        let begun = since(SystemTime::now());
        let layering = self.layering(state)?;
        let writing = Writing::To { upper: &layering.upper, work: &layering.work, empty: &layering.empty };
        let target = Overlay::mount(&state.layers, writing)?;
        let user = &state.config.config.user;
        // As BuildKit: a directory made here belongs to the user; a user the image does not know yet is root.
        let owner = if user.is_empty() { Owner::ROOT } else { owner::lookup(&target.root, user).unwrap_or(Owner::ROOT) };
        target.root.ensure_directory(absolute.as_bytes(), owner)?;
        drop(target);
        let made = self.commit(state, &key, &text, layering, begun)?;
        Ok(Note { text, made })
    }

    /// What an earlier build made of the same step.
    fn cached(&mut self, state: &mut State, key: &Digest) -> Option<Made> {
        let record = match self.request.caching {
            Caching::Use => self.cache.get(key, self.store)?,
            Caching::Ignore => return None,
        };
        (self.progress)(BuildEvent::Cached { step: self.step });
        Some(self.apply(state, &record))
    }

    fn apply(&self, state: &mut State, record: &CacheRecord) -> Made {
        match record.layer {
            Some(layer) => {
                state.push_layer(layer, self.store.layer_dir(&layer));
                Made::Layer
            }
            None => Made::Nothing,
        }
    }

    /// A place for changes on top of a stage. Its root looks like the root below: what overlayfs shows is the uppermost one.
    fn layering(&self, state: &State) -> Step<Layering> {
        let scratch = self.store.scratch()?;
        let upper = scratch.subdirectory("upper")?;
        let work = scratch.subdirectory("work")?;
        if let Some(topmost) = state.layers.last() {
            Root::open(topmost)?.copy_attributes_of_root(&Root::open(&upper)?)?;
        }
        Ok(Layering {
            scratch,
            upper,
            work,
            empty: self.empty.clone(),
            shim: self.request.shim.clone(),
            state: self.request.state.clone(),
            caches: self.store.directory().join("build-cache/mounts"),
        })
    }

    /// Takes the changes over as a layer and remembers it.
    fn commit(&self, state: &mut State, key: &Digest, text: &str, layering: Layering, since: i64) -> Step<Made> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper =
            rustix::fs::open(&layering.upper, flags, Mode::empty()).map_err(crate::store::FileError::of("open", &layering.upper))?;
        let latest = self.time.asked.then_some(self.time.seconds);
        settle(&upper, since, self.time.seconds, latest)?;
        drop(upper);
        let layer = self.store.commit_layer(&layering.upper, Times::Keep)?;
        let record = self.cache.put(key, &layer, text)?;
        Ok(self.apply(state, &record))
    }
}

/// Names the place of a failure.
fn at(statement: &Statement, source: StepError) -> BuildError {
    BuildError::Step { place: statement.place.clone(), instruction: statement.text.clone(), source: Box::new(source) }
}

type Layers = Option<(String, Vec<PathBuf>, Vec<Digest>)>;

fn source_of<'a>(layers: &Layers, context: &'a Context) -> transfer::From<'a> {
    match layers {
        None => transfer::From::Context(context),
        Some((name, directories, diff_ids)) => {
            transfer::From::Layers { name: name.clone(), directories: directories.clone(), diff_ids: diff_ids.clone() }
        }
    }
}

/// From when on a modification time is a step's own. A second early: the kernel's clock for files lags by up to a tick.
fn since(now: SystemTime) -> i64 {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX) - 1
}
