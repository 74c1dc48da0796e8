//! A command line to words, as Compose splits it.

use crate::value::ValueError;

/// Splits at blanks; `'…'` and `"…"` keep them; except between `'…'`, `\n` and `\t` are line break and tab and any other
/// backslash takes the next character as it is. Nothing is expanded. What only a shell could do (`|`, `&&`, `;`, `<`, `>`,
/// brackets) is refused: there is no shell here, and Compose's splitter (mattn/go-shellwords) silently drops all that follows.
pub(super) fn split(text: &str) -> Result<Vec<String>, ValueError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => {
                let next = characters.next().ok_or_else(|| ValueError::new(format!("{text:?} ends with a backslash")))?;
                let next = match next {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                };
                word.get_or_insert_default().push(next);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (None, '|' | '&' | ';' | '<' | '>' | '(' | ')') => {
                let hint = format!("quote it, or run a shell: [/bin/sh, -c, {text:?}]");
                return Err(ValueError::with_hint(format!("{c:?} means something only to a shell, and there is none"), hint));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = quote {
        return Err(ValueError::new(format!("{text:?} has no closing {quote}")));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text).expect("these are words")
    }

    #[test]
    fn quotes_keep_blanks() {
        assert_eq!(words("nginx -g 'daemon off;'"), ["nginx", "-g", "daemon off;"]);
        assert_eq!(words("echo \"a  b\"c  d"), ["echo", "a  bc", "d"]);
        assert_eq!(words("a '' \"\" b"), ["a", "", "", "b"]);
    }

    #[test]
    fn a_backslash_takes_the_next_character() {
        assert_eq!(words(r#"a\ b "c\"d" 'e\n' f\ng\t"#), ["a b", "c\"d", "e\\n", "f\ng\t"]);
    }

    #[test]
    fn nothing_is_expanded_or_a_comment() {
        assert_eq!(words("echo $HOME * # x"), ["echo", "$HOME", "*", "#", "x"]);
        assert_eq!(words("  \n "), Vec::<String>::new());
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for text in ["a && b", "echo $(date)", "a | b", "a; b", "a > b", "a 'b", "a \"b", "a \\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
