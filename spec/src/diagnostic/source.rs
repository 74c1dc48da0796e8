//! The text of one file, and positions in it.

use super::{Place, Severity};
use crate::desired::Location;
use crate::value::secret;
use std::sync::Arc;

/// Longest line that is quoted; a minified file is named by position only.
const LINE_BYTES_MAX: usize = 1_000;

/// How far apart characters are counted ahead.
const BLOCK_BYTES: usize = 512;

/// A stretch of a file in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What of a line is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// All but values whose names look secret.
    Text,
    /// Names alone, of a file whose every value is a secret.
    Names,
}

/// A file's path and text. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: Arc<str>,
    text: String,
    quoting: Quoting,
    /// Where each line begins.
    lines: Vec<usize>,
    /// Characters before every [`BLOCK_BYTES`] bytes, so that a column in a line of megabytes is not counted from its start.
    blocks: Vec<usize>,
}

impl Source {
    /// `path` is relative to the site's root.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self::with_quoting(path, text, Quoting::Text)
    }

    /// A file of NAME=value lines whose values are never quoted.
    pub(crate) fn of_secrets(path: &str, text: &str) -> Self {
        Self::with_quoting(path, text, Quoting::Names)
    }

    fn with_quoting(path: &str, text: &str, quoting: Quoting) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let begins = |byte: &u8| (byte & 0xC0) != 0x80;
        let counts = text.as_bytes().chunks(BLOCK_BYTES).scan(0, |before, block| {
            let here = *before;
            *before += block.iter().filter(|byte| begins(byte)).count();
            Some(here)
        });
        let blocks = counts.collect();
        Self(Arc::new(Inner { path: path.into(), text: text.to_owned(), quoting, lines, blocks }))
    }

    /// Characters before a byte, which begins one or ends the text.
    fn characters(&self, byte: usize) -> usize {
        let Some(block) = byte.checked_sub(1).map(|last| last / BLOCK_BYTES) else { return 0 };
        let begins = |byte: &&u8| (**byte & 0xC0) != 0x80;
        self.0.blocks[block] + self.0.text.as_bytes()[block * BLOCK_BYTES..byte].iter().filter(begins).count()
    }

    pub(crate) fn path(&self) -> &str {
        &self.0.path
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    /// The first line of the stretch, quoted.
    pub(crate) fn place(&self, span: Span) -> Place {
        let (line, start, end) = self.first_line(span);
        let length = count(self.characters(end) - self.characters(start));
        let line_text = self.line(line);
        let text = if line_text.len() <= LINE_BYTES_MAX { self.quote(line_text) } else { None };
        Place { location: self.location_of(line, start), length, text, label: None }
    }

    /// Where the stretch begins.
    pub(crate) fn location(&self, span: Span) -> Location {
        let (line, start, _) = self.first_line(span);
        self.location_of(line, start)
    }

    /// The index of the line in which a stretch begins, and the part of the stretch in that line.
    fn first_line(&self, span: Span) -> (usize, usize, usize) {
        let text = &self.0.text;
        let start = floor(text, span.start);
        let line = self.0.lines.partition_point(|begin| *begin <= start).saturating_sub(1);
        let line_end = self.0.lines[line] + self.line(line).len();
        // A stretch over several lines is underlined to the end of its first one, without blanks there.
        let start = start.min(line_end);
        let end = start + text[start..floor(text, span.end).clamp(start, line_end)].trim_end().len();
        (line, start, end)
    }

    /// A line without its end.
    fn line(&self, line: usize) -> &str {
        let next_line = self.0.lines.get(line + 1).copied().unwrap_or(self.0.text.len());
        self.0.text[self.0.lines[line]..next_line].trim_end_matches(['\n', '\r'])
    }

    fn location_of(&self, line: usize, start: usize) -> Location {
        let begin = self.0.lines[line];
        let column = match self.0.text.get(begin..start) {
            // Nearly always: no line of a manifest is long.
            Some(before) if before.len() <= BLOCK_BYTES => before.chars().count() + 1,
            Some(_) | None => self.characters(start) - self.characters(begin) + 1,
        };
        Location { file: Arc::clone(&self.0.path), line: count(line + 1), column: count(column) }
    }

    /// A line as it is shown, each of its characters in its place; `None` if it is not.
    fn quote(&self, line: &str) -> Option<String> {
        match self.0.quoting {
            Quoting::Text => Some(secret::hide_in_line(line)),
            // A line without a name may be one of a secret's many.
            Quoting::Names => line.split_once('=').map(|(name, value)| format!("{name}={}", "*".repeat(value.chars().count()))),
        }
    }

    /// An error at a stretch of this file.
    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> super::Diagnostic {
        super::Diagnostic { severity: Severity::Error, ..super::Diagnostic::error(self.place(span), message) }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The nearest character boundary at or before a byte.
fn floor(text: &str, mut byte: usize) -> usize {
    byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, start: usize, end: usize) -> (u32, u32, u32, String) {
        let place = Source::new("a.yaml", text).place(Span { start, end });
        (place.location.line, place.location.column, place.length, place.text.unwrap_or_default())
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        assert_eq!(at("é: x\n", 4, 5), (1, 4, 1, "é: x".to_owned()));
    }

    #[test]
    fn columns_far_into_a_line_are_exact() {
        let text = format!("a\n{}x", "é".repeat(2_000));
        let place = Source::new("a.yaml", &text).place(Span { start: text.len() - 1, end: text.len() });
        assert_eq!((place.location.line, place.location.column, place.length), (2, 2_001, 1));
    }

    #[test]
    fn a_stretch_over_lines_ends_with_its_first() {
        assert_eq!(at("a:\r\n  b: 1\r\n  c: 2\r\n", 6, 18), (2, 3, 4, "  b: 1".to_owned()));
    }

    #[test]
    fn a_stretch_outside_the_text_is_its_end() {
        assert_eq!(at("a: 1", 99, 100), (1, 5, 0, "a: 1".to_owned()));
        assert_eq!(at("", 0, 0), (1, 1, 0, String::new()));
        assert_eq!(at("a\n", 2, 2), (2, 1, 0, String::new()));
    }

    #[test]
    fn an_overlong_line_is_not_quoted() {
        let text = "x".repeat(LINE_BYTES_MAX + 1);
        assert_eq!(Source::new("a.yaml", &text).place(Span { start: 5, end: 7 }).text, None);
    }
}
