//! Who may do what: a password file with bcrypt hashes, as `htpasswd -B` writes it, and tokens for those who gave a password once.
//!
//! There is one trust domain: who knows a password may pull, and push and delete if the registry is writable. A token is for what its
//! client asked for and no more. Passwords are taken with each request too: every client speaks Basic. bcrypt is slow on purpose: a
//! password that was right is remembered by a keyed digest.

use super::problem::Problem;
use super::request::{Method, Request, pairs};
use super::response::Response;
use super::route::{Route, TOKEN_PATH};
use super::token::{Action, Kind, LIFETIME, Refused, Scope, Tokens};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Most bytes of a password file: thousands of users.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most bytes of a form that asks for a token: names and scopes.
const FORM_BYTES_MAX: u64 = 64 << 10;
/// What skopeo sends without a password: an empty one, base64 of ":".
const NOBODY: &str = "basic Og==";
/// Passwords checked at once: each takes a processor for up to a second.
const CHECKS_AT_ONCE: usize = 1;

/// Why a password file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It cannot be read.
    #[error("read password file {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A line that says nothing we take.
    #[error("{path:?}:{line}: not user:hash with a bcrypt hash: make the line with htpasswd -nB USER")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
}

/// Whether those who give no password may pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// No.
    Refused,
    /// Yes; to push takes a password all the same.
    MayPull,
}

/// Who may do what.
pub enum Access {
    /// Everybody may do everything that the registry does.
    Open,
    /// Those with a password.
    Passwords(Box<Passwords>),
}

/// Users and what they are known by.
pub struct Passwords {
    hashes: BTreeMap<String, String>,
    anonymous: Anonymous,
    /// Keyed digests of credentials that were right. The key is this process's own.
    known: Mutex<BTreeSet<[u8; 32]>>,
    key: [u8; 32],
    tokens: Tokens,
    checking: Mutex<()>,
}

impl Access {
    /// Reads a password file.
    pub fn read(path: &Path, anonymous: Anonymous) -> Result<Self, AccessError> {
        let failed = |source| AccessError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)).map_err(failed)?;
        let mut hashes = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || AccessError::Line { path: path.to_owned(), line: index + 1 };
            let (user, hash) = line.split_once(':').ok_or_else(bad)?;
            if user.is_empty() || hash.parse::<bcrypt::HashParts>().is_err() {
                return Err(bad());
            }
            hashes.insert(user.to_owned(), hash.to_owned());
        }
        let mut key = [0; 32];
        std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut key)).map_err(failed)?;
        const { assert!(CHECKS_AT_ONCE == 1, "one lock is one check at once") };
        let tokens = Tokens::new(&key);
        let passwords = Passwords { hashes, anonymous, known: Mutex::default(), key, tokens, checking: Mutex::new(()) };
        Ok(Self::Passwords(Box::new(passwords)))
    }

    /// Lets a request pass, or says what it lacks. `service` is what the registry is called.
    pub(super) fn admit(&self, request: &Request<'_>, route: &Route, service: &str) -> Result<(), Problem> {
        match self {
            Self::Open => Ok(()),
            Self::Passwords(passwords) => passwords.admit(request, route, service),
        }
    }

    /// Answers a request for a token (distribution specification, "Token Authentication": by GET with a password, or as OAuth 2).
    pub(super) fn token(&self, request: &mut Request<'_>, service: &str) -> Result<Response, Problem> {
        match self {
            Self::Open => Err(Problem::new(404, "UNSUPPORTED", "this registry asks for no passwords, and gives no tokens")),
            Self::Passwords(passwords) => passwords.token(request, service),
        }
    }
}

/// What a request needs; `None` is to be known at all.
fn needed(method: Method, route: &Route) -> Option<Scope> {
    let action = match (method, route) {
        (Method::Get | Method::Head, _) => Action::Pull,
        (Method::Delete, Route::Manifest { .. } | Route::Blob { .. }) => Action::Delete,
        (Method::Post | Method::Put | Method::Patch | Method::Delete, _) => Action::Push,
    };
    match route {
        Route::Root | Route::Token => None,
        Route::Catalog => Some(Scope::catalog()),
        // How far an upload is concerns those who push.
        Route::Uploads { repository } | Route::Upload { repository, .. } => Some(Scope::of(repository, Action::Push)),
        Route::Tags { repository }
        | Route::Manifest { repository, .. }
        | Route::Blob { repository, .. }
        | Route::Referrers { repository, .. } => Some(Scope::of(repository, action)),
    }
}

