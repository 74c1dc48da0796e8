//! Fetching from real repositories over every transport.

mod hostile;
mod repository;
mod tls;

use super::super::{FetchError, Revision, SourceOptions};
use super::homes::{self, Wanted};
use repository::{Habits, HttpServer, Place, SshServer, git, read, source, told};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// 200 kB that no compression makes smaller than half.
fn incompressible() -> String {
    (0..3000u32).map(|number| spec::value::Digest::of(&number.to_be_bytes()).hex()).collect()
}

/// Push, fetch, push, fetch, force-push, fetch: the same over every transport.
fn follows(place: &Place, url: &str, options: SourceOptions) {
    let source = source(place, url, options);
    let first = source.fetch().unwrap();
    assert_eq!(read(&first, "web.yaml"), "one");
    assert!(!first.live);
    assert_eq!(source.fetch().unwrap().root, first.root, "nothing new is nothing to do");

    place.push(&[("web.yaml", "two"), ("hosts/a/db.yaml", "db")], "second\n\nwith a body");
    let second = source.fetch().unwrap();
    assert_eq!((read(&second, "web.yaml").as_str(), read(&second, "hosts/a/db.yaml").as_str()), ("two", "db"));
    assert_eq!(read(&first, "web.yaml"), "one", "the checkout of before is not touched");
    let Revision::Commit { id, summary, author_time } = &second.revision else { panic!("not a commit") };
    assert_eq!(id.as_str(), git(&place.work(), &["rev-parse", "HEAD"]));
    assert_eq!(summary, "second");
    let seconds: i64 = git(&place.work(), &["log", "-1", "--format=%at"]).parse().unwrap();
    assert_eq!(author_time.0, seconds * 1_000_000_000);

    git(&place.work(), &["reset", "-q", "--hard", "HEAD~1"]);
    fs::write(place.work().join("web.yaml"), "three").unwrap();
    place.commit("another history");
    git(&place.work(), &["push", "-q", "--force", "origin", "HEAD:main"]);
    let third = source.fetch().unwrap();
    assert_eq!(read(&third, "web.yaml"), "three");
    assert!(!third.root.join("hosts").exists());
}

#[test]
fn a_file_repository_is_followed() {
    let place = Place::new();
    follows(&place, &place.file_url(), SourceOptions::default());
    assert!(!place.home().join("repo.git").exists(), "it is read in place");
}

#[test]
fn an_http_repository_is_followed_without_its_history() {
    let place = Place::new();
    let server = HttpServer::start(place.path(), Habits::default());
    follows(&place, &server.url(), SourceOptions::default());
    let objects = git(&place.home().join("repo.git"), &["count-objects", "-v"]);
    assert!(objects.contains("packs: 3"), "one pack for each push: {objects}");
}

#[test]
fn an_ssh_repository_is_followed() {
    let place = Place::new();
    let Some(server) = SshServer::start(&place) else { return };
    follows(&place, &server.url(&place), server.options());
}

#[test]
fn a_push_transfers_its_difference_only() {
    let place = Place::new();
    let big = incompressible();
    place.push(&[("big", &big)], "big");
    let server = HttpServer::start(place.path(), Habits::default());
    let source = source(&place, &server.url(), SourceOptions::default());
    source.fetch().unwrap();
    let before = server.sent.load(Ordering::Relaxed);
    assert!(before > 50_000, "{before}");
    let edited = big.replacen('0', "1", 1);
    place.push(&[("web.yaml", "two"), ("big", &edited)], "small");
    let checkout = source.fetch().unwrap();
    assert!(read(&checkout, "web.yaml") == "two" && read(&checkout, "big") == edited);
    let small = server.sent.load(Ordering::Relaxed) - before;
    assert!(small < 5_000, "{small} bytes for a small push");
    source.fetch().unwrap();
    let asked = server.sent.load(Ordering::Relaxed) - before - small;
    assert!(asked < 1_000, "{asked} bytes for asking");
}

