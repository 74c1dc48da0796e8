//! Substitution in words: `$VAR`, `${VAR:-default}` and the other forms, quotes and escapes, as BuildKit's `shell` lexer has them.
//!
//! Pure. The caller decides where it applies; the rules are in the Dockerfile reference, "Environment replacement".

use std::iter::Peekable;
use std::str::Chars;

/// Longest text an expansion may grow to: `ENV a=$a$a` doubles with every line.
const EXPANSION_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of `${a:-${b:-…}}`: each level is a level of our own stack.
const NESTING_MAX: usize = 64;

/// What a variable is, if it is set.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// How quotes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotes {
    /// They group and vanish.
    Remove,
    /// They group and stay.
    Keep,
    /// They are characters like any other: paths of COPY and ADD.
    Literal,
}

/// How variables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// An unset one is empty.
    Empty,
    /// An unset one stays as written: finding heredocs before any variable is known.
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
                self.modified(&name, value.filter(|value| !value.is_empty()), modifier)
            }
            Some(modifier @ ('+' | '-' | '?')) => self.modified(&name, value, modifier),
            Some(end @ ('#' | '%')) => self.trimmed(&value.unwrap_or_default(), end),
            Some('/') => self.replaced(&value.unwrap_or_default()),
            Some(other) => Err(WordError::Modifier(other.to_string())),
        }
    }

    /// `-`, `+` and `?` after the name, where `value` is `None` if it counts as unset.
    fn modified(&mut self, name: &str, value: Option<String>, modifier: char) -> Result<String, WordError> {
        let (word, _) = self.until(Some('}'), Escapes::Remove)?;
        match (modifier, value) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let message = if word.is_empty() { "is not allowed to be unset".to_owned() } else { word };
                Err(WordError::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
    fn trimmed(&mut self, value: &str, end: char) -> Result<String, WordError> {
        let (word, _) = self.until(Some('}'), Escapes::Keep)?;
        let (pattern, longest) = word.strip_prefix(end).map_or((word.as_str(), false), |pattern| (pattern, true));
        let mut pattern = pieces(pattern);
        let mut text: Vec<char> = value.chars().collect();
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

    /// `${v/p/r}` and `${v//p/r}`.
    fn replaced(&mut self, value: &str) -> Result<String, WordError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let (pattern, _) = self.until(Some('/'), Escapes::Keep)?;
        let (replacement, _) = self.until(Some('}'), Escapes::Keep)?;
        let pattern = pieces(&pattern);
        let text: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut at = 0;
        while at < text.len() {
            match match_ends(&pattern, &text[at..]).last() {
                Some(&length) if length > 0 => {
                    result.push_str(&replacement);
                    at += length;
                    if !all {
                        break;
                    }
                }
                Some(_) | None => {
                    result.push(text[at]);
                    at += 1;
                }
            }
        }
        result.extend(&text[at..]);
        Ok(result)
    }
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

/// Reads a pattern: `*`, `?`, and `\` before a literal. Brackets mean nothing here.
fn pieces(pattern: &str) -> Vec<Piece> {
    let mut chars = pattern.chars();
    let mut pieces = Vec::new();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => Piece::Char(chars.next().unwrap_or('\\')),
            c => Piece::Char(c),
        });
    }
    pieces
}

