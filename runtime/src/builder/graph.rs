//! Stages and what they need of each other: what has to be built for a target, and in which order. Pure.

use super::NamedContext;
use super::file::{Dockerfile, From, Instruction, Place, Statement, SyntaxError};
use super::scope::Globals;
use super::words::Lexer;
use crate::image::platform::Platform;
use std::collections::{BTreeMap, BTreeSet};

/// A Dockerfile as stages.
#[derive(Debug, Clone)]
pub struct Graph {
    /// All stages in the file's order.
    pub stages: Vec<Stage>,
    /// The one to build.
    pub target: usize,
    /// Arguments before the first FROM.
    pub globals: Globals,
    /// What names stand for before stages and images.
    contexts: BTreeMap<String, NamedContext>,
}

/// One stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name, in lower case.
    pub name: Option<String>,
    /// What it begins with.
    pub base: Origin,
    /// Its FROM.
    pub from: Statement,
    /// What follows.
    pub statements: Vec<Statement>,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nothing: `FROM scratch`.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image, as written after substitution.
    Image(String),
    /// A directory given by this name.
    Context(String),
}

impl Origin {
    /// The stage it is, if it is one.
    pub fn stage(&self) -> Option<usize> {
        match self {
            Self::Stage(index) => Some(*index),
            Self::Scratch | Self::Image(_) | Self::Context(_) => None,
        }
    }
}

impl Graph {
    /// Cuts a file into stages. `target` is a stage's name or number; the last one if `None`.
    pub fn new(file: &Dockerfile, args: &BTreeMap<String, String>, target: Option<&str>) -> Result<Self, SyntaxError> {
        let lexer = Lexer::new(file.escape);
        let name_of =
            |statement: &Statement| if let Instruction::From(from) = &statement.instruction { Some(from.name.clone()) } else { None };
        let last = file.statements.iter().rev().find_map(name_of).flatten();
        let mut globals = Globals::new(target.or(last.as_deref()), args);
        let mut stages: Vec<Stage> = Vec::new();
        for statement in &file.statements {
            let failed = |problem: String| SyntaxError { place: statement.place.clone(), problem, hint: None };
            match (&statement.instruction, stages.last_mut()) {
                (Instruction::From(from), _) => {
                    let base = base(from, &stages, &globals, &lexer).map_err(failed)?;
                    stages.push(Stage { name: from.name.clone(), base, from: statement.clone(), statements: Vec::new() });
                }
                (_, Some(stage)) => stage.statements.push(statement.clone()),
                (Instruction::Arg(declared), None) => {
                    for (name, default) in declared {
                        globals.declare(name, default.as_deref(), args, &lexer).map_err(|error| failed(error.to_string()))?;
                    }
                }
                (_, None) => return Err(failed("the first instruction is FROM; only ARG may stand before it".to_owned())),
            }
        }
        let target = target_of(file, &stages, target)?;
        Ok(Self { stages, target, globals, contexts: BTreeMap::new() })
    }

    /// The same with contexts by name: they come before stages and images, in FROM and in `--from`.
    pub fn with_contexts(mut self, contexts: &BTreeMap<String, NamedContext>) -> Self {
        self.contexts = contexts.iter().map(|(name, context)| (familiar(name), context.clone())).collect();
        for index in 0..self.stages.len() {
            let name = match &self.stages[index].base {
                Origin::Image(name) => Some(name.clone()),
                Origin::Stage(stage) => self.stages[*stage].name.clone(),
                Origin::Scratch | Origin::Context(_) => None,
            };
            if let Some(origin) = name.and_then(|name| self.named_context(&name)) {
                self.stages[index].base = origin;
            }
        }
        self
    }

    fn named_context(&self, name: &str) -> Option<Origin> {
        let name = familiar(name);
        Some(match self.contexts.get(&name)? {
            NamedContext::Directory(_) => Origin::Context(name),
            NamedContext::Image(reference) => Origin::Image(reference.clone()),
        })
    }

    /// The stages that a stage needs, itself included, each after those it needs.
    pub fn needed(&self, stage: usize) -> Vec<usize> {
        let mut needed = BTreeSet::new();
        let mut open = vec![stage];
        while let Some(index) = open.pop() {
            if needed.insert(index) {
                open.extend(self.needs(index));
            }
        }
        // A stage only ever needs earlier ones: the file's order is an order of dependencies.
        needed.into_iter().collect()
    }