impl Passwords {
    fn admit(&self, request: &Request<'_>, route: &Route, service: &str) -> Result<(), Problem> {
        let needed = needed(request.method, route);
        let refuse = |error, message| {
            let mut challenges = vec![bearer(request, service, needed.as_ref(), error)];
            // Docker without a password gives up on the offer to give one, though a token is to be had without.
            if self.anonymous == Anonymous::Refused {
                challenges.push(BASIC.to_owned());
            }
            Err(unauthorized(message, challenges))
        };
        let Some(given) = request.header("authorization").filter(|given| !given.eq_ignore_ascii_case(NOBODY)) else {
            // Clients ask the root once whether passwords are wanted, and send none later if they are not: it always wants one.
            let is_free = self.anonymous == Anonymous::MayPull && needed.as_ref().is_some_and(is_pull);
            return if is_free { Ok(()) } else { refuse(None, "a user and a password are needed") };
        };
        if let Some((_, token)) = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
            return match self.tokens.allows(token.trim(), needed.as_ref(), SystemTime::now()) {
                Ok(true) => Ok(()),
                Ok(false) => refuse(Some("insufficient_scope"), "the token is not for this"),
                Err(Refused::Expired) => refuse(Some("invalid_token"), "the token has run out"),
                Err(Refused::Invalid) => refuse(Some("invalid_token"), "the token is none of this registry's"),
            };
        }
        match self.user_of(given) {
            Some(_) => Ok(()),
            None => refuse(None, "no such user and password"),
        }
    }

    fn token(&self, request: &mut Request<'_>, service: &str) -> Result<Response, Problem> {
        let (user, asked) = match request.method {
            Method::Get => {
                let given = request.header("authorization").filter(|given| !given.eq_ignore_ascii_case(NOBODY));
                let user = given.map(|given| self.user_of(given).ok_or("no such user and password")).transpose();
                (user, Scope::parse_all(request.queries("scope")))
            }
            Method::Post => {
                let form = request.small_body(FORM_BYTES_MAX)?;
                let form: BTreeMap<String, String> = pairs(&String::from_utf8_lossy(&form)).collect();
                let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
                if field("grant_type") != "password" {
                    return Err(Problem::bad_request("tokens are given for a password: grant_type=password"));
                }
                let user = self.fits(field("username"), field("password")).then(|| field("username").to_owned());
                (user.ok_or("no such user and password").map(Some), Scope::parse_all(std::iter::once(field("scope"))))
            }
            Method::Head | Method::Put | Method::Patch | Method::Delete => return Err(Problem::method_not_allowed()),
        };
        let granted = match user {
            Ok(Some(user)) => (user, asked),
            Ok(None) if self.anonymous == Anonymous::MayPull => (String::new(), asked.into_iter().filter_map(pull_only).collect()),
            Ok(None) => return Err(unauthorized("a user and a password are needed", vec![BASIC.to_owned()])),
            Err(message) => return Err(unauthorized(message, vec![BASIC.to_owned()])),
        };
        let now = SystemTime::now();
        let token = self.tokens.issue(service, &granted.0, granted.1, now);
        let issued = runtime::time::format(runtime::time::now());
        let body = serde_json::json!({"token": token, "access_token": token, "expires_in": LIFETIME.as_secs(), "issued_at": issued});
        Ok(Response::json(200, &body).with("Cache-Control", "no-store"))
    }

    /// The user of a Basic `Authorization` header that is right.
    fn user_of(&self, header: &str) -> Option<String> {
        let (_, encoded) = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))?;
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        self.fits(user, password).then(|| user.to_owned())
    }

    fn fits(&self, user: &str, password: &str) -> bool {
        let Some(hash) = self.hashes.get(user) else { return false };
        let mark: [u8; 32] =
            Sha256::new().chain_update(self.key).chain_update(user).chain_update(":").chain_update(password).finalize().into();
        let is_known = || self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&mark);
        if is_known() {
            return true;
        }
        let _one_at_a_time = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
        // The request before this one may have been of the same user.
        let right = is_known() || bcrypt::verify(password, hash).unwrap_or(false);
        if right {
            // As many as there are users, at most: of each only one password is right.
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(mark);
        }
        right
    }
}

fn is_pull(scope: &Scope) -> bool {
    scope.actions == BTreeSet::from([Action::Pull])
}

/// What of a scope is for everybody where everybody may pull.
fn pull_only(scope: Scope) -> Option<Scope> {
    let allowed = scope.kind == Kind::Registry || scope.actions.contains(&Action::Pull);
    allowed.then(|| Scope { actions: BTreeSet::from([Action::Pull]), ..scope })
}

/// The other way to prove who one is.
const BASIC: &str = "Basic realm=\"agent registry\", charset=\"UTF-8\"";

/// Where a token for what is needed can be had.
fn bearer(request: &Request<'_>, service: &str, needed: Option<&Scope>, error: Option<&str>) -> String {
    // What the client calls us is what it can reach us by.
    let is_host = |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    let host = request.header("host").filter(is_host).unwrap_or(service);
    let mut bearer = format!("Bearer realm=\"{}://{host}{TOKEN_PATH}\",service=\"{service}\"", request.scheme());
    if let Some(scope) = needed {
        bearer.push_str(&format!(",scope=\"{}\"", scope.text()));
    }
    if let Some(error) = error {
        bearer.push_str(&format!(",error=\"{error}\""));
    }
    bearer
}

fn unauthorized(message: &str, challenges: Vec<String>) -> Problem {
    let mut problem = Problem::new(401, "UNAUTHORIZED", message);
    problem.headers.extend(challenges.into_iter().map(|challenge| ("WWW-Authenticate", challenge)));
    problem
}
