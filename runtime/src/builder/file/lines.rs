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
    /// `# check=`: which checks are on.
    pub check: Option<String>,
    /// Instructions as written.
    pub lines: Vec<LogicalLine>,
}

/// One instruction with its continuation lines joined and its heredocs beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogicalLine {
    /// The joined text.
    pub text: String,
    /// Number of its first physical line, from 1.
    pub first_line: usize,
    /// Number of its last physical line, heredoc bodies included.
    pub last_line: usize,
    /// Heredocs opened on it, in order.
    pub heredocs: Vec<Heredoc>,
    /// Where each piece of the text comes from: offset in the text, physical line, column in bytes there.
    pieces: Vec<(usize, usize, usize)>,
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

impl LogicalLine {
    /// The place of a byte offset in [`Self::text`].
    pub(super) fn place(&self, file: &str, physical: &[&str], offset: usize) -> Place {
        let piece = self.pieces.iter().rev().find(|(start, ..)| *start <= offset).copied();
        let (start, line, column) = piece.unwrap_or((0, self.first_line, 0));
        let text = physical.get(line - 1).copied().unwrap_or_default().trim_end_matches(['\r', '\n']);
        let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        let end = (column + offset.saturating_sub(start)).min(text.len());
        let before = text.get(..end).unwrap_or(text);
        Place { file: file.to_owned(), line, column: before.chars().count() + 1, text: text.to_owned() }
    }
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
    let mut cutter = Cutter { physical: &physical, next: 0, lines: Lines { escape: '\\', syntax: None, check: None, lines: Vec::new() } };
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

    /// `# key=value` lines at the very top; the first line that is none ends them.
    fn directives(&mut self) -> Result<(), Problem> {
        let mut escape_given = false;
        while let Some(line) = self.take() {
            let directive = line.trim_start().strip_prefix('#').and_then(|rest| rest.split_once('='));
            let Some((key, value)) = directive.map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().to_owned())) else {
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
                "check" => self.lines.check = Some(value),
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
        if start.is_empty() || start.starts_with('#') {
            return Ok(());
        }
        let mut pieces = vec![(0, first_line, line.len() - start.len())];
        let (begun, mut continued) = continuation(start, self.lines.escape);
        let mut text = begun.to_owned();
        while continued {
            let Some(line) = self.take() else { break };
            // Comments and empty lines inside a continuation are dropped.
            if line.trim_start().starts_with('#') || line.trim().is_empty() {
                continue;
            }
            pieces.push((text.len(), self.next, 0));
            let (more, goes_on) = continuation(line, self.lines.escape);
            text.push_str(more);
            continued = goes_on;
        }
        if text.trim().is_empty() {
            return Ok(());
        }
        let heredocs = self.heredocs(&text)?;
        self.lines.lines.push(LogicalLine { text, first_line, last_line: self.next, heredocs, pieces });
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

/// The `<<NAME` words of a line.
fn heredoc_words(text: &str) -> Vec<HeredocWord> {
    // The escape character of heredoc words is \ whatever the directive says.
    let lexer = Lexer { quotes: Quotes::Keep, unset: Unset::Keep, ..Lexer::new('\\') };
    // A line the lexer does not read, with an apostrophe say, has none that could be told from the rest.
    lexer.words(text, &|_| None).unwrap_or_default().iter().filter_map(|word| heredoc_word(word)).collect()
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
