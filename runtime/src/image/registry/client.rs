//! Requests to one repository at one place: authentication, retries, ranges.

use super::access::Access;
use super::authentication::{Authorization, Challenge, parse_challenges};
use super::credentials::Credential;
use super::error::{RequestError, RequestFailed, Wish, chain};
use super::http::{Answer, BodyReader, Fetched, Http, Message, accepted, resolve, without_query};
use super::settings::Endpoint;
use super::token::{self, Scope, Slot, TokenRequest};
use super::{IsWanted, Progress};
use crate::image::manifest::media_type;
use spec::value::{Digest, Scheme};
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::{Method, Response, StatusCode, Uri, header};

/// Read of an answer 400 to find out whether TLS is wanted.
const COMPLAINT_BYTES_MAX: u64 = 1 << 10;

/// How often one who waits looks whether there is still a reason to.
const PAUSE: Duration = Duration::from_millis(50);

/// An error when what is asked for is not wanted any more.
type Wanted<'a> = dyn Fn() -> Result<(), RequestError> + 'a;

/// One repository at one of its places.
pub(super) struct Client<'a> {
    http: Http<'a>,
    access: &'a Access,
    endpoint: &'a Endpoint,
    /// What tokens are asked for.
    scopes: Vec<Scope>,
    /// Who we are, if not what the files say.
    given: Option<&'a Credential>,
    progress: &'a (dyn Fn(Progress<'_>) + Sync),
    is_wanted: &'a IsWanted<'a>,
    /// Found by the first request.
    scheme: Mutex<Option<Scheme>>,
    /// Found by the first challenge, then sent with every request to the registry itself.
    authorization: Slot,
}

