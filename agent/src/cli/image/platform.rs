//! `--platform` of verbs that have no choice: images here are for this host.

use crate::cli::Failure;
use anyhow::anyhow;
use runtime::image::platform::Platform;

/// Refuses every platform but this host's.
pub(super) fn check(wanted: &str) -> Result<(), Failure> {
    let host = Platform::host();
    let short = format!("{}/{}", host.os, host.architecture);
    if wanted == host.to_string() || wanted == short || wanted == host.architecture {
        return Ok(());
    }
    let error = anyhow!("images here are for {host}, not for {wanted}: there is no emulation, and a name stands for one image");
    let hint = "images of other platforms pass through agent registry serve --writable as they came".to_owned();
    Err(Failure::Error { error, hint: Some(hint) })
}
