//! Rules that need no variables: names, cases, forms.

use super::report::{Report, part_of, verb, words};
use super::{Certainty, Rule, Warning};
use crate::builder::file::{Dockerfile, Instruction, Statement};
use std::collections::BTreeSet;

/// Names that mean something else where a stage can be named.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(report: &mut Report<'_>, file: &Dockerfile) {
    casing(report, file);
    let mut stages = BTreeSet::new();
    for statement in &file.statements {
        empty_line(report, statement);
        description(report, statement);
        if let Instruction::From(_) = &statement.instruction {
            from(report, statement, &mut stages);
        }
        if let Instruction::Env(pairs) | Instruction::Label(pairs) = &statement.instruction {
            legacy(report, statement, pairs);
        }
        if let Instruction::Maintainer(author) = &statement.instruction {
            let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
            let hint = format!("write LABEL org.opencontainers.image.authors={author:?}");
            report.warn(Rule::MaintainerDeprecated, statement, verb(statement).0, message, hint);
        }
    }
}

/// ConsistentInstructionCasing: all as most of them are; what is of mixed case never is.
fn casing(report: &mut Report<'_>, file: &Dockerfile) {
    let is_lower = |name: &str| name.to_lowercase() == name;
    let is_upper = |name: &str| name.to_uppercase() == name;
    // ARG before the first FROM does not count, as in BuildKit.
    let stages = || file.statements.iter().skip_while(|statement| !matches!(statement.instruction, Instruction::From(_)));
    let lower = stages().filter(|statement| is_lower(verb(statement).1)).count();
    let upper = stages().filter(|statement| is_upper(verb(statement).1)).count();
    for statement in stages() {
        let (part, name) = verb(statement);
        let (fits, case, right) = match lower > upper {
            true => (is_lower(name), "lowercase", name.to_lowercase()),
            false => (is_upper(name), "uppercase", name.to_uppercase()),
        };
        if !fits {
            let message = format!("Command '{name}' should match the case of the command majority ({case})");
            report.warn(Rule::ConsistentInstructionCasing, statement, part, message, format!("write {right}"));
        }
    }
}

/// NoEmptyContinuation.
fn empty_line(report: &mut Report<'_>, statement: &Statement) {
    let Some(line) = statement.empty_line else { return };
    let warning = Warning {
        rule: Rule::NoEmptyContinuation,
        message: "Empty continuation line".to_owned(),
        place: report.file().place_of_line(line),
        length: 0,
        hint: "remove the line, or let it begin with #".to_owned(),
        certainty: Certainty::Sure,
    };
    report.push(statement, warning);
}

/// StageNameCasing, FromAsCasing, ReservedStageName, DuplicateStageName.
fn from(report: &mut Report<'_>, statement: &Statement, stages: &mut BTreeSet<String>) {
    let (_, from) = verb(statement);
    let rest: Vec<_> = words(statement).skip(1).skip_while(|(_, word)| word.starts_with("--")).collect();
    let [_, (as_part, r#as), (part, name)] = rest.as_slice() else { return };
    let lower = name.to_lowercase();
    if *name != lower {
        let message = format!("Stage name '{name}' should be lowercase");
        report.warn(Rule::StageNameCasing, statement, *part, message, format!("write {lower}"));
    }
    // FROM in mixed case is told of by itself.
    let right = match from {
        from if from.to_lowercase() == from => r#as.to_lowercase(),
        from if from.to_uppercase() == from => r#as.to_uppercase(),
        _ => (*r#as).to_owned(),
    };
    if *r#as != right {
        let message = format!("'{as}' and '{from}' keywords' casing do not match");
        report.warn(Rule::FromAsCasing, statement, *as_part, message, format!("write {right}"));
    }
    if RESERVED.contains(&lower.as_str()) {
        let message = format!("Stage name should not use the same name as reserved stage {lower:?}");
        report.warn(Rule::ReservedStageName, statement, *part, message, "give the stage another name");
    }
    if !stages.insert(lower.clone()) {
        let message = format!("Duplicate stage name {lower:?}, stage names should be unique");
        report.warn(Rule::DuplicateStageName, statement, *part, message, "give one of the two another name: only the later one is reached");
    }
}

/// LegacyKeyValueFormat.
fn legacy(report: &mut Report<'_>, statement: &Statement, pairs: &[(String, String)]) {
    let [(name, value)] = pairs else { return };
    if !statement.is_legacy_pair(report.file().escape) {
        return;
    }
    let (_, verb) = verb(statement);
    let message = format!("\"{verb} key=value\" should be used instead of legacy \"{verb} key value\" format");
    let quoted = if value.contains(|c: char| c.is_whitespace()) { format!("\"{value}\"") } else { value.clone() };
    let hint =
        if value.contains(['"', '\'', '\\', '\n']) { format!("write {verb} {name}=…") } else { format!("write {verb} {name}={quoted}") };
    report.warn(Rule::LegacyKeyValueFormat, statement, part_of(statement, name), message, hint);
}

/// InvalidDefinitionDescription: the comment above begins with the name it describes.
fn description(report: &mut Report<'_>, statement: &Statement) {
    let mut names: Vec<&str> = Vec::new();
    if let Instruction::From(from) = &statement.instruction {
        names.extend(from.name.as_deref());
    }
    if let Instruction::Arg(declared) = &statement.instruction {
        names.extend(declared.iter().map(|(name, _)| name.as_str()));
    }
    let Some(comment) = statement.comments.last().filter(|comment| !comment.is_empty()) else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    if names.is_empty() || names.contains(&first) {
        return;
    }
    let name = if names.len() == 1 { names[0] } else { "<arg_key>" };
    let (part, verb) = verb(statement);
    let message = format!("Comment for {} should follow the format: `# {name} <description>`", verb.to_uppercase());
    let hint = "or put an empty line between the two, if the comment is not about it";
    report.warn(Rule::InvalidDefinitionDescription, statement, part, message, hint);
}