impl<'a> Client<'a> {
    pub(super) fn new(endpoint: &'a Endpoint, scopes: Vec<Scope>, access: &'a Access, progress: &'a (dyn Fn(Progress<'_>) + Sync)) -> Self {
        let http = Http::new(access, endpoint);
        let authorization = access.authorizations.slot(&endpoint.registry, &scopes);
        Self { http, access, endpoint, scopes, given: None, progress, is_wanted: &|| true, scheme: Mutex::default(), authorization }
    }

    /// As long as what is asked for is wanted.
    pub(super) fn while_wanted(self, is_wanted: &'a IsWanted<'a>) -> Self {
        Self { is_wanted, ..self }
    }

    /// An error if what is asked for is not wanted any more.
    pub(super) fn check_wanted(&self) -> Result<(), RequestError> {
        if (self.is_wanted)() { Ok(()) } else { Err(RequestError::Unwanted) }
    }

    /// By the scheme that the place answered to before.
    pub(super) fn by(self, scheme: Option<Scheme>) -> Self {
        Self { scheme: Mutex::new(scheme), ..self }
    }

    /// With a password of its own, which is kept nowhere.
    pub(super) fn with_credential(self, credential: &'a Credential) -> Self {
        Self { given: Some(credential), authorization: Slot::default(), ..self }
    }

    /// The place, and the scheme that it answered to.
    pub(super) fn place(&self) -> (Endpoint, Option<Scheme>) {
        (self.endpoint.clone(), *self.scheme.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Interrupts all that is asked for now. What is asked for after that is asked for anew.
    pub(super) fn hang_up(&self) {
        self.http.hang_up();
    }

    /// How often that was done.
    pub(super) fn hang_ups(&self) -> usize {
        self.http.hang_ups()
    }

    /// What the place is called in messages.
    pub(super) fn registry(&self) -> &str {
        &self.endpoint.registry
    }

    /// The repository as it is called there.
    pub(super) fn repository(&self) -> &str {
        &self.endpoint.repository
    }

    pub(super) fn tell(&self, progress: Progress<'_>) {
        (self.progress)(progress);
    }

    /// Gets a document whole, with retries. `what` is for the error.
    pub(super) fn document(&self, path: &str, what: &str, limit: u64) -> Result<Fetched, Box<RequestFailed>> {
        self.retried(Wish::Get, what, || self.get(path, 0).and_then(|response| self.http.document(response, limit)))
    }

    /// What a tag stands for, if the registry says so without sending it.
    pub(super) fn digest_of(&self, tag: &str) -> Result<Option<Digest>, RequestError> {
        let mut message = Message::bare(Method::HEAD);
        message.headers.push((header::ACCEPT, accepted_manifests()));
        let response = accepted(self.request(&format!("manifests/{tag}"), &message)?)?;
        Ok(response.headers().get("docker-content-digest").and_then(|digest| digest.to_str().ok()?.parse().ok()))
    }

    /// Asks again as often as makes sense. `wish` and `what` are for the error.
    pub(super) fn retried<T>(
        &self,
        wish: Wish,
        what: &str,
        request: impl Fn() -> Result<T, RequestError>,
    ) -> Result<T, Box<RequestFailed>> {
        let mut failures = 0;
        loop {
            let error = match self.check_wanted().and_then(|()| request()) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            self.wait_or_give_up(what, failures, error).map_err(|source| self.failed(wish, what, source))?;
        }
    }

    /// An error for whoever wanted it.
    pub(super) fn failed(&self, wish: Wish, what: &str, source: RequestError) -> Box<RequestFailed> {
        let Endpoint { registry, repository, .. } = self.endpoint;
        Box::new(RequestFailed { wish, what: what.to_owned(), repository: repository.clone(), registry: registry.clone(), source })
    }

    /// Begins to get a blob, from `position` if the server can; returns where the body really begins.
    pub(super) fn blob(&self, digest: &Digest, position: u64) -> Result<(BodyReader, u64), RequestError> {
        let response = self.get(&format!("blobs/{digest}"), position)?;
        let begins_at = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let first = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
                match first {
                    Some(first) if first == position => position,
                    _ => return Err(RequestError::Body(std::io::Error::other("it sent another range than it was asked for"))),
                }
            }
            _ => 0,
        };
        Ok((self.http.body(response), begins_at))
    }

    /// Waits before the next attempt, or returns the error if another one makes no sense. Nobody is waited for who has never
    /// answered, nor a mirror, there is another place to ask; what has begun to come is. Docker does the same: who tries again
    /// later is whoever asked, a person or the watch.
    pub(super) fn wait_or_give_up(&self, what: &str, failures: u32, error: RequestError) -> Result<(), RequestError> {
        self.wait_while(&|| self.check_wanted(), what, failures, error)
    }

    /// As [`Self::wait_or_give_up`], as long as what is asked for is wanted, which a part of an image may cease to be before all of it.
    pub(super) fn wait_while(&self, wanted: &Wanted<'_>, what: &str, failures: u32, error: RequestError) -> Result<(), RequestError> {
        wanted()?;
        let has_begun = matches!(error, RequestError::Body(_));
        match self.access.retry.wait(failures, error.retry_after()) {
            Some(wait) if error.is_passing() && (has_begun || self.is_waited_for(&error)) => {
                self.tell(Progress::Retrying { what, reason: &chain(&error), wait });
                pause(wait, wanted)
            }
            _ => Err(error),
        }
    }

    fn is_waited_for(&self, error: &RequestError) -> bool {
        let has_answered = self.scheme.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        !self.endpoint.is_mirror && (has_answered || !error.is_nobody())
    }

    /// One GET below the repository. Anything but success is an error.
    fn get(&self, path: &str, position: u64) -> Result<Response<ureq::Body>, RequestError> {
        let mut message = Message::bare(Method::GET);
        message.headers.push((header::ACCEPT, accepted_manifests()));
        if position > 0 {
            message.headers.push((header::RANGE, format!("bytes={position}-")));
        }
        accepted(self.request(path, &message)?)
    }

    /// One request below the repository (`manifests/latest`), or to the root of the API where there is none: authenticated as needed,
    /// redirects of reading requests followed. Any status is an answer.
    pub(super) fn request(&self, path: &str, message: &Message<'_>) -> Result<Response<ureq::Body>, RequestError> {
        if let Some(scheme) = *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) {
            return self.authenticated(&self.url(scheme, path)?, message);
        }
        let (last, earlier) = self.endpoint.schemes.split_last().unwrap_or((&Scheme::Https, &[]));
        let mut over_http = None;
        for scheme in earlier {
            match self.authenticated(&self.url(*scheme, path)?, message) {
                Ok(response) if response.status() == StatusCode::BAD_REQUEST => match wants_tls(response) {
                    None => continue,
                    Some(error) => return Err(error),
                },
                Err(error @ RequestError::Transport { .. }) if error.is_other_scheme() => {
                    over_http = (*scheme == Scheme::Http).then_some(error);
                }
                outcome => return self.settled(*scheme, outcome),
            }
        }
        let outcome = self.authenticated(&self.url(*last, path)?, message);
        match (outcome, over_http) {
            // A server that speaks neither is shown as one that does not speak the simpler one.
            (Err(RequestError::Transport { .. }), Some(error)) => Err(error),
            (outcome, _) => self.settled(*last, outcome),
        }
    }

    /// Remembers the scheme that was answered to.
    fn settled<T>(&self, scheme: Scheme, outcome: Result<T, RequestError>) -> Result<T, RequestError> {
        if !matches!(outcome, Err(RequestError::Transport { .. })) {
            *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme);
        }
        outcome
    }

    /// One request to a URL that the registry gave us, such as that of an upload: authenticated as needed if it is the registry's own.
    pub(super) fn authenticated(&self, url: &Uri, message: &Message<'_>) -> Result<Response<ureq::Body>, RequestError> {
        let is_own = url.authority().is_some_and(|authority| authority.as_str() == self.endpoint.host);
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| is_own);
        let Answer { response, is_first_hand } = self.http.exchange(url, message, known.as_ref())?;
        if response.status() != StatusCode::UNAUTHORIZED || !is_first_hand || !is_own {
            return Ok(response);
        }
        // A token may have run out meanwhile: once more with a new one.
        let authorization = self.authorize(&response, known.as_ref())?;
        let answer = self.http.exchange(url, message, Some(&authorization))?;
        if answer.response.status() == StatusCode::UNAUTHORIZED && answer.is_first_hand {
            let registry = &self.endpoint.registry;
            let what = format!("{registry} refuses the user, password or token (401 Unauthorized): log in (agent image login {registry})");
            return Err(RequestError::Authentication(what));
        }
        Ok(answer.response)
    }

    /// Where an answer to a request below the repository leads.
    pub(super) fn location_below(&self, path: &str, response: &Response<ureq::Body>) -> Result<Uri, RequestError> {
        let settled = *self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        self.location(&self.url(settled.unwrap_or(Scheme::Https), path)?, response)
    }

    /// Where an answer leads, such as the way an upload goes on: never from TLS to a place without.
    pub(super) fn location(&self, from: &Uri, response: &Response<ureq::Body>) -> Result<Uri, RequestError> {
        let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
        let target = resolve(from, location).ok_or_else(|| RequestError::Redirect(without_query(location)))?;
        let is_down = from.scheme_str() == Some("https") && target.scheme_str() != Some("https");
        if !is_down {
            return Ok(target);
        }
        // Behind a proxy that ends TLS a registry may not know how it is called.
        if target.authority() != from.authority() {
            return Err(RequestError::Redirect(without_query(location)));
        }
        let same = target.path_and_query().and_then(|path| format!("https://{}{path}", self.endpoint.host).parse().ok());
        same.ok_or_else(|| RequestError::Redirect(without_query(location)))
    }

    fn url(&self, scheme: Scheme, path: &str) -> Result<Uri, RequestError> {
        let Endpoint { host, repository, .. } = self.endpoint;
        let slash = if repository.is_empty() { "" } else { "/" };
        let url = format!("{}://{host}/v2/{repository}{slash}{path}", scheme.as_str());
        url.parse().map_err(|_| RequestError::Authentication(format!("{url:?} is not a URL")))
    }

    /// Something that is good for the registry and is not what was just refused.
    fn authorize(&self, response: &Response<ureq::Body>, refused: Option<&Authorization>) -> Result<Authorization, RequestError> {
        let mut slot = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            // Somebody was quicker.
            Some(known) if Some(known) != refused => Ok(known.clone()),
            _ => {
                let fresh = self.answer_challenge(response)?;
                *slot = Some(fresh.clone());
                Ok(fresh)
            }
        }
    }

    /// Answers a challenge: a token from the realm it names, anonymous or with our password, else the password itself.
    fn answer_challenge(&self, response: &Response<ureq::Body>) -> Result<Authorization, RequestError> {
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<_> = headers.iter().filter_map(|value| value.to_str().ok()).flat_map(parse_challenges).collect();
        let Endpoint { registry, repository, .. } = self.endpoint;
        let found = match self.given {
            Some(given) => Some(given.clone()),
            None => self.access.credentials.find(registry, repository)?,
        };
        for challenge in &challenges {
            match (challenge, &found) {
                (Challenge::Bearer { realm, service, scope }, credential) => {
                    let (service, told, credential) = (service.as_deref(), scope.as_deref(), credential.as_ref());
                    return token::fetch(&self.http, &TokenRequest { realm, service, wanted: &self.scopes, told, credential });
                }
                (Challenge::Basic, Some(Credential::Password { user, password })) => return Ok(Authorization::basic(user, password)),
                (Challenge::Basic, Some(Credential::RegistryToken(token))) => return Ok(Authorization::bearer(token.reveal())),
                (Challenge::Basic, Some(Credential::IdentityToken(_)) | None) => {}
            }
        }
        let what = if challenges.is_empty() { "it refuses us without saying how to authenticate" } else { "it asks for a password" };
        Err(RequestError::Authentication(format!("{what}: log in (agent image login {registry})")))
    }
}

/// Waits so long, or until what is asked for is not wanted any more.
fn pause(wait: Duration, wanted: &Wanted<'_>) -> Result<(), RequestError> {
    let until = Instant::now() + wait;
    loop {
        wanted()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(PAUSE));
    }
}

/// The media types of manifests that are read; `*/*` is for blobs.
fn accepted_manifests() -> String {
    use media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
    [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST, "*/*"].join(", ")
}

/// Whether an answer 400 is the complaint of a TLS server about plain HTTP: `None` if so, else the error that it is.
fn wants_tls(mut response: Response<ureq::Body>) -> Option<RequestError> {
    let mut body = Vec::new();
    // Go, nginx and Apache say it in words.
    let _ = response.body_mut().as_reader().take(COMPLAINT_BYTES_MAX).read_to_end(&mut body);
    let text = String::from_utf8_lossy(&body).to_ascii_uppercase();
    let complains = ["HTTPS", "SSL", "TLS"].iter().any(|word| text.contains(word));
    if complains { None } else { accepted(response).err() }
}