    /// The stages that one stage needs directly.
    pub fn needs(&self, index: usize) -> BTreeSet<usize> {
        let stage = &self.stages[index];
        let copied = stage.statements.iter().flat_map(|statement| sources(&statement.instruction));
        let copied = copied.filter_map(|from| self.origin(index, &from).ok());
        let stages = copied.chain([stage.base.clone()]).filter_map(|origin| origin.stage());
        stages.collect()
    }

    /// What progress calls a stage: its name, `stage-2` for one without; nothing if it is the only one.
    pub fn label(&self, index: usize) -> String {
        match &self.stages[index].name {
            _ if self.stages.len() == 1 => String::new(),
            Some(name) => name.clone(),
            None => format!("stage-{index}"),
        }
    }

    /// What `--from=text` in a stage means: an earlier stage by name or number, else an image.
    pub fn origin(&self, index: usize, from: &str) -> Result<Origin, String> {
        if let Some(context) = self.named_context(from) {
            return Ok(context);
        }
        if let Some(stage) = named(&self.stages[..index], from) {
            return Ok(Origin::Stage(stage));
        }
        if named(&self.stages[index..], from).is_some() {
            return Err(format!("stage {from} is not built before this one: move it above"));
        }
        match from.parse::<usize>() {
            Ok(number) if number < index => Ok(Origin::Stage(number)),
            Ok(number) => Err(format!("there is no stage {number} before this one")),
            Err(_) if from.is_empty() => Err("--from is empty".to_owned()),
            Err(_) => Ok(Origin::Image(from.to_owned())),
        }
    }

    /// The images that the needed stages begin with or copy from, as written after substitution, sorted.
    pub fn images(&self) -> BTreeSet<String> {
        let mut images = BTreeSet::new();
        for index in self.needed(self.target) {
            let stage = &self.stages[index];
            let copied = stage.statements.iter().flat_map(|statement| sources(&statement.instruction));
            let origins = copied.filter_map(|from| self.origin(index, &from).ok()).chain([stage.base.clone()]);
            images.extend(origins.filter_map(|origin| match origin {
                Origin::Image(image) => Some(image),
                Origin::Scratch | Origin::Stage(_) | Origin::Context(_) => None,
            }));
        }
        images
    }
}

/// The `--from` of an instruction: of COPY, and of RUN's mounts.
fn sources(instruction: &Instruction) -> Vec<String> {
    match instruction {
        Instruction::Copy { from, .. } => from.iter().cloned().collect(),
        Instruction::Run(run) => {
            let options = run.mounts.iter().flat_map(|mount| mount.split(','));
            let from = |(name, value): (&str, &str)| name.eq_ignore_ascii_case("from").then(|| value.to_owned());
            options.filter_map(|option| option.split_once('=').and_then(from)).collect()
        }
        Instruction::From(_)
        | Instruction::Arg(_)
        | Instruction::Env(_)
        | Instruction::Label(_)
        | Instruction::Add { .. }
        | Instruction::Cmd(_)
        | Instruction::Entrypoint(_)
        | Instruction::Shell(_)
        | Instruction::Workdir(_)
        | Instruction::User(_)
        | Instruction::Expose(_)
        | Instruction::Volume(_)
        | Instruction::StopSignal(_)
        | Instruction::HealthCheck(_)
        | Instruction::OnBuild(_)
        | Instruction::Maintainer(_) => Vec::new(),
    }
}

fn base(from: &From, earlier: &[Stage], globals: &Globals, lexer: &Lexer) -> Result<Origin, String> {
    let word = |text: &str| lexer.word(text, &|name| globals.get(name)).map_err(|error| error.to_string());
    let image = word(&from.image)?;
    if let Some(platform) = &from.platform {
        let (wanted, host) = (word(platform)?, Platform::host());
        let is_hosts =
            wanted.strip_prefix(&format!("{}/{}", host.os, host.architecture)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !is_hosts {
            return Err(format!("this host builds for {host}, not for {wanted:?}: there is no emulation"));
        }
    }
    match image.as_str() {
        "" => Err(format!("{} names no image: is its argument declared with a default before the first FROM?", from.image)),
        name => Ok(match named(earlier, name) {
            Some(stage) => Origin::Stage(stage),
            None if name == "scratch" => Origin::Scratch,
            None => Origin::Image(image),
        }),
    }
}

/// The name of a context as it is looked up: of a stage in any case, of an image however much of its default parts is written.
pub(super) fn familiar(name: &str) -> String {
    let name = name.to_lowercase();
    let name = name.strip_prefix("docker.io/").unwrap_or(&name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name).to_owned()
}

/// The last stage of a name, in any case.
fn named(stages: &[Stage], name: &str) -> Option<usize> {
    stages.iter().rposition(|stage| stage.name.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(name)))
}

