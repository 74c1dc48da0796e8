//! `agent image lint`: BuildKit's checks of a Dockerfile, each finding with its place and a remedy.

use super::given::arguments;
use crate::cli::render::{paint, style};
use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::{Context as _, anyhow};
use clap::Args;
use runtime::builder::context::Context;
use runtime::builder::file::{self, DOCKERFILE_BYTES_MAX, SyntaxError};
use runtime::builder::graph::Graph;
use runtime::builder::ignore::IgnoreRules;
use runtime::builder::lint::{self, Facts, Findings, Rule};
use runtime::engine::Engine;
use spec::desired::Location;
use spec::diagnostic::{self, Diagnostic, Place};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Check a Dockerfile for what builds but is likely not meant: BuildKit's rules.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct LintArgs {
    /// The build's directory, a Dockerfile, or - for one on standard input
    #[arg(default_value = ".", value_name = "PATH|-")]
    path: PathBuf,
    /// The Dockerfile, from here or, where there is none, from the directory [default: the directory's Dockerfile]
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// A build argument, KEY=value, or KEY to take it from the environment
    #[arg(long, value_name = "KEY=VALUE")]
    build_arg: Vec<String>,
}

const AFTER_HELP: &str = "\
A comment at the top of the Dockerfile says which rules count:
  # check=skip=JSONArgsRecommended,UndefinedVar
  # check=error=true          a build with warnings fails
  # check=experimental=all    InvalidDefinitionDescription too
Above an instruction, such a comment counts for that instruction.

Exit codes: 0 nothing found, 1 something found.";

/// A Dockerfile and what is checked with it.
struct Checked {
    name: String,
    text: String,
    ignored: IgnoreRules,
}

pub(super) fn run(args: &LintArgs, session: &Session) -> Outcome {
    let checked = open(&args.path, &super::given::dockerfile(&args.path, args.file.as_deref()))?;
    let given = arguments(&args.build_arg);
    let (file, mut errors) = file::read(&checked.name, &checked.text);
    let findings = check(&file, &checked.ignored, &given, session).unwrap_or_else(|error| {
        errors.push(error);
        Findings::default()
    });
    if errors.is_empty() {
        errors.extend(Graph::new(&file, &given, None).err());
    }
    for warning in &findings.warnings {
        let place = place_of(&warning.place, warning.length);
        let note = format!("{}; # check=skip={0} switches it off", warning.rule);
        let shown = Diagnostic::warning(place, &warning.message).note(note).help(Some(warning.hint.clone()));
        show(session, &shown, Some(warning.rule));
    }
    for error in &errors {
        show(session, &Diagnostic::error(place_of(&error.place, 1), &error.problem).help(error.hint.clone()), None);
    }
    if !session.render.json {
        let counts = [(errors.len(), "error"), (findings.warnings.len(), "warning")];
        let counts: Vec<_> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(*count, what)).collect();
        match counts.join(", ") {
            none if none.is_empty() => session.render.say(paint(style::GOOD, "Check complete, no warnings found.")),
            some => session.render.say(format_args!("Check complete, {some}.")),
        }
    }
    Ok(if findings.warnings.is_empty() && errors.is_empty() { exit::DONE } else { exit::FAILED })
}

/// Says in a line what there is to be said about a Dockerfile that is going to be built; its errors are the build's to tell.
pub(super) fn say_warnings(session: &Session, context: &Path, dockerfile: &Path, given: &BTreeMap<String, String>) {
    let Ok(checked) = open(context, dockerfile) else { return };
    let (file, _) = file::read(&checked.name, &checked.text);
    let count = check(&file, &checked.ignored, given, session).map_or(0, |findings| findings.warnings.len());
    if count > 0 {
        session.render.warn(format_args!("{}, see agent image lint", counted(count, "warning")));
    }
}

fn check(
    file: &file::Dockerfile,
    ignored: &IgnoreRules,
    given: &BTreeMap<String, String>,
    session: &Session,
) -> Result<Findings, SyntaxError> {
    // The checks need no store and make none; where one is, it knows what base images set.
    let engine = session.places.state.is_dir().then(|| session.engine().ok()).flatten();
    let environment_of = |image: &str| environment_of(engine.as_ref()?, image);
    lint::lint(file, &Facts { args: given, ignored, environment_of: &environment_of })
}

/// What an image sets, if it is in the store.
fn environment_of(engine: &Engine, image: &str) -> Option<Vec<String>> {
    let id = super::find::find(engine, image).ok()?;
    Some(engine.images().image(&id).ok()?.config.config.env)
}

fn open(path: &Path, dockerfile: &Path) -> Result<Checked, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        let limit = DOCKERFILE_BYTES_MAX;
        std::io::stdin().lock().take(limit + 1).read_to_string(&mut text).context("read a Dockerfile from standard input")?;
        if text.len() as u64 > limit {
            return Err(anyhow!("the Dockerfile is larger than {limit} bytes").into());
        }
        return Ok(Checked { name: "-".to_owned(), text, ignored: IgnoreRules::default() });
    }
    let (directory, dockerfile) = match (path.is_dir(), path.parent(), path.file_name()) {
        (false, Some(parent), Some(name)) => (if parent == Path::new("") { Path::new(".") } else { parent }, Path::new(name)),
        (true | false, _, _) => (path, dockerfile),
    };
    let context = Context::open(directory, dockerfile, None)?;
    let text = context.dockerfile(directory, dockerfile)?;
    // As an editor or a terminal can open it.
    let name = if directory == Path::new(".") { dockerfile.to_owned() } else { directory.join(dockerfile) };
    Ok(Checked { name: name.display().to_string(), text, ignored: context.rules })
}

fn place_of(place: &file::Place, length: usize) -> Place {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let location = Location { file: place.file.as_str().into(), line: number(place.line), column: number(place.column) };
    Place { location, length: number(length), text: Some(place.text.clone()), label: None }
}

fn show(session: &Session, finding: &Diagnostic, rule: Option<Rule>) {
    if session.render.json {
        let rule = rule.map(|rule| rule.to_string());
        session.render.json_line(&serde_json::json!({"type": "diagnostic", "rule": rule, "diagnostic": finding}));
    } else {
        session.render.text(&format!("{}\n", diagnostic::render(finding, diagnostic::Style::Coloured)));
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
