//! What is on this machine that a test could leave behind: mounts, namespaces, links, nftables tables, cgroups, processes, files.
//!
//! `make test` takes one before and one after everything and compares: see `src/bin/inventory.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Everything found, one line a thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Looks now. Processes count only if they are ours by name; everything else wholly.
    pub fn take() -> Self {
        let mut found = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        // Sessions of people come and go.
        let lasting = targets.filter(|target| !target.starts_with("/run/user/") && !target.starts_with("/run/credentials/"));
        found.extend(lasting.map(|target| format!("mount {target}")));
        if let Ok(links) = fs::read_dir("/sys/class/net") {
            found.extend(links.flatten().map(|link| format!("link {}", link.file_name().to_string_lossy())));
        }
        if let Ok(tables) = Command::new("nft").args(["list", "tables"]).output() {
            found.extend(String::from_utf8_lossy(&tables.stdout).lines().map(|table| format!("nft {table}")));
        }
        cgroups(Path::new("/sys/fs/cgroup"), 3, &mut found);
        processes(&mut found);
        namespaces(&mut found);
        for directory in ["/tmp", "/run", "/var/lib", "/etc"] {
            if let Ok(entries) = fs::read_dir(directory) {
                let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
                found.extend(names.filter(|name| name.contains("host-agent")).map(|name| format!("file {directory}/{name}")));
            }
        }
        Self(found)
    }

    /// What is here that was not there before.
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }

    /// As text, one line a thing.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Reads it back.
    pub fn from_text(text: &str) -> Self {
        Self(text.lines().map(str::to_owned).collect())
    }
}

fn cgroups(directory: &Path, depth: usize, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_string_lossy().contains("host-agent") {
            found.insert(format!("cgroup {}", entry.path().display()));
        } else if depth > 0 {
            cgroups(&entry.path(), depth - 1, found);
        }
    }
}

/// Namespaces some process is in; pinned ones are mounts. Of the kinds that each container has and a service of the host seldom.
fn namespaces(found: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        for kind in ["net", "pid"] {
            if let Ok(namespace) = fs::read_link(entry.path().join("ns").join(kind)) {
                found.insert(format!("namespace {}", namespace.display()));
            }
        }
    }
}

fn processes(found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let Ok(command) = fs::read(entry.path().join("cmdline")) else { continue };
        let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
        let program = String::from_utf8_lossy(program);
        let is_contained = fs::read_to_string(entry.path().join("cgroup")).is_ok_and(|cgroup| cgroup.contains("/host-agent"));
        if program.ends_with("container-shim") || program.ends_with("/agent") || is_contained {
            found.insert(format!("process {} {program}", entry.file_name().to_string_lossy()));
        }
    }
}
