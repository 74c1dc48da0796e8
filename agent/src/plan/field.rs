//! What differs between what was applied and what is desired, field by field, and what each difference takes.
//!
//! Derived from the canonical JSON form, so that no field can be forgotten; a field the tables do not know takes the
//! safest way, a replacement.

use super::action::Cause;
use serde::Serialize;
use serde_json::Value;
use spec::desired::{Desired, ResourceId};
use spec::value::secret::{HIDDEN, hide_password, names_secret};
use spec::value::{BindSource, Digest, Mount};
use std::collections::BTreeMap;

/// What a change of a field takes. Ordered: the largest of all differences decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Only the record of what was applied.
    Record,
    /// A change in place.
    Live,
    /// A new one.
    Replace,
}

/// One field: where it stands in the canonical form, what a manifest calls it, and what its change takes.
/// `*` stands for every key of a map, or the target of a mount.
pub(super) struct Rule {
    canonical: &'static str,
    shown: &'static str,
    effect: Effect,
}

const fn rule(canonical: &'static str, shown: &'static str, effect: Effect) -> Rule {
    Rule { canonical, shown, effect }
}

/// Every field of a container.
///
/// Live is what a running container's cgroup, shim, links and port map can take. Signal, grace, probe and log limits are read
/// by the shim from a file written once, so they take a new container; the order of a replacement and dependencies are read by
/// the planner alone.
pub(super) const CONTAINER: &[Rule] = &[
    rule("command", "command", Effect::Replace),
    rule("dependsOn.*", "dependsOn.*", Effect::Record),
    rule("entrypoint", "entrypoint", Effect::Replace),
    rule("env.*", "env.*", Effect::Replace),
    rule("envFromFiles", "envFiles", Effect::Record),
    rule("healthcheck.interval", "healthcheck.interval", Effect::Replace),
    rule("healthcheck.retries", "healthcheck.retries", Effect::Replace),
    rule("healthcheck.startPeriod", "healthcheck.startPeriod", Effect::Replace),
    rule("healthcheck.test", "healthcheck.test", Effect::Replace),
    rule("healthcheck.timeout", "healthcheck.timeout", Effect::Replace),
    rule("hostname", "hostname", Effect::Replace),
    rule("image", "image", Effect::Replace),
    rule("labels.*", "labels.*", Effect::Live),
    rule("logs.maxFiles", "logs.maxFiles", Effect::Replace),
    rule("logs.maxSize", "logs.maxSize", Effect::Replace),
    rule("mounts.*", "volumes.*", Effect::Replace),
    rule("network", "networkMode", Effect::Replace),
    rule("network.networks.*", "networks.*", Effect::Live),
    rule("ports", "ports", Effect::Live),
    rule("resources.cpus", "resources.cpus", Effect::Live),
    rule("resources.memory", "resources.memory", Effect::Live),
    rule("resources.pids", "resources.pids", Effect::Live),
    rule("restart", "restart", Effect::Live),
    rule("security.capabilities", "capabilities", Effect::Replace),
    rule("security.noNewPrivileges", "noNewPrivileges", Effect::Replace),
    rule("security.readOnlyRoot", "readOnlyRoot", Effect::Replace),
    rule("security.userNamespace", "userNamespace", Effect::Replace),
    rule("stdinOpen", "stdinOpen", Effect::Replace),
    rule("stop.grace", "stopGracePeriod", Effect::Replace),
    rule("stop.signal", "stopSignal", Effect::Replace),
    rule("tty", "tty", Effect::Replace),
    rule("update", "update", Effect::Record),
    rule("user", "user", Effect::Replace),
    rule("workingDir", "workingDir", Effect::Replace),
];

