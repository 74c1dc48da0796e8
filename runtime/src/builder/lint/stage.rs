//! A walk through the stages with the variables that are set so far: rules about variables, paths, ports and commands.

use super::report::{Part, Report, part_of, use_of, verb};
use super::{Certainty, Facts, Rule, Warning};
use crate::builder::file::{CommandLine, Dockerfile, From, Instruction, Source, Statement, Transfer, nearest};
use crate::builder::ignore::{Verdict, clean};
use crate::builder::scope::{Globals, Scope};
use crate::builder::state::DEFAULT_PATH;
use crate::builder::words::{Lexer, Quotes};
use spec::value::ImageReference;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Parts of names, between `_`, that speak of a secret.
const SECRET_WORDS: [&str; 10] = ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
/// Parts of names that speak of a secret and hold none.
const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];

pub(super) fn check(report: &mut Report<'_>, file: &Dockerfile, facts: &Facts<'_>) {
    let mut walk = Walk::new(report, file, facts);
    for statement in &file.statements {
        walk.statement(statement);
    }
}

/// What a stage has come to.
#[derive(Debug, Clone, Default)]
struct Stage {
    scope: Scope,
    /// Whether all that its base image sets is known.
    base: Base,
    has_workdir: bool,
    has_shell: bool,
}

/// Whether the environment a stage begins with is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Base {
    #[default]
    Known,
    Unknown,
}

/// Names a text uses, in order.
#[derive(Debug, Default)]
struct Uses {
    set: BTreeSet<String>,
    unset: Vec<String>,
}

struct Walk<'a, 'r> {
    report: &'a mut Report<'r>,
    facts: &'a Facts<'a>,
    lexer: Lexer,
    globals: Globals,
    /// The global arguments if nothing is given on the command line.
    defaults: Globals,
    /// All arguments declared before the first FROM, with or without a value.
    declared: BTreeSet<String>,
    /// Stages that are done, by name.
    done: BTreeMap<String, Stage>,
    /// The name of the stage under way.
    name: Option<String>,
    /// `None` before the first FROM.
    stage: Option<Stage>,
    /// The instructions of this stage of which only the last one counts.
    once: BTreeMap<&'static str, Statement>,
}

