//! A registry over the local store: the OCI distribution API, so that a host can be the registry of others.
//!
//! ```text
//! listener ─► connection (a thread each, bounded) ─request─► route ─► access ─► pull │ push ─► response
//!                                                                                │      └─► uploads, staged until a manifest names them
//!                                                                                └─► names, publish::manifest_of, blobs of the store
//! ```
//!
//! Blocking, with a thread a connection: what it does is read files, write files, and hash; an async server would hand all of that to
//! threads again. HTTP/1.1 is read by `httparse`, the parser our client uses too; what is not needed here (trailers, upgrades,
//! pipelining) is refused rather than half done.

mod access;
mod connection;
mod kept;
mod listener;
mod names;
mod problem;
mod pull;
mod push;
mod request;
mod response;
mod route;
mod upload;

pub use access::{Access, AccessError, Anonymous};
pub use listener::{ServeError, Server, Tls};

use kept::KeptManifests;
use problem::Problem;
use request::{Method, Request};
use response::Response;
use route::Route;
use runtime::image::store::ImageStore;
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
    kept: KeptManifests,
}

impl Registry {
    /// A registry over a store. Images pushed to it are stored as `<own_name>/<repository>:<tag>`, their manifests in a directory
    /// beside the store.
    pub fn new(store: ImageStore, own_name: String, access: Access, writing: Writing) -> Result<Self, ServeError> {
        let uploads = Uploads::new(&store)?;
        let directory = store.directory().with_file_name("registry");
        let kept = KeptManifests::open(&directory).map_err(|source| ServeError::Directory { directory, source })?;
        Ok(Self { store, own_name, access, writing, uploads, kept })
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
        let changes = !matches!(request.method, Method::Get | Method::Head);
        self.access.admit(request, changes)?;
        let route = Route::of(&request.path).ok_or_else(Problem::no_such_route)?;
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
            (Method::Get, Route::Referrers { digest }) => pull::referrers(&digest),
            (Method::Post, Route::Uploads { repository }) => self.begin_upload(request, &repository),
            (Method::Get, Route::Upload { repository, id }) => self.upload_status(&repository, &id),
            (Method::Patch, Route::Upload { repository, id }) => self.append(request, &repository, &id),
            (Method::Put, Route::Upload { repository, id }) => self.finish_upload(request, &repository, &id),
            (Method::Delete, Route::Upload { repository: _, id }) => self.cancel_upload(&id),
            // Blobs go with the images that have them.
            (Method::Get | Method::Head | Method::Post | Method::Put | Method::Patch | Method::Delete, _route) => {
                Err(Problem::method_not_allowed())
            }
        }
    }
}