/// Every field of an image; any change of its source obtains it again, one of its names publishes it.
pub(super) const IMAGE: &[Rule] = &[
    rule("push", "push", Effect::Record),
    rule("source.archive.content", "archive.content", Effect::Live),
    rule("source.archive.path", "archive", Effect::Live),
    rule("source.build.args.*", "build.args.*", Effect::Live),
    rule("source.build.bases", "build.bases", Effect::Live),
    rule("source.build.content", "build.content", Effect::Live),
    rule("source.build.context", "build.context", Effect::Live),
    rule("source.build.contexts.*", "build.contexts.*", Effect::Live),
    rule("source.build.dockerfile", "build.dockerfile", Effect::Live),
    rule("source.build.inline", "build.inline", Effect::Live),
    rule("source.build.network", "build.network", Effect::Live),
    rule("source.build.target", "build.target", Effect::Live),
    rule("source.pull.reference", "pull", Effect::Live),
];

/// Every field of a network. Whether subnet and gateway take a new one depends on the present ones: decided by the room.
pub(super) const NETWORK: &[Rule] = &[
    rule("gateway", "gateway", Effect::Record),
    rule("internal", "internal", Effect::Live),
    rule("labels.*", "labels.*", Effect::Record),
    rule("subnet", "subnet", Effect::Record),
];

/// Every field of a volume.
pub(super) const VOLUME: &[Rule] = &[rule("labels.*", "labels.*", Effect::Record)];

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// As a manifest calls it.
    pub(super) field: String,
    /// As applied, for people.
    pub(super) old: String,
    /// As desired, for people.
    pub(super) new: String,
    /// What it takes.
    pub(super) effect: Effect,
}

/// Every field in which the two differ, by name. Never empty if they differ at all.
pub(super) fn differences<T: Serialize + PartialEq>(rules: &[Rule], old: &T, new: &T) -> Vec<Difference> {
    if old == new {
        return Vec::new();
    }
    let (old, new) = (fields(rules, old), fields(rules, new));
    let names: std::collections::BTreeSet<&Vec<String>> = old.keys().chain(new.keys()).collect();
    // A bridged container has no mode of its own in the canonical form, only networks.
    let absent = |path: &[String]| if path == ["network"] { "bridged" } else { "none" }.to_owned();
    let shown = |side: &BTreeMap<Vec<String>, Value>, path: &Vec<String>, is_hidden: bool| match side.get(path) {
        None => absent(path),
        Some(_) if is_hidden => HIDDEN.to_owned(),
        Some(value) => show(value),
    };
    let mut found: Vec<Difference> = names
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path))
        .map(|path| {
            let (field, effect) = describe(rules, path);
            let is_hidden = is_hidden(path, [&old, &new]);
            let (was, mut is) = (shown(&old, path, is_hidden), shown(&new, path, is_hidden));
            if was == is {
                is.push_str(" (changed)");
            }
            Difference { field, old: was, new: is, effect }
        })
        .collect();
    // Which variables come from files is worth a word only where their values tell nothing.
    if found.len() > 1 {
        found.retain(|difference| difference.field != "envFiles");
    }
    if found.is_empty() {
        // Unequal values with one canonical form: nothing that runs can tell them apart, the record can.
        found.push(Difference {
            field: "record".to_owned(),
            old: "as applied".to_owned(),
            new: "as desired".to_owned(),
            effect: Effect::Record,
        });
    }
    found.sort_by(|a, b| a.field.cmp(&b.field));
    found
}

impl Difference {
    /// The difference as a cause, with the place where the new value is written.
    pub(super) fn cause(self, desired: &Desired, resource: &ResourceId) -> Cause {
        let location = desired.origins.find(resource, &self.field).cloned();
        let forces_replacement = self.effect == Effect::Replace;
        Cause::Field { field: self.field, old: self.old, new: self.new, location, forces_replacement }
    }
}

fn fields<T: Serialize>(rules: &[Rule], value: &T) -> BTreeMap<Vec<String>, Value> {
    let canonical = serde_json::to_value(value).expect("our own values have text keys and finite numbers");
    let mut found = BTreeMap::new();
    flatten(rules, Vec::new(), canonical, &mut found);
    found
}

