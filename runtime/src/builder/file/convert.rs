//! A logical line to an [`Instruction`].

use super::arguments::{self, Flag};
use super::instruction::{CommandLine, From, HealthCheck, Instruction, NAMES, Run, RunNetwork, Source, Transfer};
use super::lines::{Heredoc, LogicalLine, heredoc_word};
use super::place::nearest;
use spec::value::duration;
use std::time::Duration;

/// What is wrong, and where in the logical line.
#[derive(Debug)]
pub(super) struct Problem {
    /// Byte offset in the line's text.
    pub(super) offset: usize,
    /// What.
    pub(super) problem: String,
    /// What to write instead.
    pub(super) hint: Option<String>,
}

type Result<T> = std::result::Result<T, Problem>;

/// An instruction's arguments with all that is needed to read them.
struct Arguments<'a> {
    /// Upper-case name of the instruction.
    name: &'a str,
    /// Text behind the flags, trimmed.
    text: &'a str,
    /// Where that text begins in the logical line.
    offset: usize,
    flags: Vec<Flag>,
    heredocs: &'a [Heredoc],
    escape: char,
}

/// Reads one line.
pub(super) fn instruction(line: &LogicalLine, escape: char) -> Result<Instruction> {
    parse(&line.text, 0, &line.heredocs, escape)
}

