//! House rules as tests. A rule that keeps being broken is changed here, not argued about.

use std::fs;
use std::path::{Path, PathBuf};

/// Non-test lines a file may have.
const FILE_LINES_MAX: usize = 600;
/// Lines a function may have, its signature included.
const FUNCTION_LINES_MAX: usize = 70;
/// Functions that may be longer, each with its reason. Only ever shrinks.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

struct Source {
    path: String,
    /// The lines before the first `#[cfg(test)]`.
    lines: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut found);
    }
    assert!(!found.is_empty(), "no sources below {folders:?}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().take_while(|line| !line.trim_start().starts_with("#[cfg(test)]")).map(str::to_owned).collect();
            found.push(Source { path: path.strip_prefix(root()).unwrap().display().to_string(), lines });
        }
    }
}

/// Test files by name: their folder says `tests`, or they are `tests.rs`.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/scenario")
}

/// Every line outside tests that breaks a rule, as `file:line: text`.
fn offences(folders: &[&str], allowed: &[&str], breaks: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(folders) {
        if is_test(&source.path) || allowed.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (number, line) in source.lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if breaks(code) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = sources(&["agent", "runtime", "spec", "tests"])
        .into_iter()
        .filter(|source| !source.lines.iter().find(|line| !line.is_empty()).is_some_and(|line| line.starts_with("//!")))
        .map(|source| source.path)
        .collect();
    assert!(silent.is_empty(), "begin with //! and the purpose: {silent:#?}");
}

#[test]
fn files_are_small() {
    let large: Vec<String> = sources(&["agent", "runtime", "spec", "tests"])
        .into_iter()
        .filter(|source| source.lines.len() > FILE_LINES_MAX)
        .map(|source| format!("{}: {} lines", source.path, source.lines.len()))
        .collect();
    assert!(large.is_empty(), "more than {FILE_LINES_MAX} lines without tests: {large:#?}");
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for source in sources(&["agent", "runtime", "spec"]).into_iter().filter(|source| !is_test(&source.path)) {
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in source.lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let text = line.trim_start();
            let begins = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn ", "pub async fn "];
            if open.is_none() && begins.iter().any(|begin| text.starts_with(begin)) {
                open = Some((number, indent, text.to_owned()));
            }
            let Some((start, depth, name)) = &open else { continue };
            let ends = indent == *depth && (text == "}" || (number == *start && text.ends_with('}')) || text.ends_with(';'));
            if ends {
                let excused = LONG_FUNCTIONS.iter().any(|(function, _)| name.contains(function));
                if number - start + 1 > FUNCTION_LINES_MAX && !excused {
                    long.push(format!("{}:{}: {} lines: {name}", source.path, start + 1, number - start + 1));
                }
                open = None;
            }
        }
    }
    assert!(long.is_empty(), "functions over {FUNCTION_LINES_MAX} lines: {long:#?}");
}

#[test]
fn unsafe_lives_in_sys_alone() {
    let found = offences(&["agent/src", "runtime/src", "spec/src"], &["runtime/src/sys/"], |code| {
        code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl") || code.contains("allow(unsafe_code)")
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn spec_does_no_io_and_reads_no_clock() {
    let forbidden = ["std::fs", "std::net::Tcp", "std::process", "SystemTime", "Instant::", "std::env", "tracing::", "async "];
    let found = offences(&["spec/src"], &[], |code| forbidden.iter().any(|word| code.contains(word)));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_planner_is_pure() {
    let forbidden = ["std::fs", "std::process", "SystemTime", "Instant::", "std::env", "tracing::", "rand", "Engine"];
    let found = offences(&["agent/src/plan"], &[], |code| forbidden.iter().any(|word| code.contains(word)));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_runtime_is_blocking_and_knows_no_manifest() {
    let forbidden = ["async fn", "tokio", "clap::", "spec::manifest"];
    let found = offences(&["runtime/src"], &[], |code| forbidden.iter().any(|word| code.contains(word)));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn async_lives_in_the_daemon_alone() {
    let found = offences(&["agent/src"], &["agent/src/daemon/"], |code| {
        code.contains("async fn") || code.contains("async move") || code.contains(".await;") || code.contains(".await?")
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn one_place_prints() {
    let forbidden = ["println!(", "print!(", "eprintln!(", "eprint!("];
    let found = offences(&["agent/src", "runtime/src", "spec/src"], &["agent/src/cli/render.rs", "runtime/src/shim/main.rs"], |code| {
        forbidden.iter().any(|word| code.contains(word))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn names_say_what_things_are() {
    let rooms = ["util", "utils", "helper", "helpers", "common", "manager", "misc"];
    let named: Vec<String> = sources(&["agent", "runtime", "spec", "tests"])
        .into_iter()
        .map(|source| source.path)
        .filter(|path| Path::new(path).components().any(|part| rooms.contains(&part.as_os_str().to_string_lossy().trim_end_matches(".rs"))))
        .collect();
    assert!(named.is_empty(), "name the noun it serves: {named:#?}");
}
