//! Physical lines to logical ones: directives, comments, continuations, heredoc bodies. BuildKit's `parser` package is the model.

use super::place::{Place, SyntaxError};
use crate::builder::words::{Lexer, Quotes, Unset};

/// Most lines of a Dockerfile: generated ones have a few thousand.
const LINES_MAX: usize = 100_000;

/// A text cut into logical lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// The escape character.
    pub escape: char,
    /// `# syntax=`: accepted and ignored.
    pub syntax: Option<String>,
    /// `# check=`: which checks are on, and its line.
    pub check: Option<(usize, String)>,
    /// Instructions as written.
    pub lines: Vec<LogicalLine>,
}

/// One instruction with its continuation lines joined and its heredocs beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogicalLine {
    /// The joined text.
    pub text: String,
    /// Number of its last physical line, heredoc bodies included.
    pub last_line: usize,
    /// Heredocs opened on it, in order.
    pub heredocs: Vec<Heredoc>,
    /// The comment lines directly above it, without their `#`.
    pub comments: Vec<String>,
    /// Number of the first empty line within it: dropped, but no good style.
    pub empty_line: Option<usize>,
    /// Where the pieces of the text stand.
    pub pieces: Vec<Piece>,
}

/// Where a piece of a logical line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Byte offset in the logical line.
    offset: usize,
    /// Physical line, from 1.
    line: usize,
    /// Byte offset in the physical line.
    column: usize,
}

/// A here-document: `<<NAME` and the lines up to `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; for COPY and ADD the name of the file.
    pub name: String,
    /// The body, with its line ends; leading tabs removed for `<<-`.
    pub content: String,
    /// The body as written: what a shell is given.
    pub raw: String,
    /// Whether variables are replaced: no part of the word is quoted.
    pub expand: bool,
}

/// The `<<NAME` word itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeredocWord {
    /// The word that ends it.
    pub name: String,
    /// Whether no part of it is quoted.
    pub expand: bool,
    /// `<<-`: leading tabs do not count.
    pub chomp: bool,
}

/// The place of a byte offset in a logical line made of these pieces.
pub(super) fn place(file: &str, physical: &[&str], pieces: &[Piece], offset: usize) -> Place {
    let start = Piece { offset: 0, line: 1, column: 0 };
    let piece = pieces.iter().rev().find(|piece| piece.offset <= offset).copied().unwrap_or(start);
    let text = physical.get(piece.line - 1).copied().unwrap_or_default().trim_end_matches(['\r', '\n']);
    let text = if piece.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
    let end = (piece.column + (offset - piece.offset)).min(text.len());
    let before = text.get(..end).unwrap_or(text);
    Place { file: file.to_owned(), line: piece.line, column: before.chars().count() + 1, text: text.to_owned() }
}

/// Cuts a Dockerfile into logical lines.
pub(super) fn split(file: &str, text: &str) -> Result<Lines, SyntaxError> {
    let physical: Vec<&str> = text.split_inclusive('\n').collect();
    let error = |line: usize, problem: String| SyntaxError {
        place: Place {
            file: file.to_owned(),
            line,
            column: 1,
            text: physical.get(line - 1).copied().unwrap_or_default().trim_end().to_owned(),
        },
        problem,
        hint: None,
    };
    if physical.len() > LINES_MAX {
        return Err(error(LINES_MAX, format!("more than {LINES_MAX} lines")));
    }
    let lines = Lines { escape: '\\', syntax: None, check: None, lines: Vec::new() };
    let mut cutter = Cutter { physical: &physical, next: 0, comments: Vec::new(), lines };
    cutter.directives().map_err(|(line, problem)| error(line, problem))?;
    while cutter.next < physical.len() {
        cutter.logical().map_err(|(line, problem)| error(line, problem))?;
    }
    Ok(cutter.lines)
}

type Problem = (usize, String);

struct Cutter<'a> {
    physical: &'a [&'a str],
    next: usize,
    /// Comment lines since the last line of another kind.
    comments: Vec<String>,
    lines: Lines,
}