fn parse(text: &str, base: usize, heredocs: &[Heredoc], escape: char) -> Result<Instruction> {
    let lead = text.len() - text.trim_start().len();
    let body = text.trim();
    let (word, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    let name = word.to_ascii_uppercase();
    let rest_offset = base + lead + (body.len() - rest.len());
    let (flags, begin) = arguments::flags(rest);
    let flags = flags.into_iter().map(|flag| Flag { offset: flag.offset + rest_offset, ..flag }).collect();
    let mut arguments = Arguments { name: &name, text: rest[begin..].trim(), offset: rest_offset + begin, flags, heredocs, escape };
    if !NAMES.contains(&name.as_str()) {
        let hint = nearest(&name, NAMES).map(|near| format!("did you mean {near}?"));
        return Err(Problem { offset: base + lead, problem: format!("unknown instruction {word}"), hint });
    }
    // As BuildKit, in which the shell then runs nothing.
    if arguments.text.is_empty() && name != "RUN" {
        return Err(arguments.problem(format!("{name} needs at least one argument")));
    }
    let instruction = arguments.convert()?;
    match arguments.flags.first() {
        None => Ok(instruction),
        Some(flag) => Err(arguments.unknown_flag(flag)),
    }
}

impl Arguments<'_> {
    fn convert(&mut self) -> Result<Instruction> {
        Ok(match self.name {
            "FROM" => Instruction::From(self.from()?),
            "ARG" => Instruction::Arg(self.arg()?),
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "RUN" => Instruction::Run(self.run()?),
            "COPY" => {
                let from = self.flag("from")?;
                if from.as_ref().is_some_and(|from| from.contains('$')) {
                    let hint = "name a stage: ARG before the first FROM, then FROM $image AS name, then COPY --from=name";
                    return Err(Problem { hint: Some(hint.to_owned()), ..self.problem("variables do not work in --from") });
                }
                let parents = self.switch("parents")?;
                Instruction::Copy { transfer: self.transfer()?, from, parents }
            }
            "ADD" => {
                let checksum = self.flag("checksum")?;
                let keep_git_dir = self.switch("keep-git-dir")?;
                let unpack = self.flags.iter().any(|flag| flag.name == "unpack").then(|| self.switch("unpack")).transpose()?;
                Instruction::Add { transfer: self.transfer()?, checksum, keep_git_dir, unpack }
            }
            "CMD" => Instruction::Cmd(self.command()?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command()?),
            "SHELL" => match self.command()? {
                CommandLine::Exec(words) if !words.is_empty() => Instruction::Shell(words),
                CommandLine::Exec(_) | CommandLine::Shell(_) => {
                    return Err(self.problem("SHELL needs a JSON array, such as [\"/bin/bash\", \"-c\"]"));
                }
            },
            "WORKDIR" => Instruction::Workdir(self.text.to_owned()),
            "USER" => Instruction::User(self.text.to_owned()),
            "EXPOSE" => Instruction::Expose(arguments::blank_separated(self.text)),
            "VOLUME" => Instruction::Volume(self.list()?),
            "STOPSIGNAL" => Instruction::StopSignal(self.text.to_owned()),
            "HEALTHCHECK" => Instruction::HealthCheck(self.healthcheck()?),
            "ONBUILD" => Instruction::OnBuild(self.onbuild()?),
            // The only one left of the known names.
            _ => Instruction::Maintainer(self.text.to_owned()),
        })
    }

    fn from(&mut self) -> Result<From> {
        let platform = self.flag("platform")?;
        let words = arguments::blank_separated(self.text);
        match words.as_slice() {
            [image] => Ok(From { image: image.clone(), platform, name: None }),
            [image, r#as, name] if r#as.eq_ignore_ascii_case("as") => {
                let name = name.to_ascii_lowercase();
                let first = name.starts_with(|c: char| c.is_ascii_lowercase());
                if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
                    let problem = format!("{name:?} is not a stage name: a letter, then letters, digits, '-', '_' and '.'");
                    return Err(self.problem(problem));
                }
                Ok(From { image: image.clone(), platform, name: Some(name) })
            }
            _ => Err(self.problem("FROM takes an image, or an image, AS and a name")),
        }
    }

    fn arg(&self) -> Result<Vec<(String, Option<String>)>> {
        let mut declared = Vec::new();
        for (at, word) in arguments::quoted(self.text, self.escape) {
            let (name, default) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
            if name.is_empty() {
                return Err(Problem { offset: self.offset + at, ..self.problem("an argument's name is empty") });
            }
            declared.push((name.to_owned(), default));
        }
        Ok(declared)
    }

    /// `name=value …`, or the old form `name value with blanks`.
    fn pairs(&self) -> Result<Vec<(String, String)>> {
        let words = arguments::quoted(self.text, self.escape);
        let old_form = words.first().is_some_and(|(_, word)| !word.contains('='));
        let pairs = if old_form {
            let (name, value) = self
                .text
                .split_once(char::is_whitespace)
                .ok_or_else(|| self.problem(format!("{} needs a name and a value: {}=…", self.name, self.text)))?;
            vec![(0, name.to_owned(), value.trim_start().to_owned())]
        } else {
            let mut pairs = Vec::new();
            for (at, word) in words {
                let Some((name, value)) = word.split_once('=') else {
                    let problem = self.problem(format!("{word} has no '='"));
                    let hint = Some("write name=value, and quote a value that has blanks".to_owned());
                    return Err(Problem { offset: self.offset + at, hint, ..problem });
                };
                pairs.push((at, name.to_owned(), value.to_owned()));
            }
            pairs
        };
        match pairs.iter().find(|(_, name, _)| name.is_empty()) {
            Some((at, ..)) => Err(Problem { offset: self.offset + at, ..self.problem("a name is empty") }),
            None => Ok(pairs.into_iter().map(|(_, name, value)| (name, value)).collect()),
        }
    }

    fn run(&mut self) -> Result<Run> {
        let mut mounts = Vec::new();
        while let Some(mount) = self.flag_once("mount") {
            mounts.push(mount.value.clone().ok_or_else(|| self.needs_value(&mount))?);
        }
        let network = match self.flag("network")?.as_deref() {
            None | Some("default") => RunNetwork::Default,
            Some("none") => RunNetwork::None,
            Some("host") => RunNetwork::Host,
            Some(other) => return Err(self.problem(format!("--network is default, none or host, not {other:?}"))),
        };
        if let Some(flag) = self.flag_once("device") {
            return Err(Problem { offset: flag.offset, ..self.problem("--device is not supported: a build sees no device of the host") });
        }
        match self.flag("security")?.as_deref() {
            None | Some("sandbox") => {}
            Some(other) => {
                return Err(self.problem(format!(
                    "--security={other} is not allowed: a build's commands never get more privileges than a container's"
                )));
            }
        }
        Ok(Run { command: self.command()?, heredocs: self.heredocs.to_vec(), mounts, network })
    }

    fn transfer(&mut self) -> Result<Transfer> {
        let chown = self.flag("chown")?;
        let chmod = self.flag("chmod")?;
        let link = self.switch("link")?;
        let mut exclude = Vec::new();
        while let Some(flag) = self.flag_once("exclude") {
            exclude.push(flag.value.clone().ok_or_else(|| self.needs_value(&flag))?);
        }
        let mut words = self.list()?;
        let destination = words.pop().unwrap_or_default();
        if words.is_empty() {
            return Err(self.problem(format!("{} needs at least a source and a destination", self.name)));
        }
        if !self.heredocs.is_empty() && heredoc_word(&destination).is_some() {
            return Err(self.problem("a heredoc cannot be the destination"));
        }
        let mut paths = Vec::new();
        let mut inline = Vec::new();
        for word in words {
            let heredoc = heredoc_word(&word).and_then(|found| self.heredocs.iter().find(|heredoc| heredoc.name == found.name));
            match heredoc {
                Some(heredoc) => inline.push(Source::Inline(heredoc.clone())),
                None => paths.push(Source::Path(word)),
            }
        }
        paths.extend(inline);
        Ok(Transfer { sources: paths, destination, chown, chmod, link, exclude })
    }

    fn healthcheck(&mut self) -> Result<HealthCheck> {
        let interval = self.time("interval")?;
        let timeout = self.time("timeout")?;
        let start_period = self.time("start-period")?;
        let start_interval = self.time("start-interval")?;
        let retries = match self.flag("retries")? {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| self.problem(format!("--retries={text} is not a number of failures")))?),
        };
        let (kind, rest) = self.text.split_once(char::is_whitespace).unwrap_or((self.text, ""));
        let rest = rest.trim();
        match (kind.to_ascii_uppercase().as_str(), rest.is_empty()) {
            ("NONE", true) => Ok(HealthCheck::None),
            ("NONE", false) => Err(self.problem("HEALTHCHECK NONE takes no arguments")),
            ("CMD", false) => {
                let command = self.command_of(rest)?;
                if command == CommandLine::Exec(Vec::new()) {
                    return Err(self.problem("HEALTHCHECK CMD needs a command"));
                }
                Ok(HealthCheck::Probe { command, interval, timeout, start_period, start_interval, retries })
            }
            ("CMD", true) => Err(self.problem("HEALTHCHECK CMD needs a command")),
            _ => Err(self.problem(format!("HEALTHCHECK is NONE or CMD and a command, not {kind}"))),
        }
    }

    /// The trigger is checked now and run when an image is built on this one.
    fn onbuild(&mut self) -> Result<String> {
        let trigger = parse(self.text, self.offset, self.heredocs, self.escape)?;
        if matches!(trigger, Instruction::From(_) | Instruction::OnBuild(_) | Instruction::Maintainer(_)) {
            return Err(self.problem("FROM, ONBUILD and MAINTAINER cannot be triggers"));
        }
        self.flags.clear();
        let mut text = self.text.to_owned();
        for heredoc in self.heredocs {
            text.push_str(&format!("\n{}{}", heredoc.raw, heredoc.name));
        }
        Ok(text)
    }

    fn command(&self) -> Result<CommandLine> {
        self.command_of(self.text)
    }

    fn command_of(&self, text: &str) -> Result<CommandLine> {
        match arguments::exec_form(text) {
            Some(Ok(words)) => Ok(CommandLine::Exec(words)),
            Some(Err(())) => Err(self.problem("a JSON array of arguments holds strings only")),
            None => Ok(CommandLine::Shell(text.to_owned())),
        }
    }

    /// A JSON array, or words at blanks.
    fn list(&self) -> Result<Vec<String>> {
        match self.command()? {
            CommandLine::Exec(words) if words.is_empty() => Err(self.problem(format!("{} needs at least one argument", self.name))),
            CommandLine::Exec(words) => Ok(words),
            CommandLine::Shell(text) => Ok(arguments::blank_separated(&text)),
        }
    }

    /// Takes the first flag of a name out.
    fn flag_once(&mut self, name: &str) -> Option<Flag> {
        let at = self.flags.iter().position(|flag| flag.name == name)?;
        Some(self.flags.remove(at))
    }

    /// Takes a flag that has a value and stands at most once.
    fn flag(&mut self, name: &str) -> Result<Option<String>> {
        let Some(flag) = self.flag_once(name) else { return Ok(None) };
        if let Some(second) = self.flags.iter().find(|flag| flag.name == name) {
            return Err(Problem { offset: second.offset, ..self.problem(format!("--{name} is given twice")) });
        }
        flag.value.clone().map(Some).ok_or_else(|| self.needs_value(&flag))
    }

    /// Takes a flag that is on by itself, or `=true` or `=false`.
    fn switch(&mut self, name: &str) -> Result<bool> {
        match self.flag_once(name) {
            None => Ok(false),
            Some(flag) => match flag.value.as_deref() {
                None | Some("true" | "1") => Ok(true),
                Some("false" | "0") => Ok(false),
                Some(other) => Err(Problem { offset: flag.offset, ..self.problem(format!("--{name} is true or false, not {other:?}")) }),
            },
        }
    }

    fn time(&mut self, name: &str) -> Result<Option<Duration>> {
        let Some(text) = self.flag(name)? else { return Ok(None) };
        let time = duration::parse(&text).map_err(|error| self.problem(format!("--{name}: {error}")))?;
        // Docker refuses what its scheduler cannot keep; 0 stands for the default.
        if !time.is_zero() && time < Duration::from_millis(1) {
            return Err(self.problem(format!("--{name}={text} is less than 1ms")));
        }
        Ok((!time.is_zero()).then_some(time))
    }

    fn needs_value(&self, flag: &Flag) -> Problem {
        Problem { offset: flag.offset, ..self.problem(format!("--{0} needs a value: --{0}=…", flag.name)) }
    }

    fn unknown_flag(&self, flag: &Flag) -> Problem {
        let known: &[&str] = match self.name {
            "FROM" => &["platform"],
            "RUN" => &["mount", "network", "security"],
            "COPY" => &["from", "chown", "chmod", "link", "parents", "exclude"],
            "ADD" => &["chown", "chmod", "link", "checksum", "keep-git-dir", "unpack", "exclude"],
            "HEALTHCHECK" => &["interval", "timeout", "start-period", "start-interval", "retries"],
            _ => &[],
        };
        let hint = nearest(&flag.name, known.iter().copied()).map(|near| format!("did you mean --{near}?"));
        Problem { offset: flag.offset, problem: format!("{} has no flag --{}", self.name, flag.name), hint }
    }

    fn problem(&self, problem: impl Into<String>) -> Problem {
        Problem { offset: self.offset, problem: problem.into(), hint: None }
    }
}
