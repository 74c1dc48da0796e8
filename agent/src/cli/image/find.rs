//! Images by what people call them.

use crate::cli::Failure;
use crate::cli::missing::missing;
use anyhow::anyhow;
use runtime::image::ImageId;
use runtime::image::archive::{ImportError, Spooled};
use runtime::image::store::StoreError;
use spec::desired::Kind;
use spec::value::{ImageReference, ValueError};
use std::path::{Path, PathBuf};

/// Ids shown of those that begin alike.
const CANDIDATES_SHOWN: usize = 5;

/// The name an image is stored under: that of a site's image, else what Docker would complete it to.
pub(super) fn key(engine: &runtime::engine::Engine, name: &str) -> Result<String, Failure> {
    let keys = [name.to_owned(), crate::linux::image_key(name)?];
    for key in keys {
        if engine.images().find(&key)?.is_some() {
            return Ok(key);
        }
    }
    Err(missing(engine, Kind::Image, &[name]))
}

/// An image by name, by the name Docker would complete, or by the beginning of its id.
pub(super) fn find(engine: &runtime::engine::Engine, name: &str) -> Result<ImageId, Failure> {
    if let Ok(key) = key(engine, name)
        && let Some(id) = engine.images().find(&key)?
    {
        return Ok(id);
    }
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let begins = |id: &ImageId| !digits.is_empty() && id.hex().starts_with(digits);
    let ids: Vec<ImageId> = engine.images().list()?.into_iter().map(|it| it.id).filter(begins).collect();
    match ids[..] {
        [id] => Ok(id),
        [] => Err(missing(engine, Kind::Image, &[name])),
        [..] => {
            let some: Vec<String> = ids.iter().take(CANDIDATES_SHOWN).map(ImageId::short).collect();
            let hint = Some(format!("write more of it: {}{}", some.join(", "), if ids.len() > some.len() { ", …" } else { "" }));
            Err(Failure::Error { error: anyhow!("{name} is the beginning of {} image ids", ids.len()), hint })
        }
    }
}

/// Why an image that was made has no name yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    /// It could not be built.
    #[error(transparent)]
    Build(#[from] runtime::builder::BuildError),
    /// It could not be imported or loaded.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// What it says of itself cannot be changed like that.
    #[error(transparent)]
    Change(#[from] runtime::builder::ChangeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] ValueError),
}

/// The archive to read: a file, or standard input, which is kept in a file as long as what is returned lives.
pub(super) fn input(engine: &runtime::engine::Engine, file: Option<&Path>) -> Result<(PathBuf, Option<Spooled>), ImportError> {
    match file {
        Some(file) => Ok((file.to_owned(), None)),
        None => {
            let spooled = Spooled::new(engine.images(), std::io::stdin().lock())?;
            Ok((spooled.path(), Some(spooled)))
        }
    }
}

/// Gives a new image its names. Until then the caller holds a lease.
pub(super) fn name(engine: &runtime::engine::Engine, id: ImageId, names: &[String]) -> Result<(), MakeError> {
    for name in names {
        engine.images().tag(&crate::linux::image_key(name)?, &id)?;
    }
    Ok(())
}

/// A name of the store as a reference: that of a site's image is completed as Docker would.
pub(super) fn reference(key: &str) -> Option<ImageReference> {
    key.parse().ok()
}
