//! Substitution in words: `$VAR`, `${VAR:-default}` and the other forms, quotes and escapes, as BuildKit's `shell` lexer has them.
//!
//! Pure. The caller decides where it applies; the rules are in the Dockerfile reference, "Environment replacement".

use std::iter::Peekable;
use std::str::Chars;

/// Longest text an expansion may grow to: `ENV a=$a$a` doubles with every line.
const EXPANSION_BYTES_MAX: usize = 1 << 20;
/// Longest value a pattern is tried on: `*` costs its square, and no variable of a real build is longer.
const PATTERN_CHARS_MAX: usize = 16 << 10;
/// Deepest nesting of `${a:-${b:-…}}`: each level is a level of our own stack.
const NESTING_MAX: usize = 64;

/// What a variable is, if it is set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// How quotes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotes {
    /// They group and vanish.
    Remove,
    /// They group and stay.
    Keep,
    /// They are characters like any other: bodies of heredocs.
    Literal,
}

/// How variables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// An unset one is empty.
    Empty,
    /// An unset one stays as written, modifier and all: finding heredocs before any variable is known.
    Keep,
}

/// A reader of words.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// The escape character: `\`, or a backtick by the directive.
    pub escape: char,
    /// How quotes are read.
    pub quotes: Quotes,
    /// How variables are read.
    pub unset: Unset,
}

/// Why a text could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A quote without its partner.
    #[error("a {0} quote is not closed")]
    Quote(&'static str),
    /// `${` without `}`, or the `/` of a replacement missing.
    #[error("a substitution beginning with ${{ is not closed: {0:?} is missing")]
    Unclosed(char),
    /// `${}`, `${:x}`, `${{`.
    #[error("bad substitution: ${{ is not followed by a name")]
    NoName,
    /// `${a:=b}` and the like.
    #[error("unsupported modifier {0:?} in a substitution")]
    Modifier(String),
    /// A `\` before a character of a pattern that means nothing special.
    #[error("bad pattern in a substitution: \\ may stand before * ? / }} and \\ only")]
    Pattern,
    /// `${a:?message}` of an unset variable.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the file's author says about it.
        message: String,
    },
    /// More than the limits allow.
    #[error("the expansion is too long or too deeply nested (at most 1 MiB, {NESTING_MAX} levels)")]
    TooLarge,
}

impl Lexer {
    /// The reader for most places: quotes group and vanish, unset variables are empty.
    pub fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Remove, unset: Unset::Empty }
    }

    /// Expands a text to one word.
    pub fn word(&self, text: &str, lookup: &Lookup<'_>) -> Result<String, WordError> {
        Ok(self.read(text, lookup)?.0)
    }

    /// Expands a text and splits it at unquoted blanks, those from variables included.
    pub fn words(&self, text: &str, lookup: &Lookup<'_>) -> Result<Vec<String>, WordError> {
        Ok(self.read(text, lookup)?.1)
    }

    fn read(&self, text: &str, lookup: &Lookup<'_>) -> Result<(String, Vec<String>), WordError> {
        let mut reader = Reader { lexer: *self, lookup, rest: text.chars().peekable(), depth: 0 };
        let (word, words) = reader.until(None, Escapes::of(self.quotes))?;
        Ok((word, words.finish()))
    }
}

/// Whether escape characters are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Remove,
    Keep,
}

impl Escapes {
    fn of(quotes: Quotes) -> Self {
        match quotes {
            Quotes::Keep => Self::Keep,
            Quotes::Remove | Quotes::Literal => Self::Remove,
        }
    }
}

/// Words as they grow. An empty one vanishes, quoted or not.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    /// A character that splits if it is blank.
    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.end();
        } else {
            self.push_raw(c);
        }
    }

    /// A character that belongs to the word whatever it is.
    fn push_raw(&mut self, c: char) {
        self.current.push(c);
    }

    fn end(&mut self) {
        if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        self.done
    }
}

struct Reader<'a> {
    lexer: Lexer,
    lookup: &'a Lookup<'a>,
    rest: Peekable<Chars<'a>>,
    depth: usize,
}

