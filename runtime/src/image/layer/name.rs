//! Names of tar entries, cleaned and bounded. Pure: no I/O.

use super::{DEPTH_MAX, LayerError, NAME_BYTES_MAX, OPAQUE_MARKER, PATH_BYTES_MAX, WHITEOUT_PREFIX};

/// What an entry's name asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A path below the layer's root; empty for the root itself.
    Path(Vec<u8>),
    /// This path of lower layers is gone.
    Whiteout(Vec<u8>),
    /// This directory hides what lower layers have in it.
    Opaque(Vec<u8>),
    /// Bookkeeping of aufs, which old images carry.
    Ignored,
}

/// Sorts a name into one of the [`Target`]s.
pub(super) fn classify(name: &[u8]) -> Result<Target, LayerError> {
    let path = clean(name)?;
    let (parent, last) = split(&path);
    if last == OPAQUE_MARKER {
        return Ok(Target::Opaque(parent.to_vec()));
    }
    if path.split(|b| *b == b'/').any(|part| part.starts_with(b".wh..wh.")) {
        return Ok(Target::Ignored);
    }
    if parent.split(|b| *b == b'/').any(|part| part.starts_with(WHITEOUT_PREFIX)) {
        return Err(LayerError::refused(name, "a whiteout has nothing below it"));
    }
    match last.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Target::Path(path)),
        Some(b"" | b"." | b"..") => Err(LayerError::refused(name, "a whiteout of nothing")),
        Some(hidden) => Ok(Target::Whiteout(join(parent, hidden))),
    }
}

/// A name as a path below the root: no leading slash, no `.`, no empty part, `..` resolved by text as containerd does.
/// Refused: a name that climbs above the root, holds a NUL, or is longer or deeper than the limits.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>, LayerError> {
    if name.contains(&0) {
        return Err(LayerError::refused(name, "it holds a NUL byte"));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return Err(LayerError::refused(name, "it climbs out of the layer"));
                }
            }
            // A whiteout is never a file of that name: what it hides may have the longest there is.
            part if part.strip_prefix(WHITEOUT_PREFIX).unwrap_or(part).len() > NAME_BYTES_MAX => {
                return Err(LayerError::refused(name, format!("a part of it is longer than {NAME_BYTES_MAX} bytes")));
            }
            part => parts.push(part),
        }
    }
    if parts.len() > DEPTH_MAX {
        return Err(LayerError::refused(name, format!("it is {} directories deep, at most {DEPTH_MAX} are taken", parts.len())));
    }
    let path = parts.join(&b'/');
    if path.len() > PATH_BYTES_MAX {
        return Err(LayerError::refused(name, format!("it is longer than {PATH_BYTES_MAX} bytes")));
    }
    Ok(path)
}

/// Directory and last part of a cleaned path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A cleaned directory and a name in it.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let path = |text: &str| Target::Path(text.into());
        for (name, expected) in [
            ("./", path("")),
            ("/etc//passwd", path("etc/passwd")),
            ("a/./b/../c/", path("a/c")),
            (".wh.old", Target::Whiteout("old".into())),
            ("etc/.wh.old", Target::Whiteout("etc/old".into())),
            ("etc/.wh..wh..opq", Target::Opaque("etc".into())),
            (".wh..wh..opq", Target::Opaque("".into())),
            (".wh..wh.plnk/12.34", Target::Ignored),
            (&format!(".wh.{}", "n".repeat(NAME_BYTES_MAX)), Target::Whiteout("n".repeat(NAME_BYTES_MAX).into())),
        ] {
            assert_eq!(classify(name.as_bytes()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn refused_names() {
        let deep = "d/".repeat(DEPTH_MAX + 1);
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let long_path = format!("{}/", "x".repeat(NAME_BYTES_MAX)).repeat(PATH_BYTES_MAX / NAME_BYTES_MAX + 1);
        for name in ["..", "../x", "a/../../x", "/../x", "a\0b", ".wh.", "a/.wh...", ".wh.dir/file", &deep, &long, &long_path] {
            assert!(matches!(classify(name.as_bytes()), Err(LayerError::Refused { .. })), "{name}");
        }
    }
}
