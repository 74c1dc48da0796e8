//! What is asked for and changes nothing: catalog, tags, manifests, blobs.

use super::Registry;
use super::document::{self, Document};
use super::kept::{Entry, Place};
use super::names::{Named, Names};
use super::problem::Problem;
use super::request::Request;
use super::response::{Body, Response};
use runtime::image::ImageId;
use runtime::image::manifest::media_type;
use runtime::image::publish::{Published, manifest_of};
use serde_json::{Value, json};
use spec::value::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

/// Most names in one answer, and how many there are if nobody says.
const PAGE_MAX: usize = 1_000;

/// A manifest as it is served.
pub(super) struct Served {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub digest: Digest,
}

impl From<Published> for Served {
    fn from(published: Published) -> Self {
        Self { bytes: published.manifest, media_type: published.media_type, digest: published.digest }
    }
}

impl Registry {
    pub(super) fn catalog(&self, request: &Request<'_>) -> Result<Response, Problem> {
        let names = self.names()?;
        let pushed = self.kept.repositories();
        let all: BTreeSet<&str> = names.repositories().iter().chain(&pushed).map(String::as_str).collect();
        let (page, next) = page(all.into_iter(), request)?;
        Ok(linked(Response::json(200, &json!({"repositories": page})), "/v2/_catalog", next))
    }

    pub(super) fn tags(&self, request: &Request<'_>, repository: &str) -> Result<Response, Problem> {
        let names = self.names()?;
        let pushed = self.kept.of_repository(repository);
        let known = names.tags(repository);
        if known.is_none() && pushed.is_empty() {
            return Err(Problem::new(404, "NAME_UNKNOWN", format!("no repository {repository}")));
        }
        let pushed = pushed.iter().filter(|(place, entry)| self.is_current(place, entry)).map(|(place, _)| place.reference.as_str());
        let all: BTreeSet<&str> = known.into_iter().flat_map(|tags| tags.keys()).map(String::as_str).chain(pushed).collect();
        // What was pushed by digest alone has no tag.
        let (page, next) = page(all.into_iter().filter(|tag| !tag.contains(':')), request)?;
        let body = json!({"name": repository, "tags": page});
        Ok(linked(Response::json(200, &body), &format!("/v2/{repository}/tags/list"), next))
    }

    pub(super) fn manifest(&self, request: &Request<'_>, repository: &str, reference: &str) -> Result<Response, Problem> {
        let served = self.served(repository, reference)?;
        let digest = served.digest.to_string();
        if is_not_modified(request, &digest) {
            return Ok(tagged(Response::empty(304), &digest));
        }
        Ok(tagged(Response::bytes(200, &served.media_type, served.bytes), &digest))
    }

    /// The manifest that a tag or digest leads to in a repository.
    pub(super) fn served(&self, repository: &str, reference: &str) -> Result<Served, Problem> {
        if let Some((_, entry)) = self.kept.find(repository, reference).filter(|(place, entry)| self.is_current(place, entry)) {
            let bytes = self.kept.bytes(&entry.digest).map_err(Problem::failed)?;
            return Ok(Served { bytes, media_type: entry.document.media_type.clone(), digest: entry.digest });
        }
        let names = self.names()?;
        let unknown = || Problem::manifest_unknown(reference);
        let tags = names.tags(repository).ok_or_else(unknown)?;
        let publish = |named: &Named| manifest_of(&self.store, &named.id).map(Served::from).map_err(Problem::failed);
        if let Some(named) = tags.get(reference) {
            return publish(named);
        }
        if !reference.contains(':') {
            return Err(unknown());
        }
        let digest = digest(reference)?;
        // Those that are known by this manifest first: to make one costs the compression of its layers.
        let known = self.store.list().map_err(Problem::failed)?;
        let is_known = |named: &Named| known.iter().any(|image| image.id == named.id && image.manifest == Some(digest));
        let (first, rest): (Vec<_>, Vec<_>) = tags.values().partition(|named| is_known(named));
        for named in first.into_iter().chain(rest) {
            let served = publish(named)?;
            if served.digest == digest {
                return Ok(served);
            }
        }
        Err(unknown())
    }

