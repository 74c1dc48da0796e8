//! What is on one test host, counted: links, nftables elements, cgroups, mounts, processes, directories. Two hosts that came to
//! the same state on different ways have the same census: whatever tells runs apart (ids, digests, generations) is left out.

use crate::host::Host;
use agent::ledger::Ledger;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How deep below the state and run directories things are counted: a container's files, not its root file system's.
const DEPTH_MAX: usize = 4;
/// Digits that make a token an id: shorter ones are sizes, ports, ordinary words.
const ID_DIGITS_MIN: usize = 12;

/// So many of each thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census(BTreeMap<String, usize>);

impl Census {
    /// Counts now.
    pub fn take(host: &Host) -> Self {
        let found =
            [containers(host), ledger(host), links(host), firewall(host), cgroups(host), mounts(host), processes(host), files(host)];
        let mut counts = BTreeMap::new();
        for thing in found.concat() {
            *counts.entry(plain(&thing, host)).or_default() += 1;
        }
        Self(counts)
    }

    /// What one has and the other has not, a line each; empty if they are the same.
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let things = self.0.keys().chain(expected.0.keys().filter(|thing| !self.0.contains_key(*thing)));
        let count = |census: &Self, thing: &str| census.0.get(thing).copied().unwrap_or_default();
        things
            .map(|thing| (thing, count(self, thing), count(expected, thing)))
            .filter(|(_, found, expected)| found != expected)
            .map(|(thing, found, expected)| format!("{thing}: {found}, not {expected}"))
            .collect()
    }
}

/// What is left of a host that was removed; empty if nothing is.
pub fn traces(host: &Host) -> Vec<String> {
    let places = host.places();
    let directories =
        [places.state, places.run].into_iter().filter(|path| path.exists()).map(|path| format!("directory {}", path.display()));
    let left = [links(host), firewall(host), cgroups(host), mounts(host), processes(host)].concat();
    left.into_iter().chain(directories).collect()
}

/// Without what tells runs apart.
fn plain(thing: &str, host: &Host) -> String {
    let places = host.places();
    let text = thing.replace(&host.path().display().to_string(), "").replace(&places.instance(), "instance");
    let mut found = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            word.push(c);
            continue;
        }
        let is_generation = found.ends_with('@') && word.chars().all(|c| c.is_ascii_digit());
        found.push_str(if word.len() >= ID_DIGITS_MIN || (is_generation && !word.is_empty()) { "#" } else { &word });
        word.clear();
        found.push(c);
    }
    found.trim_end().to_owned()
}

fn containers(host: &Host) -> Vec<String> {
    let names = fs::read_dir(host.places().containers()).into_iter().flatten().flatten();
    names.map(|entry| format!("container {}", entry.file_name().to_string_lossy())).collect()
}

fn ledger(host: &Host) -> Vec<String> {
    let owned = Ledger::read(&host.places().ledger()).ok().flatten().and_then(|ledger| ledger.owned(None).ok());
    owned.into_iter().flatten().map(|line| format!("ledger {} {:?}", line.resource, line.state)).collect()
}

fn links(host: &Host) -> Vec<String> {
    let links: Value =
        host.run("ip", &["-json", "-details", "link"]).ok().ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let kinds = links.as_array().into_iter().flatten().filter(|link| link["ifname"] != "lo");
    kinds.map(|link| format!("link of kind {}", link["linkinfo"]["info_kind"].as_str().unwrap_or("?"))).collect()
}

fn firewall(host: &Host) -> Vec<String> {
    let ruleset: Value =
        host.run("nft", &["-j", "list", "ruleset"]).ok().ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut found = Vec::new();
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        for (kind, body) in object.as_object().into_iter().flatten().filter(|(kind, _)| *kind != "metainfo") {
            let name = ["chain", "name"].iter().find_map(|field| body[field].as_str()).unwrap_or_default();
            found.push(format!("nft {kind} {name}"));
            found.extend(body["elem"].as_array().into_iter().flatten().map(|_| format!("nft element of {name}")));
        }
    }
    found
}

fn cgroups(host: &Host) -> Vec<String> {
    let instance = host.places().instance();
    let mut found = Vec::new();
    // The hierarchies of version 1 lie one level down; the instance's own directory is at the top of each.
    let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let top = root.join(&instance);
        if top.is_dir() && !root.is_symlink() {
            walk(&top, usize::MAX, &mut |path| found.push(format!("cgroup {}", path.display())));
            found.push(format!("cgroup {}", top.display()));
        }
    }
    found.retain(|line| Path::new(line.trim_start_matches("cgroup ")).is_dir());
    found
}

fn mounts(host: &Host) -> Vec<String> {
    let own = host.path().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|target| target.starts_with(&own));
    targets.map(|target| format!("mount {target}")).collect()
}

/// Shims and agents of this host by their arguments, containers' processes by their cgroup.
fn processes(host: &Host) -> Vec<String> {
    let (own, instance) = (host.path().display().to_string(), host.places().instance());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |file: &str| {
            fs::read(entry.path().join(file)).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ")).unwrap_or_default()
        };
        let command = read("cmdline");
        // Without a command line it is a zombie: it has ended, and whoever adopted it will ask for its status.
        if command.is_empty() {
            continue;
        }
        if command.contains(&own) || read("cgroup").contains(&instance) {
            found.push(format!("process {}", command.trim()));
        }
    }
    found
}

/// Names below the state and run directories; what the image store keeps on purpose between builds is counted by folder alone.
fn files(host: &Host) -> Vec<String> {
    let places = host.places();
    let mut found = Vec::new();
    for root in [&places.state, &places.run] {
        walk(root, DEPTH_MAX, &mut |path| {
            let inner = path.strip_prefix(places.containers()).map(|inner| inner.components().count());
            // What a container wrote, how often it logged and whether it ended once, is its own affair. So are the logs of builds, which
            // tell of each attempt; there are never more than a few.
            let of_a_build = path.starts_with(places.state.join("builds"));
            if !inner.is_ok_and(|depth| depth > 1) && !of_a_build {
                found.push(format!("file {}", path.display()));
            }
        });
    }
    found
}

fn walk(directory: &Path, depth: usize, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        visit(&entry.path());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth - 1, visit);
        }
    }
}
