//! `.dockerignore`: which paths of the context a build sees. The rules are moby's `patternmatcher`. Pure.
//!
//! Patterns are cleaned paths from the context's root; `**` spans directories; the last one that matches decides; a match of a
//! directory covers what is below it; `!` takes a path back.

use regex::Regex;

/// Largest file read: real ones have a few dozen lines.
pub const IGNORE_BYTES_MAX: u64 = 1 << 20;
/// Most patterns: each costs a match per path of the context.
const PATTERNS_MAX: usize = 10_000;

/// The patterns of a file, ready to match.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// Cleaned pattern.
    text: String,
    /// `!`: what matches is seen after all.
    readmits: bool,
    matcher: Matcher,
}

/// The cheapest way to match a pattern.
#[derive(Debug, Clone)]
enum Matcher {
    Exact,
    Pattern(Regex),
}

/// A pattern that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {pattern:?} is not a pattern")]
pub struct IgnoreError {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What stands there.
    pub pattern: String,
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Part of the context.
    Seen,
    /// Left out, but a `!` pattern leads into it: a directory is there for what may be below it.
    Hidden,
    /// Left out with all that is below it.
    HiddenWhole,
}

impl IgnoreRules {
    /// Reads a file's text; `file` is its name in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let bad = || IgnoreError { file: file.to_owned(), line: index + 1, pattern: line.to_owned() };
            // A comment's # stands in the first column; anywhere else it is a character.
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            let (readmits, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
            if pattern.is_empty() || rules.len() >= PATTERNS_MAX {
                return Err(bad());
            }
            let text = clean(pattern);
            if text.is_empty() {
                // "." and "/" name the root itself, which is always there.
                continue;
            }
            let matcher = matcher(&text).ok_or_else(bad)?;
            rules.push(Rule { text, readmits, matcher });
        }
        Ok(Self { rules })
    }

    /// Rules of a list of patterns: `--exclude`.
    pub fn of_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        Self::parse("--exclude", &patterns.into_iter().collect::<Vec<_>>().join("\n"))
    }

    /// True if nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// True if some pattern takes a path back: `!path`.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.readmits)
    }

    /// What becomes of a path relative to the root, without `.` or `..` parts.
    pub fn verdict(&self, path: &str) -> Verdict {
        let mut hidden = false;
        for rule in &self.rules {
            // Only a rule that says the opposite of what stands can change it.
            if rule.readmits == hidden && rule.matches_path_or_parent(path) {
                hidden = !hidden;
            }
        }
        if !hidden {
            return Verdict::Seen;
        }
        let below = format!("{path}/");
        let looked_into = |rule: &Rule| rule.readmits && rule.leads_into(&below);
        if self.rules.iter().any(looked_into) { Verdict::Hidden } else { Verdict::HiddenWhole }
    }
}

impl Rule {
    fn matches_path_or_parent(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.matches(&path[..end]))
    }

    fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => self.text == path,
            Matcher::Pattern(regex) => regex.is_match(path),
        }
    }

    /// Whether a directory (given with its slash) is looked into for this rule although it is hidden: as in BuildKit, only if the
    /// pattern's own text begins with it. `!**/x` brings nothing back from a hidden directory.
    fn leads_into(&self, directory: &str) -> bool {
        format!("{}/", self.text).starts_with(directory)
    }
}

/// `filepath.Clean` without the leading slash: no `.`, no `..` that can be resolved, no double or trailing slash.
pub(crate) fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Translates a cleaned pattern. `None` if it is malformed.
fn matcher(pattern: &str) -> Option<Matcher> {
    if !pattern.contains(['*', '?', '[', '\\']) {
        return Some(Matcher::Exact);
    }
    let mut regex = String::from("(?s)^");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                // "**/" also matches nothing; "**" at the end matches everything.
                let slash = chars.next_if_eq(&'/').is_some();
                regex.push_str(match (chars.peek().is_none(), slash) {
                    (true, _) => ".*",
                    (false, _) => "(.*/)?",
                });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => class(&mut chars, &mut regex)?,
            '\\' => literal(chars.next()?, &mut regex),
            c => literal(c, &mut regex),
        }
    }
    regex.push('$');
    Regex::new(&regex).ok().map(Matcher::Pattern)
}