/// Takes a value apart down to what the rules call a field; `null` is no field.
fn flatten(rules: &[Rule], path: Vec<String>, value: Value, found: &mut BTreeMap<Vec<String>, Value>) {
    let inner = |key: &str| path.iter().cloned().chain([key.to_owned()]).collect::<Vec<_>>();
    match value {
        Value::Null => {}
        Value::Object(entries) if splits(rules, &path) => {
            for (key, value) in entries {
                flatten(rules, inner(&key), value, found);
            }
        }
        Value::Array(entries) if splits(rules, &path) => {
            for value in entries {
                let key = value.get("target").and_then(Value::as_str).unwrap_or_default().to_owned();
                flatten(rules, inner(&key), value, found);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(path, value);
        }
    }
}

/// Whether some rule speaks of parts of this value rather than of the whole.
fn splits(rules: &[Rule], path: &[String]) -> bool {
    path.is_empty() || rules.iter().any(|rule| rule.canonical.split('.').count() > path.len() && matches(rule.canonical, path))
}

/// Whether a path is the pattern, or leads to it.
fn matches(pattern: &str, path: &[String]) -> bool {
    let mut parts = pattern.split('.');
    path.iter().all(|key| parts.next().is_some_and(|part| part == "*" || part == key))
}

/// The manifest's name of a field, and what its change takes.
fn describe(rules: &[Rule], path: &[String]) -> (String, Effect) {
    let same_length = |rule: &&Rule| rule.canonical.split('.').count() == path.len();
    match rules.iter().filter(same_length).find(|rule| matches(rule.canonical, path)) {
        Some(rule) => (rule.shown.replace('*', path.last().map_or("", String::as_str)), rule.effect),
        None => (path.join("."), Effect::Replace),
    }
}

/// Whether the values of a field are not for showing: a secret by its name, or from an environment file on either side.
fn is_hidden(path: &[String], sides: [&BTreeMap<Vec<String>, Value>; 2]) -> bool {
    let Some((name, [.., pairs])) = path.split_last() else { return false };
    let from_file = || {
        let lists = sides.iter().filter_map(|side| side.get(["envFromFiles".to_owned()].as_slice())?.as_array());
        lists.flatten().any(|one| one == name)
    };
    match pairs.as_str() {
        "env" => names_secret(name) || from_file(),
        "args" | "labels" => names_secret(name),
        _ => false,
    }
}

/// A value for people.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.parse::<Digest>().map_or_else(|_| hide_password(text), |digest| digest.short()),
        Value::Array(entries) => format!("[{}]", entries.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            if let Ok(mount) = serde_json::from_value::<Mount>(value.clone()) {
                return show_mount(&mount);
            }
            if let (Some(key), 1) = (entries.get("named").or_else(|| entries.get("reference")), entries.len()) {
                return show(key);
            }
            let said = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
            let parts: Vec<String> =
                entries.iter().filter(|(_, value)| said(value)).map(|(key, value)| format!("{key} {}", show(value))).collect();
            if parts.is_empty() { "attached".to_owned() } else { parts.join(", ") }
        }
    }
}

fn show_mount(mount: &Mount) -> String {
    let access = |read_only: bool| if read_only { ", read-only" } else { "" };
    match mount {
        Mount::Volume { name, read_only, .. } => format!("volume {name}{}", access(*read_only)),
        Mount::Bind { source: BindSource::Host { path }, read_only, .. } => format!("{}{}", path.display(), access(*read_only)),
        Mount::Bind { source: BindSource::Site { path, content }, .. } => format!("./{path} with content {}", content.short()),
        Mount::Tmpfs { size, mode, .. } => {
            let size = size.map(|size| format!(" {size}")).unwrap_or_default();
            format!("tmpfs{size}, mode {mode:o}")
        }
    }
}

#[cfg(test)]
mod tests;
