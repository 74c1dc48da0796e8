//! Tokens: what a client may do for some minutes, in a form that only this process can make. Pure: the clock is given.
//!
//! The distribution specification's token authentication: JSON web tokens (RFC 7519) signed with HMAC-SHA-256 by a key of this
//! process. After a restart the old ones are refused, and clients ask for new ones by themselves.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// How long a token is good. Clients ask again in the middle of a pull; whoever got hold of one has little of it.
pub(super) const LIFETIME: Duration = Duration::from_secs(300);
/// Scopes of one token: a push with mounts asks for a handful.
const SCOPES_MAX: usize = 64;
/// `{"alg":"HS256","typ":"JWT"}`, the one header there is.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// What can be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Pull,
    Push,
    Delete,
}

/// What a request needs, or a token allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Scope {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub name: String,
    pub actions: BTreeSet<Action>,
}

/// What a scope is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Repository,
    /// The registry itself: its catalog.
    Registry,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Made by somebody else, or not a token.
    Invalid,
    /// Its time is over.
    Expired,
}

/// Makes tokens and tells its own from others.
pub(super) struct Tokens {
    key: hmac::Key,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(rename = "iss")]
    issuer: String,
    #[serde(rename = "sub")]
    subject: String,
    #[serde(rename = "exp")]
    expires: u64,
    #[serde(rename = "iat")]
    issued: u64,
    access: Vec<Scope>,
}

impl Scope {
    /// For a request.
    pub(super) fn of(repository: &str, action: Action) -> Self {
        Self { kind: Kind::Repository, name: repository.to_owned(), actions: BTreeSet::from([action]) }
    }

    /// To list what there is.
    pub(super) fn catalog() -> Self {
        Self { kind: Kind::Registry, name: "catalog".to_owned(), actions: BTreeSet::from([Action::Pull]) }
    }

    /// Reads scopes as clients ask for them, `repository:team/app:pull,push`, several with spaces between; what is not understood
    /// is passed over, as the specification has it.
    pub(super) fn parse_all<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Self> {
        texts.flat_map(str::split_ascii_whitespace).filter_map(Self::parse).take(SCOPES_MAX).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let kind = match kind {
            "repository" => Kind::Repository,
            "registry" => Kind::Registry,
            _ => return None,
        };
        let all = [Action::Pull, Action::Push, Action::Delete];
        let actions = actions.split(',').flat_map(|action| match action {
            "pull" => &all[..1],
            "push" => &all[1..2],
            "delete" => &all[2..],
            "*" => &all[..],
            _ => &[],
        });
        Some(Self { kind, name: name.to_owned(), actions: actions.copied().collect() })
    }

    /// As a challenge names it.
    pub(super) fn text(&self) -> String {
        let word = |action: &Action| match action {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        };
        match self.kind {
            Kind::Repository => {
                let actions: Vec<_> = self.actions.iter().map(word).collect();
                format!("repository:{}:{}", self.name, actions.join(","))
            }
            Kind::Registry => format!("registry:{}:*", self.name),
        }
    }

    /// Whether this allows what that needs.
    fn allows(&self, needed: &Self) -> bool {
        self.kind == needed.kind && self.name == needed.name && self.actions.is_superset(&needed.actions)
    }
}

impl Tokens {
    pub(super) fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// A token for somebody; nobody has the empty name.
    pub(super) fn issue(&self, issuer: &str, subject: &str, access: Vec<Scope>, now: SystemTime) -> String {
        let issued = seconds(now);
        let claims =
            Claims { issuer: issuer.to_owned(), subject: subject.to_owned(), expires: issued + LIFETIME.as_secs(), issued, access };
        let claims = serde_json::to_vec(&claims).expect("texts and numbers are JSON");
        let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whether a token of ours allows something; `None` needs no more than a token.
    pub(super) fn allows(&self, token: &str, needed: Option<&Scope>, now: SystemTime) -> Result<bool, Refused> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Invalid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refused::Invalid)?;
        hmac::verify(&self.key, signed.as_bytes(), &signature).map_err(|_| Refused::Invalid)?;
        let claims = signed.split_once('.').filter(|(header, _)| *header == HEADER).ok_or(Refused::Invalid)?.1;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| Refused::Invalid)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Refused::Invalid)?;
        if claims.expires <= seconds(now) {
            return Err(Refused::Expired);
        }
        Ok(needed.is_none_or(|needed| claims.access.iter().any(|scope| scope.allows(needed))))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_allows_what_it_says_for_its_time_here() {
        let (tokens, others) = (Tokens::new(b"here"), Tokens::new(b"elsewhere"));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let granted = Scope::parse_all(["repository:a/b:pull,push repository:h:5000/c:*", "registry:catalog:*"].into_iter());
        let token = tokens.issue("here:5000", "eve", granted, now);
        let allows = |scope: Scope| tokens.allows(&token, Some(&scope), now);
        assert_eq!(allows(Scope::of("a/b", Action::Push)), Ok(true));
        assert_eq!(allows(Scope::of("a/b", Action::Delete)), Ok(false));
        assert_eq!(allows(Scope::of("a", Action::Pull)), Ok(false));
        assert_eq!(allows(Scope::of("h:5000/c", Action::Delete)), Ok(true));
        assert_eq!(allows(Scope::catalog()), Ok(true));
        assert_eq!(tokens.allows(&token, None, now), Ok(true));

        assert_eq!(tokens.allows(&token, None, now + LIFETIME), Err(Refused::Expired));
        assert_eq!(others.allows(&token, None, now), Err(Refused::Invalid));
        let (head, rest) = token.split_once('.').unwrap();
        let (claims, signature) = rest.split_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for forged in [format!("{none}.{claims}."), format!("{head}.{claims}x.{signature}"), format!("{head}.{claims}"), String::new()] {
            assert_eq!(tokens.allows(&forged, None, now), Err(Refused::Invalid), "{forged}");
        }
    }

    #[test]
    fn scopes_as_clients_write_them() {
        let texts = |text: &str| Scope::parse_all(std::iter::once(text)).iter().map(Scope::text).collect::<Vec<_>>();
        assert_eq!(texts("repository:a:pull"), ["repository:a:pull"]);
        assert_eq!(texts("repository:a:push,pull,fly repository:b:*"), ["repository:a:pull,push", "repository:b:pull,push,delete"]);
        assert_eq!(texts("registry:catalog:* other:a:pull nonsense"), ["registry:catalog:*"]);
        assert_eq!(texts(&"repository:a:pull ".repeat(SCOPES_MAX + 1)).len(), SCOPES_MAX);
    }
}