#[test]
fn branch_and_folder_are_followed() {
    let place = Place::new();
    place.push(&[("hosts/web/a.yaml", "a"), ("hosts/db/b.yaml", "b")], "folders");
    git(&place.work(), &["push", "-q", "origin", "HEAD:next"]);
    let options = || SourceOptions { branch: Some("next".into()), path: Some("hosts/web".into()), ..SourceOptions::default() };
    let server = HttpServer::start(place.path(), Habits::default());
    for url in [place.file_url(), server.url()] {
        let source = source(&place, &url, options());
        let checkout = source.fetch().unwrap();
        assert_eq!(read(&checkout, "a.yaml"), "a");
        assert!(!checkout.root.join("hosts").exists());
        assert_eq!(source.site().0, format!("{url}//hosts/web"));
        assert_eq!(source.describe(), format!("{url}, branch next, folder hosts/web"));
    }
}

#[test]
fn a_branch_or_folder_that_is_not_there_is_named_and_the_last_good_checkout_stays() {
    let place = Place::new();
    let server = HttpServer::start(place.path(), Habits::default());
    for url in [place.file_url(), server.url()] {
        let missing = source(&place, &url, SourceOptions { branch: Some("gone".into()), ..SourceOptions::default() });
        let error = missing.fetch().unwrap_err();
        assert_eq!(error.to_string(), format!("{url} has no branch \"gone\""));
        assert_eq!(error.remedy().as_deref(), Some("it has: main"));

        let missing = source(&place, &url, SourceOptions { path: Some("none".into()), ..SourceOptions::default() });
        let error = missing.fetch().unwrap_err();
        assert!(matches!(&error, FetchError::FolderMissing { folder, .. } if folder == "none"), "{error}");

        git(&place.work(), &["push", "-q", "--force", "origin", "HEAD:other"]);
        let source = source(&place, &url, SourceOptions { branch: Some("other".into()), ..SourceOptions::default() });
        let good = source.fetch().unwrap();
        git(&place.work(), &["push", "-q", "origin", ":other"]);
        assert!(matches!(source.fetch(), Err(FetchError::BranchMissing { .. })));
        assert_eq!(source.kept().unwrap().unwrap().revision, good.revision);
    }
}

#[test]
fn an_empty_repository_says_so() {
    let place = Place::new();
    git(place.path(), &["init", "-q", "--bare", "empty.git"]);
    let server = HttpServer::start(place.path(), Habits::default());
    for url in [format!("file://{}/empty.git", place.path().display()), server.url().replace("site", "empty")] {
        let error = source(&place, &url, SourceOptions::default()).fetch().unwrap_err();
        assert!(matches!(error, FetchError::Empty { .. }), "{error}");
    }
}

#[test]
fn what_is_no_repository_says_so() {
    let place = Place::new();
    fs::create_dir(place.path().join("plain")).unwrap();
    let server = HttpServer::start(place.path(), Habits::default());
    let page = HttpServer::start(place.path(), Habits { page: Some("<html>"), ..Habits::default() });
    let urls = [
        format!("file://{}/none.git", place.path().display()),
        format!("file://{}/plain", place.path().display()),
        server.url().replace("site", "none"),
        page.url(),
    ];
    for url in urls {
        let error = source(&place, &url, SourceOptions::default()).fetch().unwrap_err();
        assert!(matches!(error, FetchError::NotARepository { .. }), "{url}: {}", told(&error));
    }
}

#[test]
fn a_dead_remote_leaves_the_last_good_checkout() {
    let place = Place::new();
    let server = HttpServer::start(place.path(), Habits::default());
    let alive = source(&place, &server.url(), SourceOptions::default());
    let good = alive.fetch().unwrap();
    fs::rename(place.bare(), place.path().join("away.git")).unwrap();
    assert!(matches!(alive.fetch(), Err(FetchError::NotARepository { .. })));
    let kept = alive.kept().unwrap().unwrap();
    assert_eq!((kept.revision, read(&good, "web.yaml")), (good.revision.clone(), "one".into()));

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = source(&place, &format!("http://127.0.0.1:{nobody}/site.git"), SourceOptions::default());
    let error = dead.fetch().unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{}", told(&error));
    assert!(dead.kept().unwrap().is_none());
}

