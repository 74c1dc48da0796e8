//! Warnings as they are found, and where in a statement's text they stand.

use super::{Certainty, Options, Rule, Warning};
use crate::builder::file::{Dockerfile, Statement};

/// Most warnings of a file that are kept: nobody reads more.
const WARNINGS_MAX: usize = 1_000;

/// Collects warnings.
pub(super) struct Report<'a> {
    file: &'a Dockerfile,
    options: Options,
    warnings: Vec<Warning>,
}

/// A part of a statement's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Byte offset.
    pub offset: usize,
    /// Characters.
    pub length: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Dockerfile, options: Options) -> Self {
        Self { file, options, warnings: Vec::new() }
    }

    /// Notes a warning, unless its rule is switched off.
    pub(super) fn warn(&mut self, rule: Rule, statement: &Statement, part: Part, message: String, hint: impl Into<String>) {
        let place = self.file.place(statement, part.offset);
        let length = part.length.min(place.text.chars().count().saturating_sub(place.column - 1)).max(1);
        let warning = Warning { rule, message, place, length, hint: hint.into(), certainty: Certainty::Sure };
        self.push(statement, warning);
    }

    /// Notes a warning that has its place already, or is not quite sure.
    pub(super) fn push(&mut self, statement: &Statement, warning: Warning) {
        let here = Options::of_comments(&statement.comments);
        if self.options.counts(warning.rule, &here) && self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    pub(super) fn file(&self) -> &'a Dockerfile {
        self.file
    }

    /// All of them, in the file's order.
    pub(super) fn finish(mut self) -> Vec<Warning> {
        let key = |warning: &Warning| (warning.place.line, warning.place.column, warning.rule);
        self.warnings.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message)));
        self.warnings.dedup();
        self.warnings
    }
}

/// The words of a statement as written, the instruction's name first.
pub(super) fn words(statement: &Statement) -> impl Iterator<Item = (Part, &str)> {
    let text = statement.text.as_str();
    text.split_whitespace().map(move |word| {
        // Both are slices of the same text.
        let offset = word.as_ptr() as usize - text.as_ptr() as usize;
        (Part { offset, length: word.chars().count() }, word)
    })
}

/// The instruction's name as written.
pub(super) fn verb(statement: &Statement) -> (Part, &str) {
    words(statement).next().unwrap_or((Part { offset: 0, length: 1 }, ""))
}

/// The first place after the instruction's name where a word, or what follows its quote, begins with this text; else the name.
pub(super) fn part_of(statement: &Statement, text: &str) -> Part {
    let (name, _) = verb(statement);
    let begins = |at: usize| statement.text[..at].ends_with(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | '[' | ','));
    let found = statement.text.match_indices(text).map(|(at, _)| at).find(|at| *at > name.offset && begins(*at));
    found.map_or(name, |offset| Part { offset, length: text.chars().count() })
}

/// The first use of a variable: `$name` or `${name`; else the instruction's name.
pub(super) fn use_of(statement: &Statement, variable: &str) -> Part {
    let whole = |at: usize, length: usize| !statement.text[at + length..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let mut found: Option<Part> = None;
    for sign in ["$", "${"] {
        let text = format!("{sign}{variable}");
        let at = statement.text.match_indices(&text).map(|(at, _)| at).find(|at| whole(*at, text.len()));
        let part = at.map(|offset| Part { offset, length: text.chars().count() + usize::from(sign == "${") });
        found = match (found, part) {
            (Some(a), Some(b)) => Some(if a.offset < b.offset { a } else { b }),
            (a, b) => a.or(b),
        };
    }
    found.unwrap_or(verb(statement).0)
}