/// Every length at which the pattern matches a beginning of the text, shortest first.
fn match_ends(pattern: &[Piece], text: &[char]) -> Vec<usize> {
    let mut ends = vec![0];
    for piece in pattern {
        ends = match piece {
            Piece::Any => ends.first().map_or(Vec::new(), |first| (*first..=text.len()).collect()),
            Piece::One => ends.into_iter().filter(|end| *end < text.len()).map(|end| end + 1).collect(),
            Piece::Char(c) => ends.into_iter().filter(|end| text.get(*end) == Some(c)).map(|end| end + 1).collect(),
        };
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "A" => "hello",
            "PWD" => "/home",
            "KOREAN" => "한국어",
            "EMPTY" => "",
            "LIST" => "one two",
            "URL" => "https://example.org/a/b.tar.gz",
            "QUOTED" => "a\"b",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn one_word_table() {
        let cases = [
            ("hello", "hello"),
            ("he'll'o", "hello"),
            ("he\"ll\"o", "hello"),
            ("he\\llo", "hello"),
            ("he\\'llo", "he'llo"),
            ("he\\\\llo", "he\\llo"),
            ("hello\\", "hello"),
            ("\"he\\llo\"", "he\\llo"),
            ("\"he\\\"llo\"", "he\"llo"),
            ("'he\\llo'", "he\\llo"),
            ("'he$PWD'", "he$PWD"),
            ("\"he$PWD\"", "he/home"),
            ("\"he\\$PWD\"", "he$PWD"),
            ("he\\$PWD", "he$PWD"),
            ("he\\\\$PWD", "he\\/home"),
            ("he${PWD}x", "he/homex"),
            ("he$PWDx", "he"),
            ("$", "$"),
            ("he$", "he$"),
            ("he$.", "he$."),
            ("he$1x", "hex"),
            ("he$001aaa", "heaaa"),
            ("he$@xx", "hexx"),
            ("he$$xx", "hexx"),
            ("he${1}x", "hex"),
            ("$KOREAN", "한국어"),
            ("안녕\\$KOREAN", "안녕$KOREAN"),
            ("${UNSET-d}", "d"),
            ("${UNSET:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${EMPTY:-d}", "d"),
            ("${UNSET:-}", ""),
            ("${A:+set}", "set"),
            ("${A+set}", "set"),
            ("${EMPTY+set}", "set"),
            ("${EMPTY:+set}", ""),
            ("${UNSET+set}", ""),
            ("${UNSET:-${A}}", "hello"),
            ("${UNSET:-$UNSET2$A}", "hello"),
            ("${UNSET:-\"a b\"}", "a b"),
            ("${UNSET:-a\\}b}", "a}b"),
            ("${A:?no}", "hello"),
            ("${A?no}", "hello"),
            ("${EMPTY?no}", ""),
            ("${A#he}", "llo"),
            ("${A#*l}", "lo"),
            ("${A##*l}", "o"),
            ("${A%l*}", "hel"),
            ("${A%%l*}", "he"),
            ("${A%??}", "hel"),
            ("${A#x}", "hello"),
            ("${URL##*/}", "b.tar.gz"),
            ("${URL%/*}", "https://example.org/a"),
            ("${URL%%.*}", "https://example"),
            ("${A/l/L}", "heLlo"),
            ("${A//l/L}", "heLLo"),
            ("${A//l*/-}", "he-"),
            ("${URL//\\//_}", "https:__example.org_a_b.tar.gz"),
            ("${A/x/y}", "hello"),
            ("${A//l/}", "heo"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(Lexer::new('\\').word(text, &lookup).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn word_list_table() {
        let cases: [(&str, &[&str]); 12] = [
            ("a b", &["a", "b"]),
            ("  a\t b ", &["a", "b"]),
            ("\"a b\" c", &["a b", "c"]),
            ("a\\ b c", &["a b", "c"]),
            ("$LIST", &["one", "two"]),
            ("x$LIST y", &["xone", "two", "y"]),
            ("\"$LIST\"", &["one two"]),
            ("'' a", &["a"]),
            ("\"\"", &[]),
            ("$EMPTY", &[]),
            ("a$EMPTY", &["a"]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(Lexer::new('\\').words(text, &lookup).as_deref(), Ok(expected.map_owned().as_slice()), "{text}");
        }
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }
    impl MapOwned for &[&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|word| (*word).to_owned()).collect()
        }
    }

    #[test]
    fn what_is_refused() {
        let required = |message: &str| WordError::Required { name: "UNSET".to_owned(), message: message.to_owned() };
        let cases = [
            ("'a", WordError::Quote("single")),
            ("\"a", WordError::Quote("double")),
            ("\"a\\", WordError::Quote("double")),
            ("${", WordError::Unclosed('}')),
            ("${A", WordError::Unclosed('}')),
            ("${A:", WordError::Unclosed('}')),
            ("${A:-b", WordError::Unclosed('}')),
            ("${A/b", WordError::Unclosed('/')),
            ("${}", WordError::NoName),
            ("${:}", WordError::NoName),
            ("${:-x}", WordError::NoName),
            ("${{A}}", WordError::NoName),
            ("${A:=b}", WordError::Modifier(":=".to_owned())),
            ("${A;}", WordError::Modifier(";".to_owned())),
            ("${UNSET?}", required("is not allowed to be unset")),
            ("${UNSET:?why}", required("why")),
        ];
        for (text, expected) in cases {
            assert_eq!(Lexer::new('\\').word(text, &lookup), Err(expected), "{text}");
        }
        let deep = "${U:-".repeat(100_000);
        assert_eq!(Lexer::new('\\').word(&deep, &lookup), Err(WordError::TooLarge));
    }

    #[test]
    fn other_readings() {
        let backtick = Lexer::new('`');
        assert_eq!(backtick.word("c:\\dir`$A", &lookup).as_deref(), Ok("c:\\dir$A"));
        let paths = Lexer { quotes: Quotes::Literal, ..Lexer::new('\\') };
        assert_eq!(paths.word("it's \"$A\" \\$A", &lookup).as_deref(), Ok("it's \"hello\" $A"));
        let raw = Lexer { quotes: Quotes::Keep, unset: Unset::Keep, ..Lexer::new('\\') };
        let expected = ["cat", "<<\"E O F\"", "$UNSET", "${UNSET}", "a\\ b"].map(str::to_owned);
        assert_eq!(raw.words("cat <<\"E O F\" $UNSET ${UNSET} a\\ b", &lookup).as_deref(), Ok(expected.as_slice()));
    }
}
