//! Values that are never shown: those that are known to be one, and those told by the names they go by.

use std::fmt;

/// What stands where a secret would be shown.
pub const HIDDEN: &str = "***";

/// A password or token. It prints as [`HIDDEN`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends or keeps it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Whether a value of this name, a variable's for instance, is likely to be a secret: `DB_PASSWORD`, `apiToken`, `SSH_KEY`.
/// Rather one too many is hidden than one too few.
pub fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let parts = ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL"];
    let words = ["PASS", "PWD", "AUTH", "CREDS"];
    let is_key = |word: &str| word.ends_with("KEY") || word.ends_with("KEYS");
    parts.iter().any(|part| name.contains(part))
        || name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| is_key(word) || words.contains(&word))
}

/// A text without the password of an address in it: `postgres://shop:***@db/shop`.
pub fn hide_password(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(['/', '?', '#', ' ', '"', '\'', ',']).unwrap_or(after.len());
        shown.push_str(before);
        shown.push_str("://");
        rest = match after[..end].rsplit_once('@') {
            Some((login, _)) => {
                let user = login.split_once(':').map(|(user, _)| user);
                shown.push_str(&user.map_or_else(|| login.to_owned(), |user| format!("{user}:{HIDDEN}")));
                &after[login.len()..]
            }
            None => after,
        };
    }
    shown + rest
}

/// A line of a file with `*` for each character of a secret in it, so that what is beside it stays where it is: what follows the
/// `:` or `=` of a secret's name, to the end of a quoted text, of an entry in braces or of the line.
pub(crate) fn hide_in_line(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find([':', '=']) {
        let (before, after) = rest.split_at(at + 1);
        shown.push_str(before);
        let name = before[..at].trim_end_matches(['"', '\'', ' ']);
        let name = name.rsplit(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.')).next().unwrap_or_default();
        rest = after;
        if names_secret(name) {
            let blanks = after.len() - after.trim_start().len();
            let (blank, value) = after.split_at(blanks);
            let end = match value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
                Some(quote) => value[1..].find(quote).map_or(value.len(), |end| end + 2),
                None => value.find(['"', '\'', ',', '}', ']']).unwrap_or(value.len()),
            };
            shown.push_str(blank);
            shown.extend(value[..end].chars().map(|_| '*'));
            rest = &value[end..];
        }
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_their_names() {
        let secret =
            ["PASSWORD", "DB_PASSWORD", "POSTGRES_PASSWORD_FILE", "apiToken", "AWS_SECRET_ACCESS_KEY", "SSH_KEY", "api-key", "APIKEY"];
        assert_eq!(secret.iter().filter(|name| !names_secret(name)).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>());
        let plain = ["LOG", "KEYBOARD", "PATH", "KEYCLOAK_URL", "COMPASS", "PORT"];
        assert_eq!(plain.iter().filter(|name| names_secret(name)).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>());
    }

    #[test]
    fn addresses_lose_their_password_only() {
        assert_eq!(hide_password("postgres://shop:p@ss@db:5432/shop?x=a@b"), "postgres://shop:***@db:5432/shop?x=a@b");
        assert_eq!(hide_password("a://u@h,b://u:p@h"), "a://u@h,b://u:***@h");
        assert_eq!(hide_password("http://h/a:b@c plain"), "http://h/a:b@c plain");
    }

    #[test]
    fn a_quoted_line_keeps_its_columns() {
        assert_eq!(hide_in_line("  env: {A: b, DB_PASSWORD: hünter2, C: d}"), "  env: {A: b, DB_PASSWORD: *******, C: d}");
        assert_eq!(hide_in_line("  - \"TOKEN=a b=c\" # why"), "  - \"TOKEN=*****\" # why");
        assert_eq!(hide_in_line("  api_key: 'x, y' # why"), "  api_key: ****** # why");
        assert_eq!(hide_in_line("  - KEY=abc"), "  - KEY=***");
        assert_eq!(hide_in_line("image: a:b"), "image: a:b");
    }
}
