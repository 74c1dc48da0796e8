//! Images by what people call them.

use crate::cli::{Failure, Outcome, Session, exit};
use anyhow::anyhow;
use runtime::image::ImageId;

/// The name an image is stored under: that of a site's image, else what Docker would complete it to.
pub(super) fn key(engine: &runtime::engine::Engine, name: &str) -> Result<String, Failure> {
    let keys = [name.to_owned(), crate::linux::image_key(name)?];
    for key in keys {
        if engine.images().find(&key)?.is_some() {
            return Ok(key);
        }
    }
    Err(Failure::Error { error: anyhow!("no such image: {name}"), hint: Some("agent image ls lists those there are".to_owned()) })
}

/// An image by name, by the name Docker would complete, or by the beginning of its id.
pub(super) fn find(engine: &runtime::engine::Engine, name: &str) -> Result<ImageId, Failure> {
    if let Ok(key) = key(engine, name)
        && let Some(id) = engine.images().find(&key)?
    {
        return Ok(id);
    }
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let ids: Vec<ImageId> = engine.images().list()?.into_iter().map(|it| it.id).filter(|id| id.hex().starts_with(digits)).collect();
    match ids[..] {
        [id] => Ok(id),
        [] => {
            Err(Failure::Error { error: anyhow!("no such image: {name}"), hint: Some("agent image ls lists those there are".to_owned()) })
        }
        [..] => Err(Failure::Error { error: anyhow!("{name} is the beginning of several image ids"), hint: None }),
    }
}

/// Gives a new image its names and prints its id.
pub(super) fn name_result(session: &Session, engine: &runtime::engine::Engine, id: ImageId, names: &[String]) -> Outcome {
    for name in names {
        engine.images().tag(&crate::linux::image_key(name)?, &id)?;
    }
    session.render.line(id);
    Ok(exit::DONE)
}
