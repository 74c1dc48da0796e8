//! Docker's `config.json`, of which podman's `auth.json` is the part with the passwords.
//!
//! ```text
//! {"auths": {"registry.example": {"auth": "<base64 of user:password>"},
//!            "registry.example/team": {…},                        per repository (podman)
//!            "https://index.docker.io/v1/": {"identitytoken": …}},
//!  "credsStore": "secretservice", "credHelpers": {"gcr.io": "gcloud"}}
//! ```

use super::keeper::{self, HelperError};
use super::{Credential, CredentialsError};
use crate::store::{FileError, atomic};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::value::Secret;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// What Docker calls its own registry here, for history's sake.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Largest file that is read: thousands of registries.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    store: String,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
    #[serde(rename = "registrytoken")]
    registry_token: String,
}

/// Where a password was put or removed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file, readable by its owner.
    File(PathBuf),
    /// In the program `docker-credential-<name>`.
    Helper(String),
}

/// What a file knows for a repository: the helper named for the registry, else the entry with the longest name that covers the
/// repository, else the helper for all.
pub(super) fn find(path: &Path, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialsError> {
    let document = read(path)?;
    let ask = |name: &String| ask(name, registry);
    if let Some(name) = document.helpers.iter().find(|(key, _)| names(key, registry)).map(|(_, name)| name)
        && let Some(found) = ask(name)?
    {
        return Ok(Some(found));
    }
    let mut name = if repository.is_empty() { registry.to_owned() } else { format!("{registry}/{repository}") };
    while name.len() > registry.len() {
        if let Some(found) = document.auths.get(&name).map(|entry| credential(path, &name, entry)).transpose()?.flatten() {
            return Ok(Some(found));
        }
        name.truncate(name.rfind('/').unwrap_or_default());
    }
    for (key, entry) in document.auths.iter().filter(|(key, _)| names(key, registry)) {
        if let Some(found) = credential(path, key, entry)? {
            return Ok(Some(found));
        }
    }
    if document.store.is_empty() { Ok(None) } else { ask(&document.store) }
}

/// Keeps the password of a registry where the file says: in the helper for it, else in the file, which is made if it is not there.
pub fn store(path: &Path, registry: &str, user: &str, password: &Secret) -> Result<Kept, CredentialsError> {
    let document = read(path)?;
    if let Some(name) = helper_of(&document, registry) {
        keeper::store(name, key(registry), user, password).map_err(|source| failed(registry, source))?;
        // Docker notes which registries the helper knows.
        change(path, |auths| drop(auths.insert(key(registry).to_owned(), Value::Object(Map::new()))))?;
        return Ok(Kept::Helper(name.to_owned()));
    }
    let auth = STANDARD.encode(format!("{user}:{}", password.reveal()));
    change(path, |auths| drop(auths.insert(key(registry).to_owned(), serde_json::json!({ "auth": auth }))))?;
    Ok(Kept::File(path.to_owned()))
}

/// Removes the password of a registry; `None` if the file had none and names no helper for it.
pub fn erase(path: &Path, registry: &str) -> Result<Option<Kept>, CredentialsError> {
    let document = read(path)?;
    let known = document.auths.keys().any(|key| names(key, registry));
    let helper = helper_of(&document, registry);
    if let Some(name) = helper {
        keeper::erase(name, key(registry)).map_err(|source| failed(registry, source))?;
    }
    if known {
        change(path, |auths| auths.retain(|key, _| !names(key, registry)))?;
    }
    Ok(helper.map(|name| Kept::Helper(name.to_owned())).or(known.then(|| Kept::File(path.to_owned()))))
}

fn helper_of<'a>(document: &'a Document, registry: &str) -> Option<&'a str> {
    let own = document.helpers.iter().find(|(key, _)| names(key, registry)).map(|(_, name)| name);
    own.or(Some(&document.store)).map(String::as_str).filter(|name| !name.is_empty())
}

fn ask(name: &str, registry: &str) -> Result<Option<Credential>, CredentialsError> {
    let found = keeper::get(name, key(registry)).map_err(|source| failed(registry, source))?;
    Ok(found.map(|(user, password)| match user.as_str() {
        // What helpers call a token that is no password.
        "<token>" => Credential::IdentityToken(password),
        _ => Credential::Password { user, password },
    }))
}

fn failed(registry: &str, source: HelperError) -> CredentialsError {
    CredentialsError::Helper { registry: registry.to_owned(), source }
}

/// The key that Docker uses.
fn key(registry: &str) -> &str {
    if registry == "docker.io" { HUB_KEY } else { registry }
}

/// Whether a key of the file means the registry: its host, or a URL of it as old Dockers wrote.
fn names(key: &str, registry: &str) -> bool {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    let host = match bare.split_once('/') {
        None => bare,
        // `v1` and `v2` are the roots of the two APIs; any other path is a repository.
        Some((host, "" | "v1" | "v1/" | "v2" | "v2/")) => host,
        Some(_) => return false,
    };
    host == registry || (registry == "docker.io" && ["index.docker.io", "registry-1.docker.io"].contains(&host))
}

fn credential(path: &Path, key: &str, entry: &Entry) -> Result<Option<Credential>, CredentialsError> {
    let broken = || CredentialsError::Format { path: path.to_owned(), place: format!(": the entry of {key}") };
    if !entry.registry_token.is_empty() {
        return Ok(Some(Credential::RegistryToken(Secret::new(&entry.registry_token))));
    }
    if !entry.identity_token.is_empty() {
        return Ok(Some(Credential::IdentityToken(Secret::new(&entry.identity_token))));
    }
    if !entry.auth.is_empty() {
        let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(broken)?;
        // Docker pads passwords with NUL.
        let (user, password) = decoded.trim_end_matches('\0').split_once(':').ok_or_else(broken)?;
        return Ok(Some(Credential::Password { user: user.to_owned(), password: Secret::new(password) }));
    }
    let named = !entry.username.is_empty();
    Ok(named.then(|| Credential::Password { user: entry.username.clone(), password: Secret::new(&entry.password) }))
}

fn read(path: &Path) -> Result<Document, CredentialsError> {
    match read_bytes(path)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| format_error(path)),
        None => Ok(Document::default()),
    }
}

/// The content; `None` if there is no such file or nothing in it.
fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        // Podman's directory belongs to another user where the variable came along with sudo.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(CredentialsError::File(FileError::of("open", path)(error))),
    };
    let mut bytes = Vec::new();
    let read = io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX + 1), &mut bytes);
    read.map_err(|error| CredentialsError::File(FileError::of("read", path)(error)))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format_error(path));
    }
    Ok((!bytes.trim_ascii().is_empty()).then_some(bytes))
}

fn format_error(path: &Path) -> CredentialsError {
    CredentialsError::Format { path: path.to_owned(), place: String::new() }
}

/// Changes the entries and leaves all else in the file as it is. The file is then readable by its owner alone.
fn change(path: &Path, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<(), CredentialsError> {
    // A link leads to where the file is kept: that one is changed.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut document = match read_bytes(path)? {
        Some(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes).map_err(|_| format_error(path))?,
        None => Map::new(),
    };
    let auths = document.entry("auths").or_insert_with(|| Value::Object(Map::new()));
    edit(auths.as_object_mut().ok_or_else(|| format_error(path))?);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|error| CredentialsError::File(FileError::of("create", parent)(error)))?;
    atomic::write_json(path, &document).map_err(CredentialsError::File)
}
