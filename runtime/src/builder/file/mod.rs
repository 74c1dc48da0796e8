//! The Dockerfile as a value: instructions with their places. Pure: no I/O, no substitution.

mod arguments;
mod convert;
mod instruction;
mod lines;
mod place;
#[cfg(test)]
mod tests;

pub use instruction::{CommandLine, From, HealthCheck, Instruction, Run, RunNetwork, Source, Transfer};
pub use lines::{Heredoc, HeredocWord, heredoc_word};
pub(crate) use place::nearest;
pub use place::{Place, SyntaxError};

/// Largest Dockerfile read: generated ones with inline files stay far below.
pub const DOCKERFILE_BYTES_MAX: u64 = 4 << 20;

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Its name in errors.
    pub name: String,
    /// The escape character, `\` or a backtick.
    pub escape: char,
    /// `# syntax=`: accepted; there is one frontend, this one.
    pub syntax: Option<String>,
    /// `# check=`: which checks the author wants, and its line.
    pub check: Option<(usize, String)>,
    /// Its instructions in order.
    pub statements: Vec<Statement>,
    /// All of it, as read.
    pub text: String,
}

/// An instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its first character.
    pub place: Place,
    /// Its last line, from 1.
    pub last_line: usize,
    /// It as written, continuations joined.
    pub text: String,
    /// What it says.
    pub instruction: Instruction,
    /// The comment lines directly above it, without their `#`.
    pub comments: Vec<String>,
    /// Number of the first empty line within it: dropped, but no good style.
    pub empty_line: Option<usize>,
    /// Where its text stands.
    pieces: Vec<lines::Piece>,
}

impl Statement {
    /// Whether it is `ENV name value` or `LABEL name value`: the old form without `=`.
    pub(crate) fn is_legacy_pair(&self, escape: char) -> bool {
        let (_, rest) = self.text.split_once(char::is_whitespace).unwrap_or_default();
        let is_pairs = matches!(self.instruction, Instruction::Env(_) | Instruction::Label(_));
        is_pairs && arguments::quoted(arguments::after_flags(rest), escape).first().is_some_and(|(_, word)| !word.contains('='))
    }
}

impl Dockerfile {
    /// The place of a byte offset in a statement's text.
    pub fn place(&self, statement: &Statement, offset: usize) -> Place {
        let physical: Vec<&str> = self.text.split_inclusive('\n').collect();
        lines::place(&self.name, &physical, &statement.pieces, offset)
    }

    /// The place of a line's first character that is not blank; lines count from 1.
    pub fn place_of_line(&self, line: usize) -> Place {
        let text = self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim_start_matches('\u{feff}');
        let blanks = text.chars().take_while(|c| c.is_whitespace()).count();
        Place { file: self.name.clone(), line, column: blanks + 1, text: text.to_owned() }
    }
}

/// Reads a Dockerfile; `name` is what errors call it. All problems are found in one pass.
pub fn parse(name: &str, text: &str) -> Result<Dockerfile, Vec<SyntaxError>> {
    let (file, errors) = read(name, text);
    if errors.is_empty() { Ok(file) } else { Err(errors) }
}

/// Reads a Dockerfile as far as it can be read: the instructions that are right, and all that is wrong.
pub fn read(name: &str, text: &str) -> (Dockerfile, Vec<SyntaxError>) {
    let mut file =
        Dockerfile { name: name.to_owned(), escape: '\\', syntax: None, check: None, statements: Vec::new(), text: text.to_owned() };
    let lines = match lines::split(name, text) {
        Ok(lines) => lines,
        Err(error) => return (file, vec![error]),
    };
    (file.escape, file.syntax, file.check) = (lines.escape, lines.syntax, lines.check);
    let physical: Vec<&str> = text.split_inclusive('\n').collect();
    let mut errors = Vec::new();
    let mut stage_begun = false;
    for line in lines.lines {
        let place = lines::place(name, &physical, &line.pieces, 0);
        match convert::instruction(&line, file.escape) {
            Err(problem) => {
                let place = lines::place(name, &physical, &line.pieces, problem.offset);
                errors.push(SyntaxError { place, problem: problem.problem, hint: problem.hint });
                // A mistyped FROM should not make everything after it wrong too.
                stage_begun = true;
            }
            Ok(instruction) => {
                stage_begun |= matches!(instruction, Instruction::From(_));
                if !stage_begun && !matches!(instruction, Instruction::Arg(_)) {
                    let problem = "the first instruction is FROM; only ARG may stand before it".to_owned();
                    errors.push(SyntaxError { place: place.clone(), problem, hint: None });
                    stage_begun = true;
                }
                let lines::LogicalLine { text, last_line, comments, empty_line, pieces, .. } = line;
                let text = text.trim().to_owned();
                file.statements.push(Statement { place, last_line, text, instruction, comments, empty_line, pieces });
            }
        }
    }
    if !stage_begun && errors.is_empty() {
        let place = Place { file: name.to_owned(), line: 1, column: 1, text: text.lines().next().unwrap_or_default().to_owned() };
        errors.push(SyntaxError { place, problem: "there is no FROM".to_owned(), hint: None });
    }
    (file, errors)
}

/// Reads one instruction: a trigger of a base image's ONBUILD.
pub fn parse_trigger(text: &str) -> Result<Statement, Vec<SyntaxError>> {
    let file = parse("ONBUILD", &format!("FROM scratch\n{text}\n"))?;
    let mut statements = file.statements.into_iter().skip(1);
    match (statements.next(), statements.next()) {
        (Some(statement), None) => Ok(statement),
        (first, _) => {
            let place = first.map_or(Place { file: "ONBUILD".to_owned(), line: 1, column: 1, text: text.to_owned() }, |s| s.place);
            Err(vec![SyntaxError { place, problem: "a trigger is one instruction".to_owned(), hint: None }])
        }
    }
}
