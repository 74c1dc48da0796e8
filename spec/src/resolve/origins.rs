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
    let whole = (String::new(), document.spot().location());
    let labels = document.metadata().fields().into_iter().filter(|(path, _)| path.starts_with("labels"));
    let fields = document.spec().fields();
    let mut moved = Vec::new();
    for (written, desired) in MOVED {
        for (path, location) in &fields {
            let Some(rest) = path.strip_prefix(written).filter(|rest| rest.is_empty() || rest.starts_with('.')) else { continue };
            // A field that is written under both names (`command` and `args`) keeps its own place.
            if !fields.iter().any(|(path, _)| path == desired) {
                moved.push((format!("{desired}{rest}"), location.clone()));
            }
        }
    }
    origins.extend(resource.clone(), std::iter::once(whole).chain(labels).chain(moved).chain(fields));
}
