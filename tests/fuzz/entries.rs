//! What is fuzzed: everything that reads bytes from outside, as functions of bytes alone. None may panic, none may do more than its
//! limits say, and no layer may leave its root.
//!
//! Two things run them: `cargo fuzz` (nightly, `tests/fuzz`), and `tests/suite/fuzz.rs` over the seeds and a few thousand mutations.

use runtime::builder::file::{self, Instruction};
use runtime::builder::graph::Graph;
use runtime::builder::ignore::IgnoreRules;
use runtime::builder::lint::{Facts, lint};
use runtime::builder::words::{Lexer, Quotes, Unset};
use runtime::image::config::ImageConfig;
use runtime::image::layer::unpack::unpack;
use runtime::image::manifest::{self, Document};
use runtime::image::platform::Platform;
use runtime::image::registry::parse_challenges;
use runtime::image::registry::settings::certificates;
use runtime::image::registry::signature::{self, PublicKey};
use spec::value::{Digest, ImageReference};
use spec::{BuildContext, SiteContent, SiteFileError, SiteFileKind, SiteFiles};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Does something with bytes from outside.
pub type Entry = fn(&[u8]);

/// What is fuzzed, by name; the seeds lie in a directory of that name.
pub const ENTRIES: [(&str, Entry); 8] = [
    ("dockerfile", dockerfile),
    ("words", words),
    ("dockerignore", dockerignore),
    ("reference", reference),
    ("manifest", manifest),
    ("layer", layer),
    ("site", site),
    ("registry", registry),
];

/// A Dockerfile: parsed, cut into stages, checked.
pub fn dockerfile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (parsed, errors) = file::read("Dockerfile", text);
    let args = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    static IGNORED: LazyLock<IgnoreRules> =
        LazyLock::new(|| IgnoreRules::parse(".dockerignore", "secret\n*.md").expect("two good patterns"));
    let findings = lint(&parsed, &Facts { args: &args, ignored: &IGNORED, environment_of: &|_| None });
    for warning in findings.iter().flat_map(|findings| &findings.warnings) {
        let line = text.lines().nth(warning.place.line - 1);
        assert!(line.is_some() || text.is_empty(), "{warning:?} is on a line there is");
        assert!(warning.place.column <= warning.place.text.chars().count() + 1, "{warning:?}");
    }
    for error in &errors {
        assert!(!error.to_string().is_empty());
    }
    if errors.is_empty() {
        for statement in &parsed.statements {
            if let Instruction::OnBuild(trigger) = &statement.instruction {
                // It was checked where it stands, and is read again by whoever builds on the image.
                let _ = file::parse_trigger(trigger);
            }
        }
        if let Ok(graph) = Graph::new(&parsed, &args, None) {
            let (needed, images) = (graph.needed(graph.target), graph.images());
            assert!(needed.contains(&graph.target), "{needed:?} {images:?}");
        }
    }
}

/// Substitution, by every reading there is.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lookup = |name: &str| match name {
        "A" => Some("hello".to_owned()),
        "B" => Some("a b  c".to_owned()),
        "P" => Some("/usr/local/bin:/usr/bin".to_owned()),
        "EMPTY" => Some(String::new()),
        "STAR" => Some("a*b?c\\".to_owned()),
        _ => None,
    };
    for escape in ['\\', '`'] {
        for quotes in [Quotes::Remove, Quotes::Keep, Quotes::Literal] {
            for unset in [Unset::Empty, Unset::Keep] {
                let lexer = Lexer { escape, quotes, unset };
                let (word, words) = (lexer.word(text, &lookup), lexer.words(text, &lookup));
                assert_eq!(word.is_ok(), words.is_ok(), "{text:?} as one word or many");
            }
        }
    }
    let _ = file::heredoc_word(text);
}

/// The first line is a path, the rest are patterns.
pub fn dockerignore(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, patterns) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(rules) = IgnoreRules::parse(".dockerignore", patterns) else { return };
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).peekable();
    if parts.peek().is_some() {
        rules.verdict(&parts.collect::<Vec<_>>().join("/"));
    }
}

/// A reference that is read is written so that it reads back.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(reference) = text.parse::<ImageReference>() else { return };
    let written = reference.to_string();
    assert_eq!(written.parse::<ImageReference>().as_ref(), Ok(&reference), "{text:?} is written as {written:?}");
}

/// Manifests, indexes, configurations.
pub fn manifest(data: &[u8]) {
    for served_as in [None, Some("application/vnd.oci.image.index.v1+json"), Some("application/vnd.docker.distribution.manifest.v2+json")] {
        if let Ok(Document::Index(index)) = manifest::parse(data, served_as) {
            let _ = manifest::choose(&index, &Platform::host());
        }
    }
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(data) {
        assert!(serde_json::to_vec(&config).is_ok(), "what was read can be written");
    }
}

/// A layer is unpacked into a directory; nothing beside it is made, changed or removed.
pub fn layer(data: &[u8]) {
    let outer = tempfile::tempdir().expect("a directory");
    let root = outer.path().join("root");
    fs::create_dir(&root).expect("a directory in it");
    let canary = outer.path().join("canary");
    fs::write(&canary, "sings").expect("a file beside it");
    let top = || names(Path::new("/"));
    let before = top();
    let opened = fs::File::open(&root).expect("it was just made");
    // What it is refused for is not looked at.
    let _ = unpack(data, opened.into());
    assert_eq!(names(outer.path()), BTreeSet::from([canary.clone(), root]), "nothing is made beside the root");
    assert_eq!(fs::read(&canary).expect("still there"), b"sings");
    assert_eq!(top(), before, "nothing is made at the top of the host's tree");
}

fn names(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory that can be read");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// A manifest of a site, parsed and resolved with whatever files it names being there.
pub fn site(data: &[u8]) {
    if let Err(problems) = spec::load([("site.yaml", data)], &AnyFiles) {
        assert!(!problems.is_empty(), "a refused site says why");
    }
}

/// What a registry says about itself and what an operator says about registries: challenges, lists of signatures, settings, keys.
pub fn registry(data: &[u8]) {
    if let Err(problems) = spec::registries::parse_registries("registries.yaml", data) {
        assert!(!problems.is_empty(), "refused settings say why");
    }
    let _ = signature::parse_list(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(parse_challenges(text).len() <= text.len(), "each challenge takes some of the text");
    let _ = (PublicKey::from_pem(text), certificates(text));
}

/// Has every file.
struct AnyFiles;

impl SiteFiles for AnyFiles {
    fn read_text(&self, _path: &str) -> Result<String, SiteFileError> {
        Ok("A=1\n".to_owned())
    }

    fn content(&self, _path: &str) -> Result<SiteContent, SiteFileError> {
        Ok(SiteContent { kind: SiteFileKind::File, digest: Digest::of(b"") })
    }

    fn build_context(&self, _context: &str, _dockerfile: spec::Dockerfile<'_>) -> Result<BuildContext, SiteFileError> {
        Ok(BuildContext { content: Digest::of(b""), references: vec!["scratch".to_owned()] })
    }

    fn repository(&self, _address: &str) -> Option<String> {
        None
    }

    fn live_root(&self) -> Option<&Path> {
        None
    }
}
