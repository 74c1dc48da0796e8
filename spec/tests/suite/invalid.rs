//! Manifests that are refused, with the exact text a user sees: `invalid/NAME.yaml` and `invalid/NAME.txt`.
//!
//! `UPDATE=1 cargo test -p spec --test suite invalid` writes the texts anew; read every one of them before committing.

use super::site::Case;
use spec::diagnostic::{Style, render_all};
use std::path::Path;

#[test]
fn every_invalid_manifest_is_explained() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid");
    let mut paths: Vec<_> = std::fs::read_dir(&directory)
        .expect("the cases are there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 60, "only {} cases", paths.len());
    let mut wrong = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a case is text");
        let actual = match Case::new(&text).load() {
            Ok(resolved) => format!("accepted\n{}", render_all(&resolved.warnings, Style::Plain)),
            Err(problems) => render_all(&problems, Style::Plain),
        };
        let expected_path = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expected_path, &actual).expect("the text can be written");
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if actual != expected {
            wrong.push_str(&format!("--- {}\nexpected:\n{expected}\nactual:\n{actual}\n", path.display()));
        }
        if actual.starts_with("accepted") && !text.contains("# warning only") {
            wrong.push_str(&format!("--- {} is accepted\n", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
