//! `agent.yaml`: what the operator of a host decides about the agent on it. Not part of any site. Pure.
//!
//! ```yaml
//! store:
//!   diskBudget: 40Gi   # most disk that images, build cache and kept blobs take together; no limit if absent
//!   keepFree: 2Gi      # disk that stays free for everything else; one per cent of the file system, at most 1 GiB, if absent
//!   buildCache: 10Gi   # most disk that the build cache holds alone; a tenth of the file system if absent
//!   generations: 3     # past states of each site whose images are kept, so that a step back needs no registry
//! ```

use crate::diagnostic::{Diagnostic, Problems, Source};
use crate::value::ByteSize;
use crate::yaml::{self, Content};
use serde::Deserialize;

/// Largest file read: the comments of a careful operator included.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Generations of each site whose images are kept where nobody says how many: what runs, and two steps back.
pub const GENERATIONS: u32 = 3;
/// Most generations that may be asked for: as many as are remembered.
pub const GENERATIONS_MAX: u32 = 100;

/// The file as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostSettings {
    /// Of the image store.
    pub store: StoreSettings,
}

/// How much is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StoreSettings {
    /// Most disk the image store takes, with what a registry of this host keeps beside it; no limit if `None`.
    pub disk_budget: Option<ByteSize>,
    /// Disk that whoever adds to the store leaves free.
    pub keep_free: Option<ByteSize>,
    /// Most disk the build cache holds alone.
    pub build_cache: Option<ByteSize>,
    /// Past states of each site whose images are kept, the present one included; 1 to [`GENERATIONS_MAX`].
    pub generations: Option<u32>,
}

/// Reads the bytes of the file; every problem in one pass. An empty file decides nothing.
pub fn parse_settings(path: &str, bytes: &[u8]) -> Result<HostSettings, Vec<Diagnostic>> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(vec![Diagnostic::file(path, format!("the file has {} bytes, settings at most {FILE_BYTES_MAX}", bytes.len()))]);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(vec![Diagnostic::file(path, "the file is not UTF-8 text")]);
    };
    let source = Source::new(path, text);
    let mut problems = Problems::default();
    let trees = yaml::load(&source, &mut problems);
    if let Some(second) = trees.get(1) {
        problems.push(source.error(second.node(second.root()).span, "settings are one document"));
    }
    let mut settings = HostSettings::default();
    if let Some(tree) = trees.first().filter(|tree| !matches!(tree.node(tree.root()).content, Content::Null)) {
        settings = yaml::read(&source, tree, tree.root(), &[], &mut problems).value.unwrap_or_default();
        if settings.store.generations.is_some_and(|count| !(1..=GENERATIONS_MAX).contains(&count)) {
            let entry = tree.entry(tree.root(), "store").and_then(|store| tree.entry(store.value, "generations"));
            let span = entry.map_or(tree.node(tree.root()).span, |entry| tree.node(entry.value).span);
            problems.push(source.error(span, format!("`generations` is 1 to {GENERATIONS_MAX}")));
        }
    }
    if problems.has_error() { Err(problems.into_sorted()) } else { Ok(settings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_left_open() {
        let text = "store:\n  diskBudget: 40Gi\n  generations: 5\n";
        let store = parse_settings("agent.yaml", text.as_bytes()).unwrap().store;
        assert_eq!(store.disk_budget, Some(ByteSize::from_bytes(40 << 30)));
        assert_eq!((store.keep_free, store.build_cache, store.generations), (None, None, Some(5)));
        for nothing in ["", "# nothing decided\n", "{}", "store: {}"] {
            assert_eq!(parse_settings("agent.yaml", nothing.as_bytes()).unwrap(), HostSettings::default(), "{nothing:?}");
        }
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let text = "store:\n  diskBudget: lots\n  generations: 0\n  keepfree: 1Gi\n";
        let problems = parse_settings("agent.yaml", text.as_bytes()).unwrap_err();
        let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.place.location, problem.message)).collect();
        assert_eq!(
            told,
            ["agent.yaml:2: \"lots\" is not a size", "agent.yaml:3: `generations` is 1 to 100", "agent.yaml:4: unknown field \"keepfree\""]
        );
    }
}
