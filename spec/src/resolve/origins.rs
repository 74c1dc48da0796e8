//! Where each resource and field was written.

use crate::desired::{Origins, ResourceId};
use crate::parse::Document;

/// Fields whose place in [`crate::desired`] differs from the one they are written at: (written, desired).
const MOVED: [(&str, &str); 16] = [
    ("build", "source"),
    ("pull", "source"),
    ("archive", "source"),
    ("args", "command"),
    ("envFiles", "env"),
    ("volumes", "mounts"),
    ("tmpfs", "mounts"),
    ("networks", "network"),
    ("networkMode", "network"),
    ("stopSignal", "stop.signal"),
    ("stopGracePeriod", "stop.grace"),
    ("capabilities", "security.capabilities"),
    ("noNewPrivileges", "security.noNewPrivileges"),
    ("readOnlyRoot", "security.readOnlyRoot"),
    ("userNamespace", "security.userNamespace"),
    ("update.order", "update"),
];

/// Notes the resource, every field of its `spec` as written, and the name the field has in the desired state.
pub(super) fn insert(origins: &mut Origins, document: &Document, resource: &ResourceId) {
    origins.insert(resource.clone(), "", document.spot().location());
    for (path, location) in document.metadata().fields() {
        if path.starts_with("labels") {
            origins.insert(resource.clone(), path, location);
        }
    }
    let fields = document.spec().fields();
    for (written, desired) in MOVED {
        // A field that is written under both names (`command` and `args`) keeps its own place.
        let taken = fields.iter().any(|(path, _)| path == desired);
        for (path, location) in fields.iter().filter(|_| !taken) {
            if let Some(rest) = path.strip_prefix(written).filter(|rest| rest.is_empty() || rest.starts_with('.')) {
                origins.insert(resource.clone(), format!("{desired}{rest}"), location.clone());
            }
        }
    }
    for (path, location) in fields {
        origins.insert(resource.clone(), path, location);
    }
}