impl<'a> Cutter<'a> {
    /// The next physical line without its end (and without a byte order mark on the first).
    fn take(&mut self) -> Option<&'a str> {
        let line = self.physical.get(self.next)?;
        self.next += 1;
        let line = if self.next == 1 { line.trim_start_matches('\u{feff}') } else { line };
        Some(line.trim_end_matches(['\r', '\n']))
    }

    /// `# key=value` lines at the very top; the first line that is none ends them. A `#!` line before them is a shell's.
    fn directives(&mut self) -> Result<(), Problem> {
        let mut escape_given = false;
        if !self.take().is_some_and(|line| line.starts_with("#!")) {
            self.next = 0;
        }
        while let Some(line) = self.take() {
            let Some((key, value)) = directive(line) else {
                self.next -= 1;
                return Ok(());
            };
            let line = self.next;
            let twice = || Err((line, format!("directive {key} is given twice")));
            match key.as_str() {
                "escape" if escape_given => return twice(),
                "escape" => {
                    escape_given = true;
                    self.lines.escape = match value.as_str() {
                        "\\" => '\\',
                        "`" => '`',
                        _ => return Err((line, format!("the escape character is \\ or `, not {value:?}"))),
                    };
                }
                "syntax" if self.lines.syntax.is_some() => return twice(),
                "syntax" => self.lines.syntax = Some(value),
                "check" if self.lines.check.is_some() => return twice(),
                "check" => self.lines.check = Some((line, value)),
                _ => {
                    self.next -= 1;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// One logical line, if the next physical one begins one.
    fn logical(&mut self) -> Result<(), Problem> {
        let Some(line) = self.take() else { return Ok(()) };
        let first_line = self.next;
        let start = line.trim_start();
        if let Some(comment) = start.strip_prefix('#') {
            self.comments.push(comment.trim().to_owned());
            return Ok(());
        }
        let comments = std::mem::take(&mut self.comments);
        if start.is_empty() {
            return Ok(());
        }
        let mut pieces = vec![Piece { offset: 0, line: first_line, column: line.len() - start.len() }];
        let mut empty_line = None;
        let (begun, mut continued) = continuation(start, self.lines.escape);
        let mut text = begun.to_owned();
        while continued {
            let Some(line) = self.take() else { break };
            // Comments and empty lines inside a continuation are dropped.
            if line.trim().is_empty() {
                empty_line = empty_line.or(Some(self.next));
                continue;
            }
            if line.trim_start().starts_with('#') {
                continue;
            }
            pieces.push(Piece { offset: text.len(), line: self.next, column: 0 });
            let (more, goes_on) = continuation(line, self.lines.escape);
            text.push_str(more);
            continued = goes_on;
        }
        if text.trim().is_empty() {
            return Ok(());
        }
        let heredocs = self.heredocs(&text)?;
        self.lines.lines.push(LogicalLine { text, last_line: self.next, heredocs, comments, empty_line, pieces });
        Ok(())
    }

    /// Takes the bodies of the heredocs that a logical line opens.
    fn heredocs(&mut self, text: &str) -> Result<Vec<Heredoc>, Problem> {
        let opened_on = self.next;
        if !takes_heredocs(text) {
            return Ok(Vec::new());
        }
        let mut heredocs = Vec::new();
        for word in heredoc_words(text) {
            let mut raw = String::new();
            let mut content = String::new();
            let mut closed = false;
            while let Some(line) = self.physical.get(self.next) {
                self.next += 1;
                let chomped = if word.chomp { line.trim_start_matches('\t') } else { line };
                if chomped.trim_end_matches(['\r', '\n']) == word.name {
                    closed = true;
                    break;
                }
                raw.push_str(line);
                content.push_str(chomped);
            }
            if !closed {
                return Err((opened_on, format!("heredoc <<{} is not closed: no line consists of {} alone", word.name, word.name)));
            }
            heredocs.push(Heredoc { name: word.name, content, raw, expand: word.expand });
        }
        Ok(heredocs)
    }
}

/// Reads `# key=value`; the key is letters and digits, and some value there must be.
fn directive(line: &str) -> Option<(String, String)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_name = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value.to_owned()))
}

/// The line without its continuation mark, and whether it had one: an escape character at the end, blanks after it allowed,
/// no other one before it.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        Some(_) | None => (line, false),
    }
}

/// Whether the instruction may open heredocs: RUN, COPY, ADD, also behind ONBUILD, and not in their JSON form.
fn takes_heredocs(text: &str) -> bool {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim_start();
    match name.to_ascii_uppercase().as_str() {
        "ONBUILD" => takes_heredocs(rest),
        "RUN" | "COPY" | "ADD" => !super::arguments::is_exec_form(super::arguments::after_flags(rest)),
        _ => false,
    }
}

/// The `<<NAME` words of a line; as in a shell, blanks may stand before the name.
fn heredoc_words(text: &str) -> Vec<HeredocWord> {
    // The escape character of heredoc words is \ whatever the directive says.
    let lexer = Lexer { quotes: Quotes::Keep, unset: Unset::Keep, ..Lexer::new('\\') };
    // A line the lexer does not read, with an apostrophe say, has none that could be told from the rest.
    let words = lexer.words(text, &|_| None).unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        let alone = word.trim_start_matches(|c: char| c.is_ascii_digit());
        match rest.peek() {
            // Only what looks like a name: `$((1 << 2))` shifts bits.
            Some(name) if matches!(alone, "<<" | "<<-") => {
                let joined = heredoc_word(&format!("{alone}{name}"));
                let is_name = |word: &HeredocWord| word.name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
                let starts_as_name = name.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '\'' | '"'));
                found.extend(joined.filter(|word| starts_as_name && is_name(word)));
            }
            Some(_) | None => found.extend(heredoc_word(word)),
        }
    }
    found
}

/// Reads `<<NAME`, `<<-NAME`, `3<<"NAME"`; `None` if it is an ordinary word.
pub fn heredoc_word(word: &str) -> Option<HeredocWord> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomp) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let read = |quotes| Lexer { quotes, unset: Unset::Keep, ..Lexer::new('\\') }.words(rest, &|_| None).ok();
    let [name] = <[String; 1]>::try_from(read(Quotes::Remove)?).ok()?;
    let expand = read(Quotes::Keep)?.first() == Some(&name);
    Some(HeredocWord { name, expand, chomp })
}
