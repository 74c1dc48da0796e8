//! Trees that no honest Git would make, and some that it would.

use super::repository::{Place, git, read, source};
use crate::source::git::export::{Limits, export};
use crate::source::time_limit::TimeLimit;
use crate::source::{CommitId, FetchError, SourceOptions};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Stores an object as it is, unchecked, and gives its id.
fn store(repository: &Path, kind: &str, bytes: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(["hash-object", "-w", "--literally", "--stdin", "-t", kind])
        .current_dir(repository)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

/// One entry of a tree: mode, name, object.
fn entry(mode: &str, name: &[u8], id: &str) -> Vec<u8> {
    let id: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()).collect();
    [mode.as_bytes(), b" ", name, b"\0", &id].concat()
}

/// Makes a commit with this tree the tip of `main` and fetches it.
fn fetch_tree(place: &Place, tree: &[u8]) -> Result<crate::source::Checkout, FetchError> {
    let tree = store(&place.bare(), "tree", tree);
    let commit = git(&place.bare(), &["commit-tree", "-m", "hostile", &tree]);
    git(&place.bare(), &["update-ref", "refs/heads/main", &commit]);
    source(place, &place.file_url(), SourceOptions::default()).fetch()
}

fn problem(result: Result<crate::source::Checkout, FetchError>) -> String {
    match result {
        Err(FetchError::Hostile { path, problem, .. }) => format!("{path} {problem}"),
        // Some trees are already refused by the library that reads them: as good.
        Err(FetchError::Objects { .. }) => "refused by the object database".into(),
        Err(error) => format!("other: {error}"),
        Ok(checkout) => format!("written to {}", checkout.root.display()),
    }
}

#[test]
fn names_that_leave_or_mean_something_are_refused() {
    let place = Place::new();
    let blob = store(&place.bare(), "blob", b"evil");
    for name in [&b".."[..], b".", b".git", b".GIT", b"a/b", b"../../evil"] {
        let told = problem(fetch_tree(&place, &entry("100644", name, &blob)));
        let shown = String::from_utf8_lossy(name);
        assert!(told.starts_with(&*shown) && told.contains(" is ") || told.starts_with("refused"), "{shown}: {told}");
    }
    let inner = store(&place.bare(), "tree", &entry("100644", b"config", &blob));
    let told = problem(fetch_tree(&place, &entry("40000", b".git", &inner)));
    assert!(told.contains(".git"), "{told}");
    assert!(!place.home().join("staging").exists(), "nothing is left of what was refused");
    assert!(!place.state().join("evil").exists() && !place.path().join("evil").exists());
}

#[test]
fn a_symlink_and_a_directory_of_the_same_name_are_refused() {
    let place = Place::new();
    let blob = store(&place.bare(), "blob", b"evil");
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let link = store(&place.bare(), "blob", b"real");
    let tree = store(&place.bare(), "tree", &entry("100644", b"evil", &blob));
    let both = [entry("120000", b"d", &link), entry("40000", b"d", &tree)].concat();
    assert_eq!(problem(fetch_tree(&place, &both)), "d is there twice");
}

#[test]
fn symlinks_stay_inside() {
    let leaving: [(&str, &[(&str, &str)]); 5] = [
        ("absolute", &[("l", "/etc/passwd")]),
        ("climbing", &[("a/l", "../../x")]),
        ("to the parent", &[("l", "..")]),
        ("through another one", &[("a/b/up", "../.."), ("a/b/l", "up/..")]),
        ("to itself", &[("l", "l")]),
    ];
    for (what, links) in leaving {
        let place = Place::new();
        for (name, target) in links {
            let path = place.work().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }
        place.push(&[], what);
        let told = problem(source(&place, &place.file_url(), SourceOptions::default()).fetch());
        assert!(told.contains(" is a symlink that le"), "{what}: {told}");
    }
    let place = Place::new();
    for (name, target) in [("good", "web.yaml"), ("dangling", "none"), ("a/up", "../web.yaml")] {
        let path = place.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
    place.push(&[], "links");
    let checkout = source(&place, &place.file_url(), SourceOptions::default()).fetch().unwrap();
    assert_eq!((read(&checkout, "good").as_str(), read(&checkout, "a/up").as_str()), ("one", "one"));
}

#[test]
fn names_that_differ_in_case_are_two_files() {
    let place = Place::new();
    place.push(&[("A.yaml", "upper"), ("a.yaml", "lower")], "twins");
    let checkout = source(&place, &place.file_url(), SourceOptions::default()).fetch().unwrap();
    assert_eq!((read(&checkout, "A.yaml").as_str(), read(&checkout, "a.yaml").as_str()), ("upper", "lower"));
}

#[test]
fn modes_are_kept_and_attributes_filters_and_submodules_do_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    fs::write(place.work().join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(place.work().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    place.push(&[(".gitattributes", "*.txt text eol=crlf ident\n"), ("a.txt", "line\n$Id$\n")], "attributes");
    let head = git(&place.work(), &["rev-parse", "HEAD"]);
    git(&place.work(), &["update-index", "--add", "--cacheinfo", &format!("160000,{head},module")]);
    git(&place.work(), &["commit", "-q", "-m", "module"]);
    git(&place.work(), &["push", "-q", "origin", "HEAD:main"]);
    let checkout = source(&place, &place.file_url(), SourceOptions::default()).fetch().unwrap();
    let mode = |name: &str| fs::metadata(checkout.root.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("run"), mode("a.txt"), mode("")), (0o755, 0o644, 0o755));
    assert_eq!(read(&checkout, "a.txt"), "line\n$Id$\n");
    assert_eq!(checkout.notes, ["module: a submodule is left empty"]);
    assert_eq!(fs::read_dir(checkout.root.join("module")).unwrap().count(), 0);
}

#[test]
fn a_tree_without_end_is_too_much() {
    let place = Place::new();
    let blob = store(&place.bare(), "blob", b"x");
    let mut tree = store(&place.bare(), "tree", &entry("100644", b"leaf", &blob));
    for _ in 0..70 {
        tree = store(&place.bare(), "tree", &entry("40000", b"d", &tree));
    }
    let told = problem(fetch_tree(&place, &entry("40000", b"d", &tree)));
    assert!(told.contains("levels") && told.contains("exceed 64"), "{told}");
    assert!(!place.home().join("staging").exists());
}

#[test]
fn more_than_the_limits_is_too_much() {
    let place = Place::new();
    place.push(&[("big", &"x".repeat(1000)), ("other", &"y".repeat(900))], "big");
    let repository = git2::Repository::open_bare(place.bare()).unwrap();
    let commit: CommitId = git(&place.bare(), &["rev-parse", "main"]).parse().unwrap();
    let told = |limits| {
        let into = tempfile::tempdir().unwrap();
        let time = TimeLimit::of(Duration::from_secs(60));
        export(&repository, &commit, None, &into.path().join("out"), (limits, time)).map(|_| ()).map_err(|error| error.to_string())
    };
    let enough = Limits { entries: 3, bytes: 1903, file_bytes: 1000 };
    assert_eq!(told(enough), Ok(()));
    let short = commit.short();
    assert_eq!(told(Limits { entries: 2, ..enough }), Err(format!("files of commit {short} exceed 2")));
    assert_eq!(told(Limits { bytes: 1902, ..enough }), Err(format!("bytes of commit {short} exceed 1902")));
    assert_eq!(told(Limits { file_bytes: 999, ..enough }), Err("bytes of big exceed 999".into()));
}
