//! What is said of a command line that is wrong: clap's words, and tips for hands that know docker, kubectl or terraform.

use super::Cli;
use super::render::Render;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

/// Verbs of other tools, and what they are called here.
const SYNONYMS: &[(&str, &str)] = &[
    ("delete", "destroy"),
    ("describe", "container inspect"),
    ("diff", "plan"),
    ("down", "destroy"),
    ("get", "container ps"),
    ("images", "image ls"),
    ("rmi", "image rm"),
    ("up", "apply"),
];

/// What is not done by a verb here, and how it is done.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("container", "diff", "agent container export writes all its files, agent container commit makes an image of what it changed"),
    ("container", "pause", "agent container stop keeps its files, and agent container start goes on with them"),
    ("container", "rename", "a name is for good: remove it, and run it with another --name"),
    ("system", "events", "agent history shows what was applied, agent container logs --follow what containers write"),
];

/// Verbs whose argument is a site.
const OF_SITES: &[&str] = &["validate", "plan", "apply", "watch", "destroy"];

/// The command line; ends the process if it is none.
pub(super) fn parse() -> Cli {
    let arguments: Vec<String> = std::env::args().collect();
    Cli::try_parse().unwrap_or_else(|error| match error.kind() {
        ErrorKind::MissingSubcommand => {
            show_help(&arguments);
            std::process::exit(error.exit_code())
        }
        _ => with_tips(error, arguments.get(1..).unwrap_or_default()).exit(),
    })
}

/// What `-h` behind these arguments shows, on standard error: it is not what was asked for.
fn show_help(arguments: &[String]) {
    if let Err(help) = Cli::try_parse_from(arguments.iter().map(String::as_str).chain(["-h"])) {
        Render { json: false }.say_text(&help.render().ansi().to_string());
    }
}

fn with_tips(mut error: clap::Error, arguments: &[String]) -> clap::Error {
    let tip = match error.kind() {
        ErrorKind::InvalidSubcommand => text(&error, ContextKind::InvalidSubcommand).and_then(|verb| tip_for_verb(&verb, arguments)),
        ErrorKind::UnknownArgument => {
            // That an option could also be a name is true and never meant.
            error.remove(ContextKind::Suggested);
            text(&error, ContextKind::InvalidArg).and_then(|flag| tip_for_flag(&flag, arguments))
        }
        _ => None,
    };
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// For a verb that is no verb there.
fn tip_for_verb(verb: &str, arguments: &[String]) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == verb)?;
    let root = Cli::command();
    let noun = at.checked_sub(1).and_then(|before| root.find_subcommand(&arguments[before]));
    if let Some(noun) = noun {
        let elsewhere = ELSEWHERE.iter().find(|(of, name, _)| *of == noun.get_name() && *name == verb);
        return elsewhere.map(|(_, _, how)| (*how).to_owned());
    }
    if let Some((_, ours)) = SYNONYMS.iter().find(|(theirs, _)| *theirs == verb) {
        return Some(format!("write agent {ours}"));
    }
    if root.get_subcommands().any(|known| spec::nearest(verb, [known.get_name()]).is_some()) {
        return None;
    }
    // Docker has the verbs of its nouns without the noun as well.
    let verbs: Vec<(&str, &str)> =
        root.get_subcommands().flat_map(|noun| noun.get_subcommands().map(|verb| (verb.get_name(), noun.get_name()))).collect();
    let meant = spec::nearest(verb, verbs.iter().map(|(verb, _)| *verb))?;
    let (verb, noun) = verbs.iter().find(|(name, _)| *name == meant)?;
    Some(format!("write agent {noun} {verb}"))
}

/// For an option that is none there.
fn tip_for_flag(flag: &str, arguments: &[String]) -> Option<String> {
    let verb = arguments.iter().find(|argument| OF_SITES.contains(&argument.as_str()))?;
    match (verb.as_str(), flag) {
        (_, "-f" | "--file" | "--filename") => Some(format!("the site stands alone: agent {verb} ./site")),
        ("apply", "-y" | "--yes" | "--auto-approve") => Some("apply does not ask; agent plan shows what it would do".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a command line.
    fn said(line: &str) -> String {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let error = Cli::try_parse_from(std::iter::once("agent".to_owned()).chain(arguments.iter().cloned())).unwrap_err();
        with_tips(error, &arguments).to_string()
    }

    #[test]
    fn tips_are_for_what_was_meant() {
        for (line, tip) in [
            ("ps", "write agent container ps"),
            ("run x", "write agent container run"),
            ("images", "write agent image ls"),
            ("rmi x", "write agent image rm"),
            ("buld .", "write agent image build"),
            ("up ./site", "write agent apply"),
            ("aply ./site", "a similar subcommand exists: 'apply'"),
            ("container pss", "a similar subcommand exists: 'ps'"),
            ("container pause x", "agent container stop keeps"),
            ("apply -f ./site", "agent apply ./site"),
            ("apply --auto-approve ./site", "apply does not ask"),
            ("container ps --al", "a similar argument exists: '--all'"),
        ] {
            let said = said(line);
            assert!(said.contains(&format!("tip: {tip}")) || said.contains(tip), "{line}: {said}");
        }
    }

    #[test]
    fn nothing_is_made_up() {
        for line in ["frobnicate", "container frobnicate", "container ps --zzz", "container run --zzz x"] {
            assert!(!said(line).contains("tip:"), "{line}");
        }
    }

    #[test]
    fn every_tip_names_what_there_is() {
        let root = Cli::command();
        for (theirs, ours) in SYNONYMS {
            let mut words = ours.split(' ');
            let first = words.next().and_then(|noun| root.find_subcommand(noun)).unwrap();
            assert!(words.all(|verb| first.find_subcommand(verb).is_some()), "{ours}");
            assert!(root.find_subcommand(theirs).is_none(), "{theirs}");
        }
        for (noun, verb, _) in ELSEWHERE {
            assert!(root.find_subcommand(noun).unwrap().find_subcommand(verb).is_none(), "{noun} {verb}");
        }
    }
}