#[test]
fn an_answer_that_breaks_off_changes_nothing_and_is_asked_for_again() {
    let place = Place::new();
    let big = incompressible();
    place.push(&[("big", &big)], "big");
    let broken = HttpServer::start(place.path(), Habits { cut_after: Some(20_000), ..Habits::default() });
    let first = source(&place, &broken.url(), SourceOptions::default());
    let error = first.fetch().unwrap_err();
    assert!(matches!(error, FetchError::Protocol { .. } | FetchError::Unreachable { .. }), "{}", told(&error));
    assert!(first.kept().unwrap().is_none());
    assert!(!place.home().join("staging").exists());
}

#[test]
fn passwords_are_asked_for_sent_and_never_shown() {
    let place = Place::new();
    let server = HttpServer::start(place.path(), Habits { password: Some(("ann", "s3cret")), ..Habits::default() });
    let error = source(&place, &server.url(), SourceOptions::default()).fetch().unwrap_err();
    assert!(matches!(error, FetchError::Authentication { .. }), "{error}");
    assert!(error.remedy().unwrap().contains("--password-file"));

    let wrong = source(&place, &server.url().replace("127", "ann:wr0ng@127"), SourceOptions::default());
    let error = wrong.fetch().unwrap_err();
    assert!(error.remedy().unwrap().contains("not accepted"));
    for text in [told(&error), format!("{error:?}"), format!("{wrong:?}"), wrong.describe(), wrong.site().0.clone()] {
        assert!(!text.contains("wr0ng"), "{text}");
    }

    let right = source(&place, &server.url().replace("127", "ann:s3cret@127"), SourceOptions::default());
    assert_eq!(read(&right.fetch().unwrap(), "web.yaml"), "one");
    let file = place.path().join("password");
    fs::write(&file, "s3cret\n").unwrap();
    let options = SourceOptions { password_file: Some(file), ..SourceOptions::default() };
    let by_file = source(&place, &server.url().replace("127", "ann@127"), options);
    assert_eq!(read(&by_file.fetch().unwrap(), "web.yaml"), "one");
}

#[test]
fn a_redirect_is_followed_and_keeps_the_password_on_the_same_host() {
    let place = Place::new();
    let password = Some(("ann", "s3cret"));
    let server = HttpServer::start(place.path(), Habits { redirects: true, password, ..Habits::default() });
    let url = server.url().replace("/site", "/moved/site").replace("127", "ann:s3cret@127");
    let moved = source(&place, &url, SourceOptions::default());
    assert_eq!(read(&moved.fetch().unwrap(), "web.yaml"), "one");
}

#[test]
fn ssh_failures_are_told_apart() {
    let place = Place::new();
    let Some(server) = SshServer::start(&place) else { return };
    let fetch = |url: &str, options| source(&place, url, options).fetch().unwrap_err();
    let url = server.url(&place);

    let error = fetch(&url, SourceOptions { ssh_key: Some(server.file("stranger")), ..server.options() });
    assert!(matches!(error, FetchError::Authentication { .. }), "{}", told(&error));

    fs::write(server.file("empty"), "").unwrap();
    let error = fetch(&url, SourceOptions { known_hosts: Some(server.file("empty")), ..server.options() });
    assert!(matches!(error, FetchError::HostKey { .. }), "{}", told(&error));

    let changed = fs::read_to_string(server.file("stranger.pub")).unwrap();
    fs::write(server.file("changed"), format!("[127.0.0.1]:{} {changed}", server.port)).unwrap();
    let error = fetch(&url, SourceOptions { known_hosts: Some(server.file("changed")), ..server.options() });
    assert!(matches!(error, FetchError::HostKey { .. }), "{}", told(&error));

    let error = fetch(&url.replace("site.git", "none.git"), server.options());
    assert!(matches!(error, FetchError::NotARepository { .. }), "{}", told(&error));

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = fetch(&url.replace(&format!(":{}", server.port), &format!(":{nobody}")), server.options());
    assert!(matches!(error, FetchError::Unreachable { .. }), "{}", told(&error));
}