fn target_of(file: &Dockerfile, stages: &[Stage], target: Option<&str>) -> Result<usize, SyntaxError> {
    let Some(target) = target else { return Ok(stages.len() - 1) };
    let by_number = || target.parse::<usize>().ok().filter(|number| *number < stages.len());
    named(stages, target).or_else(by_number).ok_or_else(|| {
        let place = stages.last().map(|stage| stage.from.place.clone());
        let place = place.unwrap_or(Place { file: file.name.clone(), line: 1, column: 1, text: String::new() });
        let names: Vec<_> = stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let hint = (!names.is_empty()).then(|| format!("the named stages are {}", names.join(", ")));
        SyntaxError { place, problem: format!("there is no stage {target:?} to build"), hint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::file::parse;

    fn graph(text: &str, target: Option<&str>) -> Graph {
        let args = BTreeMap::from([("V".to_owned(), "9".to_owned())]);
        Graph::new(&parse("Dockerfile", text).expect("parses"), &args, target).expect("stages")
    }

    #[test]
    fn only_needed_stages_in_order() {
        let text = "FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=two x y\nFROM c AS four\nFROM three\nCOPY --from=0 x y\nRUN --mount=type=bind,From=d,target=/x true";
        let all = graph(text, None);
        assert_eq!(all.needed(all.target), [0, 1, 2, 4]);
        assert_eq!(all.images().into_iter().collect::<Vec<_>>(), ["a", "b", "d"]);
        let needed = |target| Some(graph(text, Some(target))).map(|graph| graph.needed(graph.target));
        assert_eq!(needed("two"), Some(vec![1]));
        assert_eq!(needed("THREE"), Some(vec![0, 1, 2]));
        assert_eq!(graph(text, Some("3")).images().into_iter().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn names_and_arguments() {
        let base = |text: &str| graph(text, None).stages.last().map(|stage| stage.base.clone()).expect("a stage");
        assert_eq!(base("ARG V=1\nFROM a:$V"), Origin::Image("a:9".to_owned()));
        assert_eq!(base("ARG W=1\nFROM a:${W}-${U:-x}"), Origin::Image("a:1-x".to_owned()));
        assert_eq!(base("FROM scratch"), Origin::Scratch);
        assert_eq!(base("FROM a AS scratch\nFROM scratch"), Origin::Stage(0));
        assert_eq!(base("FROM a AS a"), Origin::Image("a".to_owned()));
        assert_eq!(base("FROM a AS x\nFROM X"), Origin::Stage(0));
        assert_eq!(base("FROM --platform=$BUILDPLATFORM a"), Origin::Image("a".to_owned()));
        let file = parse("Dockerfile", "FROM --platform=plan9/z80 a").expect("parses");
        let refused = Graph::new(&file, &BTreeMap::new(), None).expect_err("another platform").problem;
        assert!(refused.ends_with("not for \"plan9/z80\": there is no emulation"), "{refused}");
        let target_stage = |text: &str, target| graph(text, target).globals.get("TARGETSTAGE");
        assert_eq!(target_stage("FROM a AS x\nFROM b AS Y", None).as_deref(), Some("y"));
        assert_eq!(target_stage("FROM a AS x\nFROM b AS Y", Some("x")).as_deref(), Some("x"));
        assert_eq!(target_stage("FROM a AS x\nFROM b", None).as_deref(), Some("default"));
        assert_eq!(graph("FROM a AS x\nFROM b", None).origin(1, "X"), Ok(Origin::Stage(0)));
        assert!(graph("FROM a\nFROM b", None).origin(1, "1").is_err());
        for from in ["y", "Z"] {
            assert!(graph("FROM a AS x\nFROM b AS y\nFROM c AS z", None).origin(1, from).is_err(), "a stage that is not there yet");
        }
        let file = parse("Dockerfile", "FROM $U").expect("parses");
        assert!(Graph::new(&file, &BTreeMap::new(), None).is_err());
        let file = parse("Dockerfile", "FROM a").expect("parses");
        assert!(Graph::new(&file, &BTreeMap::new(), Some("x")).is_err());
    }
}
