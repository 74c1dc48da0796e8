//! A stage: its instructions in order, each said, taken from the cache, or done.

use super::Caching;
use super::build::{Build, Layers};
use super::cache::CacheRecord;
use super::earlier::{self, Earlier};
use super::error::{BuildError, StepError};
use super::event::{StepEvent, StepLabel};
use super::file::{self, Instruction, Statement};
use super::graph::Origin;
use super::history;
use super::owner;
use super::scope;
use super::state::{Made, State};
use super::step::metadata::Said;
use super::step::source::{From, Identity};
use super::step::{Layering, metadata, run, transfer};
use super::tree::{Overlay, Owner, Root, Writing, Written, settle};
use crate::cause::chain;
use crate::image::layer::Times;
use crate::store::FileError;
use rustix::fs::{Mode, OFlags};
use spec::value::Digest;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

type Step<T> = Result<T, StepError>;

/// A stage being built.
struct Stage<'b> {
    build: &'b Build<'b>,
    index: usize,
    /// The step under way, or the last one that was.
    label: StepLabel,
    state: State,
    /// RUN steps that are still to come.
    runs: usize,
}

/// What an instruction did to the stage, as its history has it.
struct Note {
    line: String,
    made: Made,
}

/// How a step leaves what it changed.
enum Changes {
    /// As a layer that is written and hashed.
    Written(Box<Written>),
    /// In the upper directory, to be looked at.
    InUpper,
    /// The same, made of files that changed meanwhile: it is not remembered.
    Unsteady,
}

/// Builds a stage.
pub(super) fn build(build: &Build<'_>, index: usize) -> Result<State, BuildError> {
    let stage = &build.graph.stages[index];
    let steps = 1 + stage.statements.iter().filter(|statement| is_step(&statement.instruction)).count();
    let label = StepLabel { stage: index, stage_name: build.graph.label(index), number: 0, steps, instruction: String::new() };
    let mut under_way = Stage { build, index, label, state: State::scratch(), runs: count_runs(&stage.statements) };
    under_way.told(&stage.from, &stage.from, |this| this.base(&stage.base))?;
    let triggers = std::mem::take(&mut under_way.state.config.config.on_build);
    let triggers = triggers.iter().map(|trigger| file::parse_trigger(trigger).map_err(StepError::Trigger));
    let triggers: Vec<_> = triggers.collect::<Result<_, _>>().map_err(|error| build.at(&stage.from, &stage.from.text, error))?;
    under_way.runs += count_runs(&triggers);
    under_way.label.steps += triggers.iter().filter(|trigger| is_step(&trigger.instruction)).count();
    for trigger in &triggers {
        under_way.statement(trigger, &stage.from)?;
    }
    for statement in &stage.statements {
        under_way.statement(statement, statement)?;
    }
    if index == build.graph.target {
        let last = stage.statements.last().unwrap_or(&stage.from);
        under_way.bring().map_err(|source| build.at(last, &last.text, source))?;
    }
    Ok(under_way.state)
}

fn count_runs(statements: &[Statement]) -> usize {
    statements.iter().filter(|statement| matches!(statement.instruction, Instruction::Run(_))).count()
}

/// Whether an instruction can make a layer: those are told of.
fn is_step(instruction: &Instruction) -> bool {
    match instruction {
        Instruction::Run(_) | Instruction::Copy { .. } | Instruction::Add { .. } | Instruction::Workdir(_) => true,
        Instruction::From(_)
        | Instruction::Arg(_)
        | Instruction::Env(_)
        | Instruction::Label(_)
        | Instruction::Cmd(_)
        | Instruction::Entrypoint(_)
        | Instruction::Shell(_)
        | Instruction::User(_)
        | Instruction::Expose(_)
        | Instruction::Volume(_)
        | Instruction::StopSignal(_)
        | Instruction::HealthCheck(_)
        | Instruction::OnBuild(_)
        | Instruction::Maintainer(_) => false,
    }
}