    /// Whether what was pushed is still what its name stands for, and all of it here. The operator of this host may have given the
    /// name to something else; a layer's compressed form may have been collected, and then the store makes a manifest of its own.
    fn is_current(&self, place: &Place, entry: &Entry) -> bool {
        let Some(id) = &entry.image else { return true };
        let is_named = self.store.find(&self.key(place)).is_ok_and(|found| found.as_ref() == Some(id));
        is_named && entry.document.blobs.iter().all(|part| self.has_blob(&part.digest))
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        self.store.has_blob(digest) || self.kept.open_blob(digest).is_some()
    }

    pub(super) fn blob(&self, request: &Request<'_>, repository: &str, text: &str) -> Result<Response, Problem> {
        let file = self.open_blob(repository, &digest(text)?)?.ok_or_else(|| Problem::blob_unknown(text))?;
        if is_not_modified(request, text) {
            return Ok(tagged(Response::empty(304), text));
        }
        let size = file.metadata().map_err(Problem::failed)?.len();
        let whole = Response { status: 200, headers: Vec::new(), body: Body::File { file, offset: 0, length: size } };
        let response = match request.header("range").filter(|_| is_same(request, text)).map(|range| part(range, size)) {
            None | Some(Part::Whole) => whole,
            Some(Part::Bytes { first, last }) => {
                let Response { headers, body, .. } = whole;
                let Body::File { file, .. } = body else { unreachable!("a blob is a file") };
                let body = Body::File { file, offset: first, length: last - first + 1 };
                Response { status: 206, headers, body }.with("Content-Range", format!("bytes {first}-{last}/{size}"))
            }
            Some(Part::Beyond) => {
                let mut problem = Problem::new(416, "SIZE_INVALID", format!("the blob has {size} bytes"));
                problem.headers.push(("Content-Range", format!("bytes */{size}")));
                return Err(problem);
            }
        };
        let response = response.with("Accept-Ranges", "bytes").with("Content-Type", "application/octet-stream");
        // What a digest names never changes.
        Ok(tagged(response, text).with("Cache-Control", "max-age=31536000"))
    }

    /// `GET …/referrers/<digest>`: what was pushed here about a manifest, whether that is here or not.
    pub(super) fn referrers(&self, request: &Request<'_>, repository: &str, text: &str) -> Result<Response, Problem> {
        let subject = digest(text)?;
        let wanted = request.query("artifactType");
        let entries = self.kept.of_repository(repository).into_iter().map(|(_, entry)| entry);
        let about = entries.filter(|entry| entry.document.subject == Some(subject));
        let fits = |entry: &Entry| wanted.is_none() || entry.document.artifact_type.as_deref() == wanted;
        // One that has several names is one all the same.
        let found: BTreeMap<Digest, Entry> = about.filter(fits).map(|entry| (entry.digest, entry)).collect();
        let listed = found.values().map(|entry| self.referrer(entry)).collect::<Result<Vec<_>, _>>()?;
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": listed});
        let response = Response::bytes(200, media_type::OCI_INDEX, index.to_string().into_bytes());
        Ok(if wanted.is_some() { response.with("OCI-Filters-Applied", "artifactType") } else { response })
    }

    /// How something is listed among what is about its subject.
    fn referrer(&self, entry: &Entry) -> Result<Value, Problem> {
        let Document { media_type, artifact_type, .. } = &*entry.document;
        let mut descriptor = json!({"mediaType": media_type, "digest": entry.digest, "size": entry.size});
        if let Some(kind) = artifact_type {
            descriptor["artifactType"] = json!(kind);
        }
        let annotations = document::annotations(&self.kept.bytes(&entry.digest).map_err(Problem::failed)?);
        if !annotations.is_empty() {
            descriptor["annotations"] = json!(annotations);
        }
        Ok(descriptor)
    }

    /// A blob that was uploaded or kept, or is in the store, or is made because its image is.
    pub(super) fn open_blob(&self, repository: &str, digest: &Digest) -> Result<Option<File>, Problem> {
        if let Some(file) = self.uploads.open_blob(digest)?.or_else(|| self.kept.open_blob(digest)) {
            return Ok(Some(file));
        }
        if let Some(file) = self.store.open_blob(digest).map_err(Problem::failed)? {
            return Ok(Some(file));
        }
        let names = self.names()?;
        let ids: BTreeSet<ImageId> = names.tags(repository).into_iter().flat_map(|tags| tags.values()).map(|named| named.id).collect();
        for id in ids {
            // It holds a lease: until the file is open nothing is collected.
            let published = manifest_of(&self.store, &id).map_err(Problem::failed)?;
            if published.config.digest == *digest || published.layers.iter().any(|layer| layer.digest == *digest) {
                return self.store.open_blob(digest).map_err(Problem::failed);
            }
        }
        Ok(None)
    }

