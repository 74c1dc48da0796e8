//! A registry over the local store: the OCI distribution API, so that a host can be the registry of others.
//!
//! ```text
//! listener ─► connection (a thread each, bounded and paced) ─request─► route ─► access (passwords, tokens)
//!                                                                          ├─► pull ─► kept │ names of the store, publish::manifest_of
//!                                                                          ├─► push: uploads, staged until a manifest names them
//!                                                                          └─► manifests ─► the store: images that run here
//!                                                                                       └─► kept: all else, as it came
//! ```
//!
//! Blocking, with a thread a connection: what it does is read files, write files, and hash; an async server would hand all of that to
//! threads again. HTTP/1.1 is read by `httparse`, the parser our client uses too; what is not needed here (trailers, upgrades,
//! pipelining) is refused rather than half done.

mod access;
mod connection;
mod document;
mod holdings;
mod kept;
mod listener;
mod manifests;
mod names;
mod pace;
mod problem;
mod pull;
mod push;
mod request;
mod response;
mod route;
mod token;
mod upload;

pub use access::{Access, AccessError, Anonymous};
pub use holdings::{Holdings, remove_garbage};
pub use listener::{ServeError, Server, Tls};

use kept::Kept;
use problem::Problem;
use request::{Method, Request};
use response::Response;
use route::Route;
use runtime::engine::Engine;
use runtime::image::store::{ImageStore, NoRoom};
use std::sync::{Mutex, PoisonError};
use upload::Uploads;

/// Whether images can be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// No: every request that would change something is refused.
    Refused,
    /// Yes.
    Allowed,
}

/// What is served, and to whom.
pub struct Registry {
    store: ImageStore,
    /// Host and port that images pushed here are named after in the store.
    own_name: String,
    access: Access,
    writing: Writing,
    uploads: Uploads,
    kept: Kept,
    make_room: Box<MakeRoom>,
    /// Held by whoever makes room: the others look again when it is done.
    making_room: Mutex<()>,
}

/// Removes so many bytes of what nothing needs on this host, if there are as many.
pub type MakeRoom = dyn Fn(NoRoom) + Send + Sync;

impl Registry {
    /// A registry over a store. Images pushed to it are stored as `<own_name>/<repository>:<tag>`, their manifests and all that is no
    /// image of this host in a directory beside the store.
    pub fn new(engine: &Engine, own_name: String, access: Access, writing: Writing, make_room: Box<MakeRoom>) -> Result<Self, ServeError> {
        let (store, directory) = (engine.images().clone(), engine.places().registry());
        let kept = Kept::open(&directory)?;
        let uploads = Uploads::new(&directory)?;
        let registry = Self { store, own_name, access, writing, uploads, kept, make_room, making_room: Mutex::new(()) };
        registry.forget_removed()?;
        remove_garbage(&directory)?;
        Ok(registry)
    }

    /// Forgets what the operator of this host removed or renamed meanwhile.
    fn forget_removed(&self) -> Result<(), ServeError> {
        let _alone = self.kept.change()?;
        for (place, entry) in self.kept.all() {
            if entry.image.is_some() && self.store.find(&self.key(&place))? != entry.image {
                self.kept.remove(&place)?;
            }
        }
        Ok(())
    }

    /// Whether so many bytes more would fit, once what nothing needs is removed.
    fn check_room(&self, need: u64) -> Result<(), Problem> {
        self.with_room(|| self.store.check_room(need).map_err(Problem::failed))
    }

    /// Does something that takes room. If there is none, some is made, and it is done again. `attempt` holds no lease when it returns.
    fn with_room<T>(&self, attempt: impl Fn() -> Result<T, Problem>) -> Result<T, Problem> {
        let refusal = match attempt() {
            Err(Problem { no_room: Some(refusal), .. }) => refusal,
            other => return other,
        };
        let _one = self.making_room.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.check_room(refusal.need()).is_err() {
            self.uploads.give_up_old();
            (self.make_room)(*refusal);
        }
        attempt()
    }

    /// Answers a request. What fails is an answer too.
    fn answer(&self, request: &mut Request<'_>) -> Response {
        let answer = self.try_answer(request);
        answer.unwrap_or_else(|problem| {
            if let Some(cause) = &problem.cause {
                tracing::warn!(path = request.path, cause, "request failed");
            }
            problem.response()
        })
    }

    fn try_answer(&self, request: &mut Request<'_>) -> Result<Response, Problem> {
        let route = Route::of(&request.path).ok_or_else(Problem::no_such_route)?;
        if route == Route::Token {
            return self.access.token(request, &self.own_name);
        }
        self.access.admit(request, &route, &self.own_name)?;
        let changes = !matches!(request.method, Method::Get | Method::Head);
        if changes && self.writing == Writing::Refused {
            return Err(Problem::read_only());
        }
        match (request.method, route) {
            (Method::Get | Method::Head, Route::Root) => Ok(Response::json(200, &serde_json::json!({}))),
            (Method::Get, Route::Catalog) => self.catalog(request),
            (Method::Get, Route::Tags { repository }) => self.tags(request, &repository),
            (Method::Get | Method::Head, Route::Manifest { repository, reference }) => self.manifest(request, &repository, &reference),
            (Method::Put, Route::Manifest { repository, reference }) => self.put_manifest(request, &repository, &reference),
            (Method::Delete, Route::Manifest { repository, reference }) => self.delete_manifest(&repository, &reference),
            (Method::Get | Method::Head, Route::Blob { repository, digest }) => self.blob(request, &repository, &digest),
            (Method::Delete, Route::Blob { repository, digest }) => self.delete_blob(&repository, &digest),
            (Method::Get, Route::Referrers { repository, digest }) => self.referrers(request, &repository, &digest),
            (Method::Post, Route::Uploads { repository }) => self.begin_upload(request, &repository),
            (Method::Get, Route::Upload { repository, id }) => self.upload_status(&repository, &id),
            (Method::Patch, Route::Upload { repository, id }) => self.append(request, &repository, &id),
            (Method::Put, Route::Upload { repository, id }) => self.finish_upload(request, &repository, &id),
            (Method::Delete, Route::Upload { repository, id }) => self.cancel_upload(&repository, &id),
            (Method::Get | Method::Head | Method::Post | Method::Put | Method::Patch | Method::Delete, _route) => {
                Err(Problem::method_not_allowed())
            }
        }
    }
}
