//! Tokens: what a token service is asked, and what is known of earlier answers (distribution specification, "Token Authentication").

use super::authentication::Authorization;
use super::credentials::Credential;
use super::error::RequestError;
use super::http::{ANSWER_BYTES_MAX, Content, Http, Message, accepted, without_query};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use ureq::http::{Method, StatusCode, Uri, header};

/// What we call ourselves to a token service.
const CLIENT_ID: &str = "host-agent";

/// Something a token allows: `repository:library/nginx:pull`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope(String);

impl Scope {
    /// To read a repository.
    pub(super) fn pull(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull"))
    }

    /// To write to it as well.
    pub(super) fn push(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull,push"))
    }
}

/// A question to a token service.
pub(super) struct TokenRequest<'a> {
    /// Its URL.
    pub(super) realm: &'a str,
    /// What the registry is called there.
    pub(super) service: Option<&'a str>,
    /// What we need.
    pub(super) wanted: &'a [Scope],
    /// What the registry said we need.
    pub(super) told: Option<&'a str>,
    /// Who we are; `None` is anybody.
    pub(super) credential: Option<&'a Credential>,
}

/// What was good to each registry for each scope: asked for once, and again when it is refused. Cheap to clone; clones share.
#[derive(Clone, Default)]
pub(super) struct Authorizations(Arc<Mutex<BTreeMap<Key, Slot>>>);

/// A registry and what is wanted there.
type Key = (String, Vec<Scope>);

/// Held while a new one is fetched: whoever else was refused waits for it.
pub(super) type Slot = Arc<Mutex<Option<Authorization>>>;

impl Authorizations {
    pub(super) fn slot(&self, registry: &str, scopes: &[Scope]) -> Slot {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((registry.to_owned(), scopes.to_vec())).or_default())
    }
}

impl fmt::Debug for Authorizations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Fetches a token.
pub(super) fn fetch(http: &Http<'_>, asked: &TokenRequest<'_>) -> Result<Authorization, RequestError> {
    let service = without_query(asked.realm);
    let refused = |what: &str| RequestError::Authentication(format!("its token service {service} {what}"));
    let realm: Uri = asked.realm.parse().map_err(|_| refused("is not a URL"))?;
    if realm.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(refused("is not a URL"));
    }
    if realm.scheme_str() != Some("https") && !http.may_use_http(&realm) {
        return Err(refused("is not under https"));
    }
    let scopes: BTreeSet<&str> =
        asked.wanted.iter().map(|scope| scope.0.as_str()).chain(asked.told.into_iter().flat_map(str::split_whitespace)).collect();
    let outcome = match asked.credential {
        Some(Credential::RegistryToken(token)) => return Ok(Authorization::bearer(token.reveal())),
        Some(Credential::IdentityToken(token)) => {
            let form = form(asked, &scopes, &[("grant_type", "refresh_token"), ("refresh_token", token.reveal())]);
            let headers = vec![(header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())];
            http.send(&realm, &Message { method: Method::POST, headers, body: Content::Bytes(form.as_bytes()) }, None)
        }
        Some(Credential::Password { user, password }) => {
            http.send(&query(&realm, asked, &scopes)?, &Message::bare(Method::GET), Some(&Authorization::basic(user, password)))
        }
        None => http.send(&query(&realm, asked, &scopes)?, &Message::bare(Method::GET), None),
    };
    let told = |source| RequestError::TokenService { service: service.clone(), source: Box::new(source) };
    let response = outcome.map_err(told)?;
    if response.status() == StatusCode::UNAUTHORIZED && asked.credential.is_some() {
        return Err(refused("refuses the user or password (401 Unauthorized): log in again (agent image login)"));
    }
    if response.status().is_redirection() {
        return Err(refused("redirects elsewhere, where passwords are not sent"));
    }
    let fetched = accepted(response).and_then(|response| http.document(response, ANSWER_BYTES_MAX)).map_err(told)?;
    // The parser's own error would quote what was answered.
    let answer: Token = serde_json::from_slice(&fetched.bytes).map_err(|_| refused("gave no token"))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token).filter(|token| is_token(token));
    Ok(Authorization::bearer(&token.ok_or_else(|| refused("gave no token"))?))
}

/// Whether it can stand in a header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// As the original token specification has it: one `scope` each.
fn query(realm: &Uri, asked: &TokenRequest<'_>, scopes: &BTreeSet<&str>) -> Result<Uri, RequestError> {
    let service = asked.service.map(|service| ("service", service));
    let pairs = service.into_iter().chain(scopes.iter().map(|scope| ("scope", *scope)));
    let query: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let separator = if realm.query().is_some() { "&" } else { "?" };
    let joined = if query.is_empty() { realm.to_string() } else { format!("{realm}{separator}{}", query.join("&")) };
    joined.parse().map_err(|_| RequestError::Authentication("its challenge makes no URL".to_owned()))
}

/// As OAuth 2 has it (RFC 6749 §6): all scopes in one value.
fn form(asked: &TokenRequest<'_>, scopes: &BTreeSet<&str>, more: &[(&str, &str)]) -> String {
    let scope = scopes.iter().copied().collect::<Vec<_>>().join(" ");
    let own = [("service", asked.service.unwrap_or_default()), ("client_id", CLIENT_ID), ("scope", &scope)];
    let pairs = more.iter().chain(&own).map(|(name, value)| format!("{name}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_asked_for_once_each() {
        let asked = TokenRequest {
            realm: "https://auth.example/token?a=b",
            service: Some("r e"),
            wanted: &[Scope::pull("team/app"), Scope::pull("base")],
            told: Some("repository:team/app:pull repository:other:pull"),
            credential: None,
        };
        let scopes = BTreeSet::from(["repository:base:pull", "repository:team/app:pull"]);
        let uri = query(&asked.realm.parse().unwrap(), &asked, &scopes).unwrap();
        assert_eq!(
            uri.to_string(),
            "https://auth.example/token?a=b&service=r%20e&scope=repository%3Abase%3Apull&scope=repository%3Ateam%2Fapp%3Apull"
        );
        assert_eq!(
            form(&asked, &scopes, &[("grant_type", "refresh_token")]),
            "grant_type=refresh_token&service=r%20e&client_id=host-agent&scope=repository%3Abase%3Apull%20repository%3Ateam%2Fapp%3Apull"
        );
    }
}