impl Reader<'_> {
    /// Reads to the end, or to (and over) `stop`.
    fn until(&mut self, stop: Option<char>, escapes: Escapes) -> Result<(String, Words), WordError> {
        let mut result = String::new();
        let mut words = Words::default();
        while let Some(&c) = self.rest.peek() {
            if result.len() > EXPANSION_BYTES_MAX {
                return Err(WordError::TooLarge);
            }
            if Some(c) == stop {
                self.rest.next();
                return Ok((result, words));
            }
            let quotes = self.lexer.quotes != Quotes::Literal;
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    result.push_str(&value);
                }
                '\'' | '"' if quotes => {
                    let text = if c == '"' { self.double_quoted(escapes)? } else { self.single_quoted()? };
                    text.chars().for_each(|c| words.push_raw(c));
                    result.push_str(&text);
                }
                _ => {
                    self.rest.next();
                    self.plain(c, escapes, &mut result, &mut words);
                }
            }
        }
        match stop {
            None => Ok((result, words)),
            Some(stop) => Err(WordError::Unclosed(stop)),
        }
    }

    /// An unquoted character, already taken; the escape character takes the next one along.
    fn plain(&mut self, c: char, escapes: Escapes, result: &mut String, words: &mut Words) {
        if c != self.lexer.escape {
            words.push(c);
            result.push(c);
            return;
        }
        if escapes == Escapes::Keep {
            words.push_raw(c);
            result.push(c);
        }
        // An escape character at the very end vanishes.
        if let Some(escaped) = self.rest.next() {
            words.push_raw(escaped);
            result.push(escaped);
        }
    }

    /// `'…'`: everything as it stands.
    fn single_quoted(&mut self) -> Result<String, WordError> {
        let mut text = String::new();
        text.extend(self.rest.next().filter(|_| self.lexer.quotes == Quotes::Keep));
        loop {
            match self.rest.next() {
                None => return Err(WordError::Quote("single")),
                Some('\'') => {
                    text.extend((self.lexer.quotes == Quotes::Keep).then_some('\''));
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
        }
    }

    /// `"…"`: variables expand; the escape character works before `"`, `$` and itself only.
    fn double_quoted(&mut self, escapes: Escapes) -> Result<String, WordError> {
        let keep = self.lexer.quotes == Quotes::Keep;
        let mut text = String::new();
        text.extend(self.rest.next().filter(|_| keep));
        loop {
            if text.len() > EXPANSION_BYTES_MAX {
                return Err(WordError::TooLarge);
            }
            match self.rest.peek().copied() {
                None => return Err(WordError::Quote("double")),
                Some('"') => {
                    self.rest.next();
                    text.extend(keep.then_some('"'));
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.lexer.escape => {
                    self.rest.next();
                    match self.rest.peek().copied() {
                        // Kept to the end of the word, where the missing quote is found.
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == self.lexer.escape => {
                            text.extend((escapes == Escapes::Keep).then_some(c));
                            text.push(next);
                            self.rest.next();
                        }
                        Some(_) => text.push(c),
                    }
                }
                Some(c) => {
                    text.push(c);
                    self.rest.next();
                }
            }
        }
    }

    /// `$…`, the dollar not yet taken.
    fn dollar(&mut self) -> Result<String, WordError> {
        self.rest.next();
        if self.rest.peek() == Some(&'{') {
            self.rest.next();
            self.depth += 1;
            if self.depth > NESTING_MAX {
                return Err(WordError::TooLarge);
            }
            let value = self.braced()?;
            self.depth -= 1;
            return Ok(value);
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match ((self.lookup)(&name), self.lexer.unset) {
            (Some(value), _) => value,
            (None, Unset::Empty) => String::new(),
            (None, Unset::Keep) => format!("${name}"),
        })
    }

    /// A variable's name: letters, digits and `_`; a run of digits; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(&c) = self.rest.peek() {
            let digits_only = name.chars().next().is_some_and(|first| first.is_numeric());
            let fits = match name.is_empty() {
                true if matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                    self.rest.next();
                    return c.to_string();
                }
                false if digits_only => c.is_numeric(),
                true | false => c.is_alphanumeric() || c == '_',
            };
            if !fits {
                break;
            }
            name.push(c);
            self.rest.next();
        }
        name
    }

    /// The inside of `${…}` to its end.
    fn braced(&mut self) -> Result<String, WordError> {
        match self.rest.peek() {
            None => return Err(WordError::Unclosed('}')),
            Some('{' | '}' | ':') => return Err(WordError::NoName),
            Some(_) => {}
        }
        let name = self.name();
        let value = (self.lookup)(&name);
        match self.rest.next() {
            None => Err(WordError::Unclosed('}')),
            Some('}') => Ok(match (value, self.lexer.unset) {
                (Some(value), _) => value,
                (None, Unset::Empty) => String::new(),
                (None, Unset::Keep) => format!("${{{name}}}"),
            }),
            Some(':') => {
                let modifier = self.rest.next().ok_or(WordError::Unclosed('}'))?;
                if !matches!(modifier, '+' | '-' | '?') {
                    return Err(WordError::Modifier(format!(":{modifier}")));
                }
                self.modified(&name, value, modifier, Null::IsUnset)
            }
            Some(modifier @ ('+' | '-' | '?')) => self.modified(&name, value, modifier, Null::IsSet),
            Some(end @ ('#' | '%')) => self.trimmed(&name, value, end),
            Some('/') => self.replaced(&name, value),
            Some(other) => Err(WordError::Modifier(other.to_string())),
        }
    }

    /// `-`, `+` and `?` after the name.
    fn modified(&mut self, name: &str, value: Option<String>, modifier: char, null: Null) -> Result<String, WordError> {
        let (word, _) = self.until(Some('}'), Escapes::Remove)?;
        if value.is_none() && self.lexer.unset == Unset::Keep {
            let colon = if null == Null::IsUnset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let was_set = value.is_some();
        match (modifier, value.filter(|value| null == Null::IsSet || !value.is_empty())) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let why = if was_set { "is not allowed to be empty" } else { "is not allowed to be unset" };
                let message = if word.is_empty() { why.to_owned() } else { word };
                Err(WordError::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
    fn trimmed(&mut self, name: &str, value: Option<String>, end: char) -> Result<String, WordError> {
        let (word, _) = self.until(Some('}'), Escapes::Keep)?;
        let Some(value) = value.or_else(|| self.empty()) else { return Ok(format!("${{{name}{end}{word}}}")) };
        let (pattern, longest) = word.strip_prefix(end).map_or((word.as_str(), false), |pattern| (pattern, true));
        let mut pattern = pieces(pattern)?;
        let mut text = characters(&value)?;
        let suffix = end == '%';
        if suffix {
            pattern.reverse();
            text.reverse();
        }
        let ends = match_ends(&pattern, &text);
        let cut = if longest { ends.last() } else { ends.first() }.copied().unwrap_or(0);
        let mut kept = text.split_off(cut);
        if suffix {
            kept.reverse();
        }
        Ok(kept.into_iter().collect())
    }

    /// `${v/p/r}` and `${v//p/r}`: the longest match at the first place that has one, or at every place.
    fn replaced(&mut self, name: &str, value: Option<String>) -> Result<String, WordError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let (pattern, _) = self.until(Some('/'), Escapes::Keep)?;
        let (replacement, _) = self.until(Some('}'), Escapes::Keep)?;
        let Some(value) = value.or_else(|| self.empty()) else { return Ok(format!("${{{name}/{pattern}/{replacement}}}")) };
        let pattern = pieces(&pattern)?;
        let text = characters(&value)?;
        let mut result = String::new();
        let mut at = 0;
        // An empty match counts too, but not right behind another match: as Go's regexp, which BuildKit replaces with.
        let mut behind_match = false;
        while at <= text.len() {
            let found = match_ends(&pattern, &text[at..]).last().copied().filter(|length| *length > 0 || !behind_match);
            if let Some(length) = found {
                result.push_str(&replacement);
                if result.len() > EXPANSION_BYTES_MAX {
                    return Err(WordError::TooLarge);
                }
                at += length;
                if !all {
                    break;
                }
            }
            behind_match = found.is_some_and(|length| length > 0);
            if !behind_match {
                result.extend(text.get(at));
                at += 1;
            }
        }
        result.extend(text.get(at..).unwrap_or_default());
        Ok(result)
    }

    /// What an unset variable comes to where it is not kept as written.
    fn empty(&self) -> Option<String> {
        (self.lexer.unset == Unset::Empty).then(String::new)
    }
}

/// A value that a pattern is tried on.
fn characters(value: &str) -> Result<Vec<char>, WordError> {
    if value.len() > PATTERN_CHARS_MAX { Err(WordError::TooLarge) } else { Ok(value.chars().collect()) }
}

/// Whether a variable that is set to nothing counts as unset: the `:` before a modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Null {
    IsSet,
    IsUnset,
}