#[test]
fn damaged_objects_are_fetched_anew() {
    let place = Place::new();
    let server = HttpServer::start(place.path(), Habits::default());
    let source = source(&place, &server.url(), SourceOptions::default());
    place.push(&[("stays.yaml", "the same")], "more");
    source.fetch().unwrap();
    let packs = place.home().join("repo.git/objects/pack");
    for entry in fs::read_dir(&packs).unwrap().flatten() {
        fs::write(entry.path(), "garbage").unwrap_or_default();
    }
    place.push(&[("web.yaml", "two")], "next");
    let checkout = source.fetch().unwrap();
    assert_eq!((read(&checkout, "web.yaml").as_str(), read(&checkout, "stays.yaml").as_str()), ("two", "the same"));
}

#[test]
fn objects_do_not_pile_up() {
    let place = Place::new();
    let server = HttpServer::start(place.path(), Habits::default());
    let source = source(&place, &server.url(), SourceOptions::default());
    source.fetch().unwrap();
    let packs = place.home().join("repo.git/objects/pack");
    (0..64).for_each(|number| fs::write(packs.join(format!("pack-{number}.pack")), "").unwrap());
    place.push(&[("web.yaml", "two")], "next");
    assert_eq!(read(&source.fetch().unwrap(), "web.yaml"), "two");
    let left = fs::read_dir(&packs).unwrap().flatten().filter(|entry| entry.path().extension().is_some_and(|it| it == "pack"));
    assert_eq!(left.count(), 1);
    let parent = git2::Oid::from_str(&git(&place.work(), &["rev-parse", "HEAD~1"])).unwrap();
    let objects = git2::Repository::open_bare(place.home().join("repo.git")).unwrap();
    assert!(objects.find_commit(parent).is_err(), "the history is not transferred");
}

#[test]
fn old_checkouts_go_unless_kept_current_or_held() {
    let place = Place::new();
    let source = source(&place, &place.file_url(), SourceOptions::default());
    let mut ids = Vec::new();
    for text in ["two", "three", "four", "five"] {
        place.push(&[("web.yaml", text)], text);
        let checkout = source.fetch().unwrap();
        ids.push(checkout.revision.commit().unwrap().clone());
    }
    let held = source.checkout_of(&ids[1]).unwrap().unwrap();
    let removed = source.prune(&BTreeSet::from([ids[0].clone()])).unwrap();
    assert_eq!(removed, [ids[2].clone()]);
    assert_eq!(read(&held, "web.yaml"), "three");
    drop(held);
    assert_eq!(source.prune(&BTreeSet::new()).unwrap().len(), 2);
    assert!(source.checkout_of(&ids[1]).unwrap().is_none());
    assert_eq!(source.kept().unwrap().unwrap().revision.commit(), Some(&ids[3]));
}

#[test]
fn what_is_kept_of_a_remote_goes_unless_wanted_or_held() {
    let place = Place::new();
    let source = source(&place, &place.file_url(), SourceOptions::default());
    let checkout = source.fetch().unwrap();
    let (home, commit) = (source.home().unwrap().to_owned(), checkout.revision.commit().unwrap().clone());
    let unused = |wanted: &Wanted| homes::unused(&place.state(), wanted).unwrap();
    assert_eq!(unused(&Wanted::default()), [""; 0].map(PathBuf::from), "it is held");
    homes::remove(&home).unwrap();
    assert_eq!(read(&checkout, "web.yaml"), "one");
    drop(checkout);
    assert_eq!(unused(&Wanted { commits: [commit].into(), ..Wanted::default() }), [""; 0].map(PathBuf::from));
    assert_eq!(unused(&Wanted { homes: [home.clone()].into(), ..Wanted::default() }), [""; 0].map(PathBuf::from));
    // What an interrupted removal left goes too.
    let old = home.with_file_name("old 0123456789abcdef");
    fs::create_dir(&old).unwrap();
    assert_eq!(unused(&Wanted::default()), [home.clone(), old.clone()]);
    [home, old].iter().for_each(|path| homes::remove(path).unwrap());
    assert_eq!(fs::read_dir(place.state().join("sources")).unwrap().count(), 0);
    assert_eq!(read(&source.fetch().unwrap(), "web.yaml"), "one");
}

#[test]
fn two_processes_fetch_one_after_the_other() {
    let place = Place::new();
    let server = HttpServer::start(place.path(), Habits::default());
    let fetched: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| source(&place, &server.url(), SourceOptions::default()).fetch().unwrap().revision)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(fetched.windows(2).all(|pair| pair[0] == pair[1]));
}