    pub(super) fn names(&self) -> Result<Names, Problem> {
        Ok(Names::new(&self.store.names_of_images().map_err(Problem::failed)?, &self.own_name))
    }
}

pub(super) fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::digest_invalid(format!("{text:?} is not sha256: and 64 hexadecimal digits")))
}

fn tagged(response: Response, digest: &str) -> Response {
    response.with("Docker-Content-Digest", digest).with("ETag", format!("\"{digest}\""))
}

fn is_not_modified(request: &Request<'_>, digest: &str) -> bool {
    let matches = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"') == digest || tag.trim() == "*";
    request.header("if-none-match").is_some_and(|tags| tags.split(',').any(matches))
}

/// Whether a range is of the blob the client began with.
fn is_same(request: &Request<'_>, digest: &str) -> bool {
    request.header("if-range").is_none_or(|tag| tag.trim().trim_matches('"') == digest)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Bytes { first: u64, last: u64 },
    Beyond,
}

/// RFC 9110, "Range". What is not understood, several ranges among it, is the whole; one that ends before it begins is refused, as
/// the specification's conformance program has it.
fn part(range: &str, size: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else { return Part::Whole };
    let number = |text: &str| text.trim().parse::<u64>();
    match (number(first), number(last)) {
        (Ok(first), Ok(last)) if first > last => Part::Beyond,
        (Ok(first), _) if first >= size => Part::Beyond,
        (Ok(first), Ok(last)) => Part::Bytes { first, last: last.min(size - 1) },
        (Ok(first), Err(_)) if last.trim().is_empty() => Part::Bytes { first, last: size - 1 },
        (Err(_), Ok(0)) if first.trim().is_empty() => Part::Beyond,
        (Err(_), Ok(_)) if first.trim().is_empty() && size == 0 => Part::Beyond,
        (Err(_), Ok(count)) if first.trim().is_empty() => Part::Bytes { first: size.saturating_sub(count), last: size - 1 },
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Part::Whole,
    }
}

/// Names of one page; the last of them and how many were asked for, if there are more.
type Page<'a> = (Vec<&'a str>, Option<(&'a str, usize)>);

/// One page of sorted names, and the last one on it if there are more.
fn page<'a>(names: impl Iterator<Item = &'a str>, request: &Request<'_>) -> Result<Page<'a>, Problem> {
    let count = match request.query("n").map(str::parse::<usize>) {
        None => PAGE_MAX,
        Some(Ok(count)) => count.min(PAGE_MAX),
        Some(Err(_)) => return Err(Problem::new(400, "PAGINATION_NUMBER_INVALID", "n is a number")),
    };
    let last = request.query("last").unwrap_or_default();
    let mut rest = names.skip_while(|name| *name <= last);
    let page: Vec<&str> = rest.by_ref().take(count).collect();
    let next = rest.next().and(page.last().copied()).map(|last| (last, count));
    Ok((page, next))
}

fn linked(response: Response, path: &str, next: Option<(&str, usize)>) -> Response {
    match next {
        None => response,
        Some((last, count)) => response.with("Link", format!("<{path}?n={count}&last={last}>; rel=\"next\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, part};

    #[test]
    fn ranges() {
        let bytes = |first, last| Part::Bytes { first, last };
        let cases = [
            ("bytes=0-", bytes(0, 9)),
            ("bytes=3-5", bytes(3, 5)),
            ("bytes=3-99", bytes(3, 9)),
            ("bytes=-4", bytes(6, 9)),
            ("bytes=-99", bytes(0, 9)),
            ("bytes=9-9", bytes(9, 9)),
            ("bytes=10-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=5-3", Part::Beyond),
            ("bytes=0-1,3-4", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=x-y", Part::Whole),
        ];
        for (range, expected) in cases {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!((part("bytes=0-", 0), part("bytes=-1", 0)), (Part::Beyond, Part::Beyond));
    }
}