/// A part of a shell pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// `*`
    Any,
    /// `?`
    One,
    /// A character.
    Char(char),
}

/// Reads a pattern: `*`, `?`, and `\` before what would else mean something. Brackets mean nothing here.
fn pieces(pattern: &str) -> Result<Vec<Piece>, WordError> {
    let mut chars = pattern.chars();
    let mut pieces = Vec::new();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => match chars.next() {
                Some(c @ ('*' | '?' | '\\' | '/' | '}')) => Piece::Char(c),
                Some(_) | None => return Err(WordError::Pattern),
            },
            c => Piece::Char(c),
        });
    }
    Ok(pieces)
}

/// Every length at which the pattern matches a beginning of the text, shortest first. Wildcards stop at the end of a line, as in
/// Go's regexp.
fn match_ends(pattern: &[Piece], text: &[char]) -> Vec<usize> {
    let is_within_line = |end: &usize| text.get(*end).is_some_and(|c| *c != '\n');
    let mut ends = vec![0];
    for piece in pattern {
        ends = match piece {
            Piece::Any => {
                let mut reached = Vec::new();
                for start in ends {
                    // What an earlier start has reached already it has reached to the end of the line.
                    let mut end = start;
                    while reached.last().is_none_or(|last| *last < end) {
                        reached.push(end);
                        end += usize::from(is_within_line(&end));
                    }
                }
                reached
            }
            Piece::One => ends.into_iter().filter(is_within_line).map(|end| end + 1).collect(),
            Piece::Char(c) => ends.into_iter().filter(|end| text.get(*end) == Some(c)).map(|end| end + 1).collect(),
        };
    }
    ends
}

#[cfg(test)]
mod tests;
