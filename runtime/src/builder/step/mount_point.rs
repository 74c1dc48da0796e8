//! What the runtime made only to mount on, removed before a command's changes become a layer: as BuildKit, whose image then has neither
//! an empty `/etc/resolv.conf` nor the directory of a cache mount.

use super::Layering;
use crate::builder::error::StepError;
use crate::builder::tree::{LastLink, Missing, Overlay, Root, Spot, Writing};
use crate::image::layer::pack::attributes;
use rustix::fs::{AtFlags, Stat};
use spec::value::MountTarget;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// What is mounted over in every container; the places for that may have had to be made.
const ALWAYS: [&str; 6] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/proc", "/sys", "/dev"];

/// Removes empty files and directories that the layers below do not have, and directories that are there only because something was
/// made in them.
pub(super) fn remove(layering: &Layering, layers: &[PathBuf], targets: &[&MountTarget]) -> Result<(), StepError> {
    let root = Root::open(&layering.upper)?;
    let lower = layers.iter().map(|layer| Root::open(layer)).collect::<Result<Vec<_>, _>>()?;
    let targets = followed(layering, layers, targets)?;
    // With their parents, each after what is in it.
    let mut places = BTreeSet::new();
    for path in ALWAYS.into_iter().chain(targets.iter().map(String::as_str)) {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
        places.extend(parents.filter(|path| !path.is_empty()).map(str::to_owned));
    }
    for path in places.iter().rev() {
        let Some((spot, stat)) = found(&root, path) else { continue };
        let Some(name) = &spot.name else { continue };
        let below = lower.iter().rev().find_map(|layer| found(layer, path));
        let removed = match below.filter(|(_, stat)| !is_whiteout(stat)) {
            None if spot.is_directory() => true,
            None => stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_size == 0,
            Some((_, below)) => spot.is_directory() && is_copy(&spot, &stat, &below),
        };
        if removed {
            let flags = if spot.is_directory() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // A directory that is not empty stays.
            let _ = rustix::fs::unlinkat(&*spot.directory, name.as_slice(), flags);
        }
    }
    Ok(())
}

/// Where targets are once links on the way are followed: there the places for them were made.
fn followed(layering: &Layering, layers: &[PathBuf], targets: &[&MountTarget]) -> Result<Vec<String>, StepError> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<_> = layers.iter().chain([&layering.upper]).cloned().collect();
    let shown = Overlay::mount(&all, Writing::No { empty: &layering.empty })?;
    let follow = |target: &&MountTarget| shown.root.find(target.as_str().as_bytes(), Missing::Fail, LastLink::Follow).ok();
    Ok(targets.iter().filter_map(follow).map(|spot| format!("/{}", String::from_utf8_lossy(&spot.path))).collect())
}

fn found(root: &Root, path: &str) -> Option<(Spot, Stat)> {
    let spot = root.find(path.as_bytes(), Missing::Fail, LastLink::Keep).ok()?;
    let stat = spot.found?;
    Some((spot, stat))
}

fn is_whiteout(stat: &Stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

/// Whether a directory of the upper layer is as the one below: overlayfs brings a directory up when something is made in it.
fn is_copy(spot: &Spot, stat: &Stat, below: &Stat) -> bool {
    let same = (stat.st_mode, stat.st_uid, stat.st_gid) == (below.st_mode, below.st_uid, below.st_gid);
    // With attributes of its own it may have been changed: then it stays.
    let plain = |directory: Arc<OwnedFd>| attributes(&directory, &spot.path).is_ok_and(|found| found.portable.is_empty() && !found.opaque);
    same && spot.open_directory().is_ok_and(plain)
}
