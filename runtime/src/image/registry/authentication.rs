//! Who we are to a registry: challenges (RFC 9110 §11.6.1), tokens, and the passwords of Docker's `config.json`.

use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Key of Docker Hub in `config.json`, for history's sake.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The value of an `Authorization` header. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authorization(String);

impl Authorization {
    pub(super) fn bearer(token: &str) -> Self {
        Self(format!("Bearer {token}"))
    }

    pub(super) fn header(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One way to authenticate that a registry offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Ask `realm` for a token.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// User and password with each request.
    Basic,
}

/// The challenges of a `WWW-Authenticate` header that we understand, in order.
pub(super) fn parse_challenges(header: &str) -> Vec<Challenge> {
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
        let Some(value) = candidate[name_end..].strip_prefix('=').filter(|_| name_end > 0) else {
            return (parameters, rest);
        };
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

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    auth: String,
}

/// Why `config.json` could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("read the registry passwords in {path:?}")]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what Docker writes.
    #[error("{path:?} is not a Docker configuration with passwords")]
    Format {
        /// The file.
        path: std::path::PathBuf,
    },
}

/// User and password for a registry, as a `Basic` authorization; `None` if the file is absent or has none for it.
pub(super) fn find_credentials(config: &Path, registry: &str) -> Result<Option<Authorization>, CredentialsError> {
    let bytes = match std::fs::read(config) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialsError::Read { path: config.to_owned(), source }),
    };
    let broken = || CredentialsError::Format { path: config.to_owned() };
    // The parser's own error would quote what is written there.
    let parsed: DockerConfig = serde_json::from_slice(&bytes).map_err(|_| broken())?;
    let names_registry = |key: &str| {
        let host = key.trim_start_matches("https://").trim_start_matches("http://");
        key == registry || host.split('/').next() == Some(registry) || (registry == "docker.io" && key == HUB_KEY)
    };
    let Some((_, entry)) = parsed.auths.iter().find(|(key, entry)| names_registry(key) && !entry.auth.is_empty()) else {
        return Ok(None);
    };
    let engine = base64::engine::general_purpose::STANDARD;
    let decoded = engine.decode(entry.auth.trim()).map_err(|_| broken())?;
    if !decoded.contains(&b':') {
        return Err(broken());
    }
    Ok(Some(Authorization(format!("Basic {}", engine.encode(decoded)))))
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
            (r#"bearer realm="a\"b"#, vec![bearer("a\"b", None, None)]),
            ("Bearer", vec![]),
            ("", vec![]),
            ("=,=", vec![]),
        ] {
            assert_eq!(parse_challenges(header), expected, "{header}");
        }
    }

    #[test]
    fn passwords_by_registry() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        assert_eq!(find_credentials(&path, "docker.io").unwrap(), None);
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOng="},"reg.example:5000":{"auth":"bWU6cHc="},
            "empty.example":{}},"credsStore":"x"}"#;
        std::fs::write(&path, text).unwrap();
        let find = |registry| find_credentials(&path, registry).unwrap().map(|found| found.header().to_owned());
        assert_eq!(find("docker.io").as_deref(), Some("Basic aHViOng="));
        assert_eq!(find("reg.example:5000").as_deref(), Some("Basic bWU6cHc="));
        assert_eq!(find("reg.example"), None);
        assert_eq!(find("empty.example"), None);
        std::fs::write(&path, r#"{"auths":{"a":{"auth":"secret!"}}}"#).unwrap();
        let error = format!("{:?}", find_credentials(&path, "a").unwrap_err());
        assert!(!error.contains("secret"), "{error}");
    }
}
