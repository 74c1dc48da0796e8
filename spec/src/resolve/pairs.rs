//! KEY=value pairs, from a list or a map: environment, labels, build arguments.

use super::Resolver;
use crate::diagnostic::Problems;
use crate::manifest::{ListOrMap, Metadata, Pairs};
use crate::parse::{Document, Spot};
use std::collections::BTreeMap;

/// What the pairs are, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PairKind {
    Variable,
    Label,
    Argument,
    Context,
}

impl PairKind {
    fn noun(self) -> &'static str {
        match self {
            Self::Variable => "variable",
            Self::Label => "label",
            Self::Argument => "build argument",
            Self::Context => "build context",
        }
    }
}

/// Every pair, each key once.
pub(super) fn resolve<'s>(pairs: Option<&Pairs>, spot: Spot<'s>, kind: PairKind, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut resolved = BTreeMap::new();
    // Places are looked up for problems only: a list may be long.
    let mut add = |key: &str, value: &str, at: &dyn Fn() -> Spot<'s>, problems: &mut Problems| {
        let noun = kind.noun();
        let problem = match kind {
            PairKind::Variable | PairKind::Argument => key_problem(key),
            PairKind::Context => key.is_empty().then(|| "a build context's name is empty".to_owned()),
            PairKind::Label => key.is_empty().then(|| "a label's name is empty".to_owned()),
        };
        if let Some(problem) = problem {
            problems.push(at().key_error(problem));
        } else if value.contains('\0') {
            problems.push(at().error(format!("{noun} {key} has a NUL byte")));
        } else if resolved.insert(key.to_owned(), value.to_owned()).is_some() {
            problems.push(at().error(format!("{noun} {key} is set twice")));
        }
    };
    match pairs {
        None => {}
        Some(ListOrMap::Map(map)) => map.iter().for_each(|(key, value)| add(key, &value.0, &|| spot.key(key), problems)),
        Some(ListOrMap::List(items)) => {
            for (item, at) in items.iter().zip(spot.items()) {
                match item.0.split_once('=') {
                    Some((key, value)) => add(key, value, &|| at, problems),
                    None => {
                        let problem = at.error(format!("{} {} has no value", kind.noun(), item.0));
                        let help = format!("write {}=value; nothing is taken from the agent's own environment", item.0);
                        problems.push(problem.help(help));
                    }
                }
            }
        }
    }
    resolved
}

/// Why this cannot be the name of an environment variable.
pub(super) fn key_problem(key: &str) -> Option<String> {
    if key.is_empty() {
        return Some("a variable's name is empty".to_owned());
    }
    let bad = |c: char| c == '=' || c.is_whitespace() || c.is_control();
    key.contains(bad).then(|| format!("{key:?} is not a variable's name: it has a blank, a control character or '='"))
}

impl Resolver<'_> {
    /// Labels from `metadata` and from `spec`.
    pub(super) fn labels(&mut self, document: &Document, metadata: &Metadata, more: Option<&Pairs>) -> BTreeMap<String, String> {
        let spot = document.metadata().key("labels");
        let mut labels = resolve(metadata.labels.as_ref(), spot, PairKind::Label, &mut self.problems);
        let spot = document.spec().key("labels");
        for (key, value) in resolve(more, spot, PairKind::Label, &mut self.problems) {
            if labels.get(&key).is_some_and(|other| *other != value) {
                let problem = spot.key(&key).error(format!("label {key} has another value in metadata"));
                self.report(problem.related(document.metadata().key("labels").key(&key).place(), "set here"));
            }
            labels.insert(key, value);
        }
        labels
    }
}
