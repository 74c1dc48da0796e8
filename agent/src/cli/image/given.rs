//! What a build is given besides its context: arguments, labels, secrets and ssh agents, in the words docker has for them.

use crate::cli::Failure;
use anyhow::{Context as _, anyhow};
use runtime::builder::{Given, KEY_BYTES_MAX, KeyError, PrivateKey, SECRET_BYTES_MAX, Secret, SshAgent};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// The Dockerfile's name where `--file` gives none.
const DOCKERFILE: &str = "Dockerfile";

/// The Dockerfile that `--file` means: as with docker a path from here, even out of the context; one that is not here is one of the
/// context. What lies in the context is named from there.
pub(super) fn dockerfile(context: &Path, given: Option<&Path>) -> PathBuf {
    let Some(given) = given else { return DOCKERFILE.into() };
    if !context.is_dir() || given == Path::new("-") || !given.is_file() {
        return given.to_owned();
    }
    let named = |given: &Path| Some(std::path::absolute(given).ok()?.parent()?.canonicalize().ok()?.join(given.file_name()?));
    let Some(path) = named(given) else { return given.to_owned() };
    let within = context.canonicalize().ok().and_then(|context| path.strip_prefix(context).map(Path::to_owned).ok());
    within.unwrap_or(path)
}

/// Reads `--secret` and `--ssh`.
pub(super) fn read(secrets: &[String], agents: &[String]) -> Result<Given, Failure> {
    Ok(Given {
        secrets: secrets.iter().map(|text| secret(text)).collect::<Result<_, _>>()?,
        agents: agents.iter().map(|text| agent(text)).collect::<Result<_, _>>()?,
    })
}

/// `KEY=value`; as with docker a bare `KEY` is a label without a value.
pub(super) fn labels(texts: &[String]) -> BTreeMap<String, String> {
    let pair =
        |text: &String| text.split_once('=').map_or((text.clone(), String::new()), |(key, value)| (key.to_owned(), value.to_owned()));
    texts.iter().map(pair).collect()
}

/// `KEY=value`; as with docker a bare `KEY` takes the value from the environment, and nothing if there is none.
pub(super) fn arguments(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Some((key.to_owned(), value.to_owned())),
        None => Some((text.clone(), std::env::var(text).ok()?)),
    };
    texts.iter().filter_map(pair).collect()
}

/// `id=ID`, then `src=FILE` or `env=VARIABLE`; with neither the variable of that name, or the file.
fn secret(text: &str) -> Result<(String, Secret), Failure> {
    let mut options = BTreeMap::new();
    for option in text.split(',') {
        let (name, value) = option.split_once('=').ok_or_else(|| anyhow!("--secret {text}: {option:?} is not name=value"))?;
        let name = match name {
            "source" => "src",
            "id" | "src" | "env" | "type" => name,
            _ => return Err(anyhow!("--secret {text}: there is no option {name:?}").into()),
        };
        options.insert(name, value);
    }
    let id = *options.get("id").ok_or_else(|| anyhow!("--secret {text}: it needs an id=…"))?;
    let bytes = match (options.get("type").copied(), options.get("src").copied(), options.get("env").copied()) {
        (Some("env"), None, None) => variable(id)?,
        (Some("env"), Some(name), None) | (None | Some("env"), None, Some(name)) => variable(name)?,
        (None | Some("file"), Some(path), None) => file(Path::new(path))?,
        (None, None, None) if std::env::var_os(id).is_some() => variable(id)?,
        (None | Some("file"), None, None) => file(Path::new(id))?,
        (Some("env" | "file") | None, _, _) => return Err(anyhow!("--secret {text}: it has src=… or env=…, not both").into()),
        (Some(other), _, _) => return Err(anyhow!("--secret {text}: type is file or env, not {other:?}").into()),
    };
    let secret = Secret::new(bytes).ok_or_else(|| anyhow!("secret {id} is larger than {SECRET_BYTES_MAX} bytes"))?;
    Ok((id.to_owned(), secret))
}

fn variable(name: &str) -> Result<Vec<u8>, Failure> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).ok_or_else(|| anyhow!("the environment has no {name}"))?;
    Ok(value.into_vec())
}

fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("read secret {}", path.display()))?;
    Ok(bytes)
}

/// `default`, `ID`, or `ID=` with the socket of an agent or files of keys; with neither the agent of the environment.
fn agent(text: &str) -> Result<(String, SshAgent), Failure> {
    let (id, paths) = text.split_once('=').map_or((text, None), |(id, paths)| (id, Some(paths)));
    let from_environment = || std::env::var("SSH_AUTH_SOCK").ok();
    let paths = paths.map(str::to_owned).or_else(from_environment);
    let paths = paths.ok_or_else(|| anyhow!("--ssh {text}: SSH_AUTH_SOCK is not set: is an agent running?"))?;
    let paths: Vec<&Path> = paths.split(',').map(Path::new).collect();
    let is_socket = |path: &&Path| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    match paths.as_slice() {
        [socket] if is_socket(socket) => {
            let socket = std::path::absolute(socket).with_context(|| format!("--ssh {text}"))?;
            return Ok((id.to_owned(), SshAgent::Socket(socket)));
        }
        paths if paths.iter().any(is_socket) => return Err(anyhow!("--ssh {text}: one agent, or keys, not both").into()),
        _ => {}
    }
    let keys = paths.into_iter().map(|path| key(path).map_err(|error| because(text, path, error)));
    Ok((id.to_owned(), SshAgent::Keys(keys.collect::<Result<_, _>>()?)))
}

fn key(path: &Path) -> anyhow::Result<PrivateKey> {
    let mut text = String::new();
    File::open(path)?.take(KEY_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok(PrivateKey::parse(&text)?)
}

fn because(text: &str, path: &Path, error: anyhow::Error) -> Failure {
    let hint = error.is::<KeyError>().then(|| format!("add the key to an agent and give its socket: ssh-add {0}; --ssh …", path.display()));
    Failure::Error { error: error.context(format!("--ssh {text}: {}", path.display())), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_lies_here_or_in_the_context() {
        let place = tempfile::tempdir().unwrap();
        let (root, context) = (place.path().canonicalize().unwrap(), place.path().join("context"));
        std::fs::create_dir_all(context.join("sub")).unwrap();
        for path in ["outside", "context/sub/inside"] {
            std::fs::write(root.join(path), "FROM scratch\n").unwrap();
        }
        for (given, expected) in [
            (None, PathBuf::from(DOCKERFILE)),
            (Some(root.join("outside")), root.join("outside")),
            (Some(root.join("context/../outside")), root.join("outside")),
            (Some(context.join("sub/inside")), "sub/inside".into()),
            (Some("sub/inside".into()), "sub/inside".into()),
            (Some("-".into()), "-".into()),
        ] {
            assert_eq!(dockerfile(&context, given.as_deref()), expected, "{given:?}");
        }
    }
}