impl<'a, 'r> Walk<'a, 'r> {
    fn new(report: &'a mut Report<'r>, file: &Dockerfile, facts: &'a Facts<'a>) -> Self {
        Self {
            report,
            facts,
            lexer: Lexer::new(file.escape),
            globals: Globals::new(None, &BTreeMap::new()),
            defaults: Globals::new(None, &BTreeMap::new()),
            declared: BTreeSet::new(),
            done: BTreeMap::new(),
            name: None,
            stage: None,
            once: BTreeMap::new(),
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match &statement.instruction {
            Instruction::From(from) => self.from(statement, from),
            Instruction::Arg(declared) => self.arg(statement, declared),
            Instruction::Env(pairs) => {
                let expanded: Vec<_> =
                    pairs.iter().map(|(name, value)| (self.word(statement, name), self.word(statement, value))).collect();
                for (name, value) in expanded {
                    self.secret(statement, "ENV", &name);
                    self.scope().set(name, value);
                }
            }
            Instruction::Label(pairs) => {
                pairs.iter().for_each(|(name, value)| drop((self.word(statement, name), self.word(statement, value))));
            }
            Instruction::Copy { transfer, from, .. } => self.transfer(statement, transfer, from.is_none()),
            Instruction::Add { transfer, .. } => self.transfer(statement, transfer, true),
            Instruction::Run(run) => {
                let options = run.mounts.iter().flat_map(|mount| mount.split(','));
                let values = options.filter_map(|option| option.split_once('=')).filter(|(name, _)| *name != "from");
                values.for_each(|(_, value)| drop(self.word(statement, value)));
            }
            Instruction::Cmd(line) => {
                self.only_last(statement, "CMD");
                self.json(statement, line);
            }
            Instruction::Entrypoint(line) => {
                self.only_last(statement, "ENTRYPOINT");
                self.json(statement, line);
            }
            Instruction::HealthCheck(_) => self.only_last(statement, "HEALTHCHECK"),
            Instruction::Shell(_) => {
                if let Some(stage) = &mut self.stage {
                    stage.has_shell = true;
                }
            }
            Instruction::Workdir(path) => self.workdir(statement, path),
            Instruction::User(text) | Instruction::StopSignal(text) => drop(self.word(statement, text)),
            Instruction::Volume(paths) => paths.iter().for_each(|path| drop(self.word(statement, path))),
            Instruction::Expose(ports) => ports.iter().for_each(|port| self.expose(statement, port)),
            Instruction::OnBuild(_) | Instruction::Maintainer(_) => {}
        }
    }

    /// The variables of the stage; those of none before the first FROM.
    fn scope(&mut self) -> &mut Scope {
        &mut self.stage.get_or_insert_default().scope
    }

    /// Expands a text; what it uses and nothing sets is told of. What cannot be expanded is the build's to refuse.
    fn word(&mut self, statement: &Statement, text: &str) -> String {
        self.word_by(self.lexer, statement, text)
    }

    fn word_by(&mut self, lexer: Lexer, statement: &Statement, text: &str) -> String {
        let stage = self.stage.get_or_insert_default();
        let (value, uses) = expand(lexer, text, &|name| stage.scope.get(name));
        let undefined: Vec<_> = uses.unset.into_iter().filter(|name| stage.scope.declared().all(|known| known != name)).collect();
        for name in undefined {
            self.undefined(statement, &name);
        }
        value.unwrap_or_default()
    }

    /// UndefinedVar.
    fn undefined(&mut self, statement: &Statement, name: &str) {
        let Some(stage) = &self.stage else { return };
        let near = nearest(name, stage.scope.names());
        let suggestion = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
        let part = use_of(statement, name);
        let (certainty, doubt) = match stage.base {
            Base::Known => (Certainty::Sure, ""),
            Base::Unknown => {
                (Certainty::UnlessBaseSetsIt, "; it is fine if the base image sets it, which is not in the store to be looked at")
            }
        };
        let warning = Warning {
            rule: Rule::UndefinedVar,
            message: format!("Usage of undefined variable '${name}'{suggestion}"),
            place: self.report.file().place(statement, part.offset),
            length: part.length,
            hint: format!("declare it before with ARG {name} or set it with ENV{doubt}"),
            certainty,
        };
        self.report.push(statement, warning);
    }

    fn from(&mut self, statement: &Statement, from: &From) {
        self.finish_stage();
        let globals = self.globals.clone();
        let (image, uses) = expand(self.lexer, &from.image, &|name| globals.get(name));
        self.undefined_in_from(statement, uses.unset);
        if let Some(platform) = &from.platform {
            self.platform(statement, from, platform, &globals);
        }
        let (default, _) = expand(self.lexer, &from.image, &|name| self.defaults.get(name));
        if default.is_some_and(|default| default.parse::<ImageReference>().is_err()) {
            let message = format!("Default value for ARG {} results in empty or invalid base image name", from.image);
            let hint = "give the argument a default that makes an image's name";
            self.report.warn(Rule::InvalidDefaultArgInFrom, statement, part_of(statement, &from.image), message, hint);
        }
        self.stage = Some(self.base(&image.unwrap_or_default()));
        self.name.clone_from(&from.name);
    }

    /// What FROM begins with.
    fn base(&self, image: &str) -> Stage {
        if let Some(stage) = self.done.get(&image.to_ascii_lowercase()) {
            return stage.clone();
        }
        let environment = if image == "scratch" { Some(Vec::new()) } else { (self.facts.environment_of)(image) };
        let base = if environment.is_some() { Base::Known } else { Base::Unknown };
        let mut stage = Stage { base, ..Stage::default() };
        // Every stage has it, whatever its image says.
        stage.scope.set("PATH".to_owned(), DEFAULT_PATH.to_owned());
        for variable in environment.unwrap_or_default() {
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            stage.scope.set(name.to_owned(), value.to_owned());
        }
        stage
    }

    fn finish_stage(&mut self) {
        self.once.clear();
        if let (Some(name), Some(stage)) = (self.name.take(), self.stage.take()) {
            self.done.insert(name, stage);
        }
    }

    /// UndefinedArgInFrom.
    fn undefined_in_from(&mut self, statement: &Statement, unset: Vec<String>) {
        for name in unset.iter().filter(|name| !self.declared.contains(*name)) {
            let near = nearest(name, self.globals.names().chain(self.declared.iter().map(String::as_str)));
            let suggestion = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            let message = format!("FROM argument '{name}' is not declared{suggestion}");
            let hint = format!("write ARG {name}=… before the first FROM");
            self.report.warn(Rule::UndefinedArgInFrom, statement, use_of(statement, name), message, hint);
        }
    }

    /// RedundantTargetPlatform and FromPlatformFlagConstDisallowed.
    fn platform(&mut self, statement: &Statement, from: &From, text: &str, globals: &Globals) {
        let (value, uses) = expand(self.lexer, text, &|name| globals.get(name));
        let constant = uses.set.is_empty() && uses.unset.is_empty();
        let part = Part { length: "--platform=".len() + text.chars().count(), ..part_of(statement, "--platform=") };
        let redundant = uses.set.len() == 1 && uses.set.contains("TARGETPLATFORM") && value == globals.get("TARGETPLATFORM");
        if redundant && uses.unset.is_empty() {
            let message = format!("Setting platform to predefined {text} in FROM is redundant as this is the default behavior");
            self.report.warn(Rule::RedundantTargetPlatform, statement, part, message, "leave --platform out");
        }
        self.undefined_in_from(statement, uses.unset);
        let stage = from.name.as_deref().unwrap_or_default();
        let mut components = text.split('/').filter(|component| !component.is_empty());
        if constant && !components.clone().take(2).any(|component| stage.contains(component)) && components.next().is_some() {
            let message = format!("FROM --platform flag should not use constant value {text:?}");
            let hint = "leave --platform out, write --platform=$BUILDPLATFORM, or name the stage after the platform";
            self.report.warn(Rule::FromPlatformFlagConstDisallowed, statement, part, message, hint);
        }
    }

    fn arg(&mut self, statement: &Statement, declared: &[(String, Option<String>)]) {
        for (name, default) in declared {
            let default = default.as_deref();
            if self.stage.is_none() {
                // What cannot be expanded is the build's to refuse.
                let _ = self.globals.declare(name, default, self.facts.args, &self.lexer);
                let _ = self.defaults.declare(name, default, &BTreeMap::new(), &self.lexer);
                self.declared.insert(name.clone());
                continue;
            }
            self.secret(statement, "ARG", name);
            if let (Some(default), None) = (default, self.facts.args.get(name)) {
                self.word(statement, default);
            }
            let (globals, lexer, given) = (self.globals.clone(), self.lexer, self.facts.args);
            let _ = self.scope().declare(name, default, given, &globals, &lexer);
        }
    }

    /// SecretsUsedInArgOrEnv.
    fn secret(&mut self, statement: &Statement, verb: &str, name: &str) {
        let has = |words: &[&str]| name.split('_').any(|part| words.contains(&part.to_ascii_lowercase().as_str()));
        if has(&SECRET_WORDS) && !has(&HARMLESS_WORDS) {
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({verb} {name:?})");
            let hint = "it stays in the image for everybody to read; write RUN --mount=type=secret,id=…, or give it to the container";
            self.report.warn(Rule::SecretsUsedInArgOrEnv, statement, part_of(statement, name), message, hint);
        }
    }

    fn transfer(&mut self, statement: &Statement, transfer: &Transfer, from_context: bool) {
        for source in &transfer.sources {
            match source {
                Source::Inline(heredoc) if heredoc.expand => {
                    // As where it is built: the escape character of a body is \ whatever the directive says.
                    self.word_by(Lexer { quotes: Quotes::Literal, ..Lexer::new('\\') }, statement, &heredoc.content);
                }
                Source::Inline(_) => {}
                Source::Path(path) => {
                    let value = self.word(statement, path);
                    if from_context {
                        self.ignored(statement, path, &value);
                    }
                }
            }
        }
        self.word(statement, &transfer.destination);
        let flags = [transfer.chown.as_ref(), transfer.chmod.as_ref()].into_iter().flatten().chain(&transfer.exclude);
        flags.for_each(|text| drop(self.word(statement, text)));
    }

    /// CopyIgnoredFile. With a `!` pattern a directory may be hidden and what is in it not: nothing to be said then.
    fn ignored(&mut self, statement: &Statement, written: &str, path: &str) {
        let is_remote = path.contains("://") || path.starts_with("git@");
        let path = clean(path);
        let rules = self.facts.ignored;
        if is_remote || path.is_empty() || rules.has_exceptions() || rules.verdict(&path) == Verdict::Seen {
            return;
        }
        let verb = if matches!(statement.instruction, Instruction::Add { .. }) { "Add" } else { "Copy" };
        let message = format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
        let hint = format!("write !{path} at the end of .dockerignore, or do not copy it");
        self.report.warn(Rule::CopyIgnoredFile, statement, part_of(statement, written), message, hint);
    }

    /// WorkdirRelativePath: the first one of a stage and the stages it is built on.
    fn workdir(&mut self, statement: &Statement, written: &str) {
        let path = self.word(statement, written);
        let Some(stage) = &mut self.stage else { return };
        if !std::mem::replace(&mut stage.has_workdir, true) && !path.starts_with('/') {
            let message = format!("Relative workdir {path:?} can have unexpected results if the base image changes");
            let hint = format!("write an absolute path, such as /{}", path.trim_start_matches("./"));
            self.report.warn(Rule::WorkdirRelativePath, statement, part_of(statement, written), message, hint);
        }
    }

    /// MultipleInstructionsDisallowed: told of the one that does not count.
    fn only_last(&mut self, statement: &Statement, name: &'static str) {
        let Some(earlier) = self.once.insert(name, statement.clone()) else { return };
        let (part, _) = verb(&earlier);
        let name = verb(statement).1;
        let message = format!("Multiple {name} instructions should not be used in the same stage because only the last one will be used");
        self.report.warn(
            Rule::MultipleInstructionsDisallowed,
            &earlier,
            part,
            message,
            format!("remove it: line {} replaces it", statement.place.line),
        );
    }

    /// JSONArgsRecommended; who sets a shell wants one.
    fn json(&mut self, statement: &Statement, line: &CommandLine) {
        let has_shell = self.stage.as_ref().is_some_and(|stage| stage.has_shell);
        let CommandLine::Shell(text) = line else { return };
        if has_shell {
            return;
        }
        let (part, name) = verb(statement);
        let message = format!("JSON arguments recommended for {name} to prevent unintended behavior related to OS signals");
        let plain = !text.contains(|c: char| "\"'\\$|&;<>()*?[]#~`{}=\n".contains(c));
        let words: Vec<_> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        let hint =
            if plain { format!("write {name} [{}]", words.join(", ")) } else { format!("write {name} [\"program\", \"argument\", …]") };
        self.report.warn(Rule::JSONArgsRecommended, statement, part, message, hint);
    }

    /// ExposeProtoCasing and ExposeInvalidFormat.
    fn expose(&mut self, statement: &Statement, written: &str) {
        let stage = self.stage.get_or_insert_default();
        for port in self.lexer.words(written, &|name| stage.scope.get(name)).unwrap_or_default() {
            let part = part_of(statement, written);
            let (address, container) = port.rsplit_once(':').map_or(("", port.as_str()), |(address, container)| (address, container));
            let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
            if protocol != protocol.to_lowercase() {
                let message = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                self.report.warn(Rule::ExposeProtoCasing, statement, part, message, format!("write {}", container.to_lowercase()));
            }
            if !address.is_empty() {
                let message = format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
                let hint = format!("write {container}; which port of the host leads there is said when a container is run");
                self.report.warn(Rule::ExposeInvalidFormat, statement, part, message, hint);
            }
        }
    }
}

/// Expands a text and notes which variables it uses. `None` if it cannot be expanded.
fn expand(lexer: Lexer, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> (Option<String>, Uses) {
    let uses = RefCell::new(Uses::default());
    let value = lexer.word(text, &|name| {
        let value = lookup(name);
        let mut uses = uses.borrow_mut();
        if value.is_some() {
            uses.set.insert(name.to_owned());
        } else if !uses.unset.iter().any(|known| known == name) {
            uses.unset.push(name.to_owned());
        }
        value
    });
    (value.ok(), uses.into_inner())
}