/// A class of Go's `filepath.Match`: `^` negates, `!` does not, and a `-` or `]` is escaped.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, regex: &mut String) -> Option<()> {
    regex.push('[');
    if chars.next_if_eq(&'^').is_some() {
        regex.push('^');
    }
    let mut empty = true;
    loop {
        match chars.next()? {
            ']' if !empty => break,
            '-' if !empty => regex.push('-'),
            ']' | '-' => return None,
            '\\' => literal(chars.next()?, regex),
            c => literal(c, regex),
        }
        empty = false;
    }
    regex.push(']');
    Some(())
}

fn literal(c: char, regex: &mut String) {
    regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(rules: &str, path: &str) -> bool {
        IgnoreRules::parse(".dockerignore", rules).expect("rules").verdict(path) == Verdict::Seen
    }

    #[test]
    fn table() {
        let cases = [
            // anchored at the root
            ("foo", "foo", false),
            ("foo", "sub/foo", true),
            ("*.md", "a.md", false),
            ("*.md", "sub/a.md", true),
            ("*/*.md", "sub/a.md", false),
            ("**/*.md", "a.md", false),
            ("**/*.md", "a/b/c.md", false),
            ("**/foo", "foo", false),
            ("**/foo/bar", "x/foo/bar", false),
            ("foo/**", "foo/a/b", false),
            ("foo/**", "foo", true),
            ("**", "anything/at/all", false),
            ("a**b", "axx/yyb", true),
            ("a**/b", "axx/yy/b", false),
            // cleaned
            ("/foo", "foo", false),
            ("foo/", "foo", false),
            ("./foo", "foo", false),
            ("a/../foo", "foo", false),
            ("foo//bar", "foo/bar", false),
            (".", "foo", true),
            ("/", "foo", true),
            // parents count
            ("foo", "foo/bar/baz", false),
            ("foo*", "foobar/baz", false),
            // the last match wins
            ("*.md\n!README.md", "README.md", true),
            ("*.md\n!README.md", "OTHER.md", false),
            ("!README.md\n*.md", "README.md", false),
            ("foo\n!foo/bar", "foo/bar", true),
            ("foo\n!foo/bar", "foo/other", false),
            ("foo\n!foo/bar\nfoo/bar/x", "foo/bar/x", false),
            ("*\n!a/b", "a/b", true),
            ("*\n!a/b", "a/c", false),
            ("*\n!a", "a/b/c", true),
            ("**\n!**/*.go", "x/y.go", true),
            ("! foo", "foo", true),
            // what looks like a glob elsewhere
            ("[!a]b", "cb", true),
            ("[!a]b", "!b", false),
            ("[^a]b", "cb", false),
            ("[a-c]", "b", false),
            ("{a,b}", "a", true),
            ("{a,b}", "{a,b}", false),
            ("a?c", "abc", false),
            ("a?c", "a/c", true),
            ("a\\*c", "a*c", false),
            ("a\\*c", "abc", true),
            ("a.c", "abc", true),
            ("a$(b|c)+", "a$(b|c)+", false),
            // lines
            ("# foo\nfoo", "foo", false),
            (" # foo", "# foo", false),
            ("#foo", "#foo", true),
            ("  foo  ", "foo", false),
            ("\u{feff}foo\r\n\r\n", "foo", false),
            ("foo\r\nbar\r\n", "bar", false),
            ("", "foo", true),
        ];
        for (rules, path, expected) in cases {
            assert_eq!(seen(rules, path), expected, "{rules:?} {path}");
        }
    }

    #[test]
    fn a_hidden_directory_is_looked_into_only_if_a_pattern_names_it() {
        let verdict = |rules: &str, path: &str| IgnoreRules::parse("x", rules).expect("rules").verdict(path);
        assert_eq!(verdict("node_modules", "node_modules"), Verdict::HiddenWhole);
        assert_eq!(verdict("*\n!src", "node_modules"), Verdict::HiddenWhole);
        assert_eq!(verdict("*\n!src/main", "src"), Verdict::Hidden);
        assert_eq!(verdict("*\n!src/main/x", "src/main"), Verdict::Hidden);
        assert_eq!(verdict("*\n!src/main", "src/other"), Verdict::HiddenWhole);
        assert_eq!(verdict("*\n!**/keep", "src"), Verdict::HiddenWhole);
        assert_eq!(verdict("*\n!s*/keep", "src"), Verdict::HiddenWhole);
    }

    #[test]
    fn malformed_patterns_name_their_line() {
        for pattern in ["[", "a[b", "a\\", "!", "[]a]"] {
            let error = IgnoreRules::parse(".dockerignore", &format!("ok\n{pattern}\n")).expect_err(pattern);
            assert_eq!(error.line, 2);
        }
    }
}