impl Stage<'_> {
    /// Does an instruction and notes it in the history. A failure is shown where `shown` stands: FROM for a trigger of the base.
    fn statement(&mut self, statement: &Statement, shown: &Statement) -> Result<(), BuildError> {
        let note = if is_step(&statement.instruction) {
            self.told(statement, shown, |this| this.instruction(statement))?
        } else {
            self.instruction(statement).map_err(|source| self.build.at(shown, &statement.text, source))?
        };
        if let Some(Note { line, made }) = note {
            self.state.push_history(&self.build.time.rfc3339(), line, made);
        }
        Ok(())
    }

    /// Does a step and tells of it.
    fn told<T>(&mut self, statement: &Statement, shown: &Statement, step: impl FnOnce(&mut Self) -> Step<T>) -> Result<T, BuildError> {
        if self.build.schedule.is_stopped() {
            return Err(BuildError::Stopped);
        }
        self.label.number += 1;
        self.label.instruction.clone_from(&statement.text);
        let begun = Instant::now();
        self.tell(StepEvent::Started);
        let result = step(self);
        let took = begun.elapsed();
        self.tell(match &result {
            Ok(_) => StepEvent::Finished { took },
            Err(error) if matches!(error, StepError::Stopped) || error.lost_layer().is_some() => StepEvent::Stopped,
            Err(_) => StepEvent::Failed { took },
        });
        result.map_err(|source| self.build.at(shown, &statement.text, source))
    }

    /// Brings the stage's layers that are not here.
    fn bring(&self) -> Step<()> {
        let brought = self.build.bring(&self.state.config.rootfs.diff_ids);
        brought.inspect_err(|error| self.tell_of_loss(error))
    }

    /// The same for what `--from` leads to.
    fn bring_source(&self, from: &From<'_>) -> Step<()> {
        match from {
            From::Context(_) => Ok(()),
            From::Layers { diff_ids, .. } => self.build.bring(diff_ids).inspect_err(|error| self.tell_of_loss(error)),
        }
    }

    fn tell_of_loss(&self, error: &StepError) {
        if error.lost_layer().is_some() {
            self.tell(StepEvent::Output { line: &format!("{}; its step is done here", chain(error)) });
        }
    }

    fn tell(&self, what: StepEvent<'_>) {
        self.build.tell(&self.label, what);
    }

    /// What FROM begins with.
    fn base(&mut self, origin: &Origin) -> Step<()> {
        self.state = match origin {
            Origin::Scratch => State::scratch(),
            Origin::Stage(index) => State::of_stage(&*self.build.stage(*index)?),
            Origin::Context(name) => return self.tree(name),
            Origin::Image(reference) => State::of_image(self.build.image(reference, &self.label)?),
        };
        Ok(())
    }

    /// A context that is a directory is a root file system.
    fn tree(&mut self, name: &str) -> Step<()> {
        let whole = file::Transfer::whole();
        let prepared = transfer::prepare(&self.state, transfer::Verb::Copy, &whole, false, self.build.lexer.escape)?;
        let note = self.transfer(&prepared, Some(name))?;
        self.state.push_history(&self.build.time.rfc3339(), format!("FROM {name}"), note.made);
        Ok(())
    }

    fn layers_of(&self, from: Option<&str>) -> Step<Option<Layers>> {
        self.build.layers_of(self.index, from, &self.label)
    }

    /// Does an instruction. `None` if no line of history tells of it.
    fn instruction(&mut self, statement: &Statement) -> Step<Option<Note>> {
        let Build { request, graph, lexer, .. } = self.build;
        let state = &mut self.state;
        let note = match &statement.instruction {
            Instruction::Run(run) => self.run(run)?,
            Instruction::Copy { transfer, from, parents } => {
                let prepared = transfer::prepare(state, transfer::Verb::Copy, transfer, *parents, lexer.escape)?;
                self.transfer(&prepared, from.as_deref())?
            }
            Instruction::Add { transfer, unpack, checksum, keep_git_dir } => {
                let checksum = checksum.as_ref().map(|text| state.word(lexer, text)).transpose()?;
                let verb = transfer::Verb::Add { unpack: *unpack, checksum, keep_git_dir: *keep_git_dir };
                let prepared = transfer::prepare(state, verb, transfer, false, lexer.escape)?;
                self.transfer(&prepared, None)?
            }
            Instruction::Workdir(path) => self.workdir(path)?,
            Instruction::Arg(declared) => {
                let line = metadata::arg(state, declared, &request.args, &graph.globals, lexer)?;
                Note { line, made: Made::Nothing }
            }
            other => match metadata::say(state, other, lexer)? {
                Said::Line(line) => Note { line, made: Made::Nothing },
                Said::Unrecorded => return Ok(None),
                Said::DoesMore => return Err(StepError::Invalid("FROM inside a stage".to_owned())),
            },
        };
        Ok(Some(note))
    }

    fn run(&mut self, instruction: &file::Run) -> Step<Note> {
        self.runs = self.runs.saturating_sub(1);
        let prepared = run::prepare(&self.state, instruction, self.build.request, self.build.lexer.escape)?;
        let text = format!("RUN {}", prepared.args.join(" "));
        let mut layers = Vec::new();
        for mount in &prepared.mounts {
            layers.push(match mount.from() {
                Some(from) => self.layers_of(Some(from))?,
                None => None,
            });
        }
        let sources: Vec<_> = layers.iter().map(|layers| self.build.source(layers)).collect();
        let key = run::key(&self.state, &prepared, &sources, Identity::Path)?;
        let mounts = || prepared.mounts.iter().zip(&sources);
        let mut known = self.cached(&key)?;
        // What a part of other layers holds may be the same as before: as BuildKit, that is looked at only if they are not.
        let by_content = match known {
            None if mounts().any(|(mount, from)| mount.shows_part_of_layers(from)) => {
                sources.iter().try_for_each(|from| self.bring_source(from))?;
                Some(run::key(&self.state, &prepared, &sources, Identity::Content(&self.build.empty))?)
            }
            Some(_) | None => None,
        };
        if let Some(content) = by_content {
            known = self.cached(&content)?;
            known.iter().try_for_each(|record| self.build.cache.put(&key, record))?;
        }
        let proxies = scope::proxies(&self.build.request.args);
        let made = self.layer(&key, known, &text, |this, layering| {
            sources.iter().try_for_each(|from| this.bring_source(from))?;
            let surroundings = run::Surroundings { layering, sources: &sources, proxies, build: this.build };
            run::execute(&this.state, &prepared, surroundings, &mut |line| this.tell(StepEvent::Output { line }))?;
            if this.runs == 0 && this.build.schedule.is_last(this.index) {
                this.build.sandboxes.retire();
            }
            // What changed while the command ran is not what the key says.
            let live = mounts().any(|(mount, from)| mount.shows_context(from));
            let is_steady = !live || run::key(&this.state, &prepared, &sources, Identity::Path)? == key;
            Ok(if is_steady { Changes::InUpper } else { Changes::Unsteady })
        })?;
        if let Some((content, record)) = by_content.zip(self.build.cache.get(&key, self.build.store)) {
            self.build.cache.put(&content, &record)?;
        }
        Ok(Note { line: history::run(&prepared.args, &self.state.scope), made })
    }

    fn transfer(&mut self, prepared: &transfer::Prepared, from: Option<&str>) -> Step<Note> {
        let layers = self.layers_of(from)?;
        let source = self.build.source(&layers);
        let Build { downloads, request, schedule, .. } = self.build;
        let remotes = transfer::Remotes { downloads, git: request.git.as_ref(), schedule };
        let gathered = transfer::gather(prepared, &source, &remotes)?;
        let time = self.build.time;
        let key = transfer::key(&self.state, prepared, &source, &gathered, time)?;
        let text = prepared.text.clone();
        let recipe = earlier::recipe(self.build.recipe, self.index, &text);
        let copy = |this: &Self, layering: &Layering| {
            this.bring_source(&source)?;
            let Build { cache, store, .. } = this.build;
            let earlier = Earlier::find(cache, store, &recipe);
            let written = transfer::execute(&this.state, prepared, &source, gathered, layering, (time, earlier))?;
            if let Some(written) = &written {
                earlier::remember(cache, store, &recipe, written);
            }
            Ok(written.map_or(Changes::InUpper, |written| Changes::Written(Box::new(written))))
        };
        let made = self.layer(&key, self.cached(&key)?, &text, copy)?;
        Ok(Note { line: history::layer(&text), made })
    }

    fn workdir(&mut self, path: &str) -> Step<Note> {
        let path = self.state.word(&self.build.lexer, path)?;
        let absolute = self.state.absolute(&path);
        let absolute = if absolute.len() > 1 { absolute.trim_end_matches('/') } else { &absolute }.to_owned();
        // As every builder: an absolute path is kept as it is written, slash at the end included.
        self.state.config.config.working_dir = if path.starts_with('/') { path } else { absolute.clone() };
        let text = format!("WORKDIR {absolute}");
        if absolute == "/" {
            return Ok(Note { line: text, made: Made::Nothing });
        }
        let mut key = self.state.key("workdir");
        key.text(&absolute).text(&self.state.config.config.user);
        let key = key.finish();
        let made = self.layer(&key, self.cached(&key)?, &text, |this, layering| {
            let writing = Writing::To { upper: &layering.upper, work: &layering.work, empty: &layering.empty };
            let target = Overlay::mount(&this.state.layers, writing)?;
            let user = &this.state.config.config.user;
            // As BuildKit: a directory made here belongs to the user; a user the image does not know yet is root.
            let owner = if user.is_empty() { Owner::ROOT } else { owner::lookup(&target.root, user).unwrap_or(Owner::ROOT) };
            target.root.ensure_directory(absolute.as_bytes(), owner)?;
            Ok(Changes::InUpper)
        })?;
        Ok(Note { line: text, made })
    }

    /// The layer that is known, or one that `make` makes now.
    fn layer(
        &mut self,
        key: &Digest,
        known: Option<CacheRecord>,
        text: &str,
        make: impl FnOnce(&Self, &Layering) -> Step<Changes>,
    ) -> Step<Made> {
        if let Some(record) = known {
            self.build.note(key, &record);
            self.tell(StepEvent::Cached);
            return Ok(self.apply(&record));
        }
        self.bring()?;
        let begun = since(SystemTime::now());
        let layering = self.layering()?;
        let record = match make(self, &layering)? {
            Changes::InUpper => self.commit(Some(key), text, &layering, begun)?,
            Changes::Unsteady => self.commit(None, text, &layering, begun)?,
            Changes::Written(written) => self.commit_written(key, text, &layering, &written)?,
        };
        self.build.note(key, &record);
        Ok(self.apply(&record))
    }

    /// What an earlier build made of the same step, here or elsewhere. Then its layer may still be there.
    fn cached(&self, key: &Digest) -> Step<Option<CacheRecord>> {
        let ignored = match &self.build.request.caching {
            Caching::Use => false,
            Caching::Ignore => true,
            Caching::IgnoreStages(names) => {
                self.build.graph.stages[self.index].name.as_ref().is_some_and(|name| names.contains(&name.to_ascii_lowercase()))
            }
        };
        let Build { cache, distant, store, .. } = self.build;
        if ignored {
            return Ok(None);
        }
        if let Some(record) = cache.get(key, store) {
            return Ok(Some(record));
        }
        let Some(mut record) = distant.find(key, store) else { return Ok(None) };
        let here = record.layer.map(|layer| store.layer(&layer)).transpose()?.flatten();
        if record.layer.is_none() || here.is_some() {
            record.size_bytes = here.map_or(0, |layer| layer.size_bytes);
            cache.put(key, &record)?;
        }
        Ok(Some(record))
    }

    fn apply(&mut self, record: &CacheRecord) -> Made {
        match record.layer {
            Some(layer) => {
                self.state.push_layer(layer, self.build.store.layer_dir(&layer));
                Made::Layer
            }
            None => Made::Nothing,
        }
    }

    /// A place for changes on top of the stage. Its root looks like the root below: what overlayfs shows is the uppermost one.
    fn layering(&self) -> Step<Layering> {
        let Build { store, empty, .. } = self.build;
        let scratch = store.scratch()?;
        let upper = scratch.subdirectory("upper")?;
        let work = scratch.subdirectory("work")?;
        if let Some(topmost) = self.state.layers.last() {
            Root::open(topmost)?.copy_attributes_of_root(&Root::open(&upper)?)?;
        }
        Ok(Layering { scratch, upper, work, empty: empty.clone() })
    }

    /// Takes the changes over as a layer and remembers it under its key, if it has one.
    fn commit(&self, key: Option<&Digest>, text: &str, layering: &Layering, since: i64) -> Step<CacheRecord> {
        let Build { store, cache, time, .. } = self.build;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper = rustix::fs::open(&layering.upper, flags, Mode::empty()).map_err(FileError::of("open", &layering.upper))?;
        settle(&upper, since, time.seconds, time.latest())?;
        drop(upper);
        let record = CacheRecord::of(&store.commit_layer(&layering.upper, Times::Keep)?, text);
        if let Some(key) = key {
            cache.put(key, &record)?;
        }
        Ok(record)
    }

    /// Takes a layer over that is hashed already. One whose sources changed meanwhile is not what its key says: it is not remembered.
    fn commit_written(&self, key: &Digest, text: &str, layering: &Layering, written: &Written) -> Step<CacheRecord> {
        let Build { store, cache, .. } = self.build;
        let layer = store.commit_written(&layering.upper, written.diff_id, written.packed)?;
        let record = CacheRecord::of(&layer, text);
        if written.steady {
            cache.put(key, &record)?;
        }
        Ok(record)
    }
}

/// From when on a modification time is a step's own. A second early: the kernel's clock for files lags by up to a tick.
fn since(now: SystemTime) -> i64 {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX) - 1
}
