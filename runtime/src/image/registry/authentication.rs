//! What a registry asks for (`WWW-Authenticate`, RFC 9110 §11.6.1) and how we answer (`Authorization`). Pure.

use base64::Engine as _;
use spec::value::Secret;
use std::collections::BTreeMap;

/// The value of an `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authorization(Secret);

impl Authorization {
    pub(super) fn bearer(token: &str) -> Self {
        Self(Secret::new(format!("Bearer {token}")))
    }

    /// User and password, RFC 7617.
    pub(super) fn basic(user: &str, password: &Secret) -> Self {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.reveal()));
        Self(Secret::new(format!("Basic {encoded}")))
    }

    pub(super) fn header(&self) -> &str {
        self.0.reveal()
    }
}

/// One way to authenticate that a registry offers.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Ask `realm` for a token.
    Bearer {
        /// The URL of the token service.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
    /// User and password with each request.
    Basic,
}

/// The challenges of a `WWW-Authenticate` header that we understand, in order.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let scheme_end = rest.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(rest.len());
        let (scheme, after) = rest.split_at(scheme_end);
        let (parameters, after) = parse_parameters(after);
        let parameter = |name: &str| parameters.get(name).cloned();
        if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = parameter("realm")
        {
            challenges.push(Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") });
        } else if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        }
        rest = after.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
    }
    challenges
}

/// `name=value, name="quoted value"` up to what is no parameter any more: the next scheme.
fn parse_parameters(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut parameters = BTreeMap::new();
    let mut rest = text;
    loop {
        let candidate = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let name_end = candidate.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).unwrap_or(candidate.len());
        let after_name = candidate[name_end..].trim_start_matches([' ', '\t']);
        let Some(value) = after_name.strip_prefix('=').filter(|_| name_end > 0) else {
            return (parameters, rest);
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        parameters.insert(candidate[..name_end].to_ascii_lowercase(), value);
        rest = after;
    }
}

/// A quoted string after its opening quote, and what follows its closing one.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"))],
            ),
            (r#"Basic realm="x, y", Bearer realm=z"#, vec![Challenge::Basic, bearer("z", None, None)]),
            (r#"Negotiate, basic"#, vec![Challenge::Basic]),
            (r#"Negotiate dG9rZW4==, Bearer realm=z , service = "s""#, vec![bearer("z", Some("s"), None)]),
            (r#"Digest qop="auth,auth-int", nonce=1,Bearer realm="z",scope="a b""#, vec![bearer("z", None, Some("a b"))]),
            (r#"bearer realm="a\"b"#, vec![bearer("a\"b", None, None)]),
            ("Bearer", vec![]),
            ("", vec![]),
            ("=,=", vec![]),
        ] {
            assert_eq!(parse_challenges(header), expected, "{header}");
        }
    }
}
