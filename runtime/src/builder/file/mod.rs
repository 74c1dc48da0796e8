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
    /// `# check=`: which checks the author wants.
    pub check: Option<String>,
    /// Its instructions in order.
    pub statements: Vec<Statement>,
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
}

/// Reads a Dockerfile; `name` is what errors call it. All problems are found in one pass.
pub fn parse(name: &str, text: &str) -> Result<Dockerfile, Vec<SyntaxError>> {
    let lines = lines::split(name, text).map_err(|error| vec![error])?;
    let physical: Vec<&str> = text.split_inclusive('\n').collect();
    let mut statements = Vec::new();
    let mut errors = Vec::new();
    let mut stage_begun = false;
    for line in &lines.lines {
        let place = line.place(name, &physical, 0);
        match convert::instruction(line, lines.escape) {
            Err(problem) => {
                let place = line.place(name, &physical, problem.offset);
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
                statements.push(Statement { place, last_line: line.last_line, text: line.text.trim().to_owned(), instruction });
            }
        }
    }
    if !stage_begun && errors.is_empty() {
        let place = Place { file: name.to_owned(), line: 1, column: 1, text: text.lines().next().unwrap_or_default().to_owned() };
        errors.push(SyntaxError { place, problem: "there is no FROM".to_owned(), hint: None });
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Dockerfile { name: name.to_owned(), escape: lines.escape, syntax: lines.syntax, check: lines.check, statements })
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
