//! Environment files: lines of KEY=value.

use crate::diagnostic::{Problems, Source, Span};
use std::collections::BTreeMap;

/// Reads a file as Compose does, less its expansion of `$`: empty lines and `#` comments are skipped, `export ` before a key is
/// allowed, `'…'` is literal, `"…"` knows `\n`, `\r`, `\t`, `\"`, `\\` and `\$`, and a bare value ends at ` #`. A later line wins.
pub(super) fn parse(path: &str, text: &str, problems: &mut Problems) -> BTreeMap<String, String> {
    let source = Source::of_secrets(path, text);
    let mut pairs = BTreeMap::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let span = Span { start: start + (line.len() - line.trim_start().len()), end: start + line.trim_end().len() };
        start += line.len();
        match pair(line.trim()) {
            Ok(None) => {}
            Ok(Some((key, value))) => {
                pairs.insert(key, value);
            }
            Err(problem) => problems.push(source.error(span, problem).help("write KEY=value".to_owned())),
        }
    }
    pairs
}

fn pair(line: &str) -> Result<Option<(String, String)>, String> {
    // A byte order mark is no part of the first key.
    let line = line.trim_start_matches('\u{feff}');
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, value) = line.split_once('=').ok_or("this line has no '='")?;
    let key = key.trim();
    if let Some(problem) = super::pairs::key_problem(key) {
        return Err(problem);
    }
    Ok(Some((key.to_owned(), unquote(value.trim())?)))
}

fn unquote(value: &str) -> Result<String, String> {
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let Some(quote) = quote else {
        let end = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
        return if value.contains('\0') { Err("a value has a NUL byte".to_owned()) } else { Ok(value[..end].trim_end().to_owned()) };
    };
    let mut text = String::new();
    let mut characters = value[1..].chars();
    while let Some(c) = characters.next() {
        match c {
            '\0' => return Err("a value has a NUL byte".to_owned()),
            c if c == quote => {
                let rest = characters.as_str().trim_start();
                let done = rest.is_empty() || rest.starts_with('#');
                return if done { Ok(text) } else { Err(format!("text follows the closing {quote}")) };
            }
            '\\' if quote == '"' => match characters.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some(c @ ('"' | '\\' | '$')) => text.push(c),
                Some(c) => text.extend(['\\', c]),
                None => break,
            },
            c => text.push(c),
        }
    }
    Err(format!("the closing {quote} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (BTreeMap<String, String>, Vec<String>) {
        let mut problems = Problems::default();
        let pairs = parse("a.env", text, &mut problems);
        (pairs, problems.into_sorted().iter().map(|problem| format!("{} {}", problem.place.location, problem.message)).collect())
    }

    #[test]
    fn lines_are_pairs() {
        let text = "\u{feff}# comment\r\nA=1\r\n\nexport B = two words # note\nC='$x # y'\nD=\"a\\nb\\\"\" # z\nE=\nA=2\nF=a#b";
        let (pairs, problems) = read(text);
        assert_eq!(problems, Vec::<String>::new());
        let expected = [("A", "2"), ("B", "two words"), ("C", "$x # y"), ("D", "a\nb\""), ("E", ""), ("F", "a#b")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn every_bad_line_is_reported_at_its_place() {
        let (_, problems) = read("A=1\nnonsense\n=x\nB='open\nC=\"a\"b\n");
        let expected = [
            "a.env:2 this line has no '='",
            "a.env:3 a variable's name is empty",
            "a.env:4 the closing ' is missing",
            "a.env:5 text follows the closing \"",
        ];
        assert_eq!(problems, expected);
    }
}
