//! Arguments of an instruction cut into flags, words, `name=value` pairs and JSON arrays, before any substitution.

/// One `--name[=value]` before the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    /// Name without the dashes.
    pub(super) name: String,
    /// What stands after `=`.
    pub(super) value: Option<String>,
    /// Byte offset in the text given.
    pub(super) offset: usize,
}

/// Cuts the flags off: the flags and the byte offset of what follows. Quotes group, `\` escapes, `--` alone ends them.
pub(super) fn flags(text: &str) -> (Vec<Flag>, usize) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let start = at + (rest.len() - rest.trim_start().len());
        if !text[start..].starts_with("--") {
            return (flags, start);
        }
        let (word, length) = flag_word(&text[start..]);
        at = start + length;
        if word == "--" {
            let rest = &text[at..];
            return (flags, at + (rest.len() - rest.trim_start().len()));
        }
        let (name, value) = word[2..].split_once('=').map_or((&word[2..], None), |(name, value)| (name, Some(value.to_owned())));
        flags.push(Flag { name: name.to_owned(), value, offset: start });
    }
}

/// What stands after the flags.
pub(super) fn after_flags(text: &str) -> &str {
    &text[flags(text).1..]
}

/// One flag with quotes removed, and how many bytes it took.
fn flag_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => return (word, at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (_, '\\') => word.extend(chars.next().map(|(_, c)| c)),
            (_, c) => word.push(c),
        }
    }
    (word, text.len())
}

/// Words at blanks, nothing else meaning anything.
pub(super) fn blank_separated(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Words at blanks outside quotes; quotes and escapes stay for the substitution to remove. With byte offsets.
pub(super) fn quoted(text: &str, escape: char) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut current: Option<(usize, String)> = None;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(current.take());
            continue;
        }
        let (_, word) = current.get_or_insert_with(|| (at, String::new()));
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            None | Some(_) => {}
        }
        if c == escape && quote != Some('\'') {
            // The escaped character comes along whatever it is; an escape character at the very end vanishes.
            if let Some((_, escaped)) = chars.next() {
                word.push(c);
                word.push(escaped);
            }
            continue;
        }
        word.push(c);
    }
    words.extend(current);
    words
}

/// Whether the arguments are a JSON array of strings.
pub(super) fn is_exec_form(text: &str) -> bool {
    matches!(exec_form(text), Some(Ok(_)))
}

/// Reads a JSON array. `None` if it is not one: the shell form then. `Some(Err)` if it holds anything but strings.
pub(super) fn exec_form(text: &str) -> Option<Result<Vec<String>, ()>> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return None;
    }
    // Like Go's decoder: what stands after the array is not looked at.
    let value = serde_json::Deserializer::from_str(text).into_iter::<Vec<serde_json::Value>>().next()?.ok()?;
    let strings = value.into_iter().map(|item| match item {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(()),
    });
    Some(strings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_where_the_arguments_begin() {
        let (flags, rest) = flags("--from=a --chown=\"x y\" --link  src dst");
        let names: Vec<_> = flags.iter().map(|flag| (flag.name.as_str(), flag.value.as_deref())).collect();
        assert_eq!(names, [("from", Some("a")), ("chown", Some("x y")), ("link", None)]);
        assert_eq!(&"--from=a --chown=\"x y\" --link  src dst"[rest..], "src dst");
        assert_eq!(after_flags("-- --x y"), "--x y");
        assert_eq!(after_flags("a --from=b"), "a --from=b");
    }

    #[test]
    fn quoted_words_keep_their_quotes() {
        let words = |text| quoted(text, '\\').into_iter().map(|(_, word)| word).collect::<Vec<_>>();
        assert_eq!(words("a=1 b='x y' c=\"x \\\" y\" d=x\\ y"), ["a=1", "b='x y'", "c=\"x \\\" y\"", "d=x\\ y"]);
        assert_eq!(words("a=\\"), ["a="]);
    }

    #[test]
    fn exec_form_is_json_or_nothing() {
        assert_eq!(exec_form("[\"a\", \"b\"]"), Some(Ok(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(exec_form("[\"a\"] x"), Some(Ok(vec!["a".to_owned()])));
        assert_eq!(exec_form("[]"), Some(Ok(Vec::new())));
        assert_eq!(exec_form("['a']"), None);
        assert_eq!(exec_form("[\"a\""), None);
        assert_eq!(exec_form("[ -f x ]"), None);
        assert_eq!(exec_form("[1]"), Some(Err(())));
    }
}
