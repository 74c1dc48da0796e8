//! What a build is given besides its context: secrets and ssh agents, in the words docker has for them.

use crate::cli::Failure;
use anyhow::{Context as _, anyhow};
use runtime::builder::{Given, SECRET_BYTES_MAX, Secret};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Reads `--secret` and `--ssh`.
pub(super) fn read(secrets: &[String], agents: &[String]) -> Result<Given, Failure> {
    Ok(Given {
        secrets: secrets.iter().map(|text| secret(text)).collect::<Result<_, _>>()?,
        agents: agents.iter().map(|text| agent(text)).collect::<Result<_, _>>()?,
    })
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

/// `default`, `ID` or `ID=SOCKET`; without a socket the one of the environment.
fn agent(text: &str) -> Result<(String, PathBuf), Failure> {
    let (id, path) = text.split_once('=').map_or((text, None), |(id, path)| (id, Some(PathBuf::from(path))));
    let from_environment = || std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from);
    let path = path.or_else(from_environment).ok_or_else(|| anyhow!("--ssh {text}: SSH_AUTH_SOCK is not set: is an agent running?"))?;
    let path = std::path::absolute(&path).with_context(|| format!("--ssh {text}"))?;
    let kind = std::fs::metadata(&path).with_context(|| format!("--ssh {text}: {}", path.display()))?.file_type();
    if !kind.is_socket() {
        let hint = "add the key to an agent (ssh-add) and give its socket".to_owned();
        return Err(Failure::Error { error: anyhow!("--ssh {text}: {} is not the socket of an agent", path.display()), hint: Some(hint) });
    }
    Ok((id.to_owned(), path))
}
