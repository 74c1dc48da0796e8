//! The ledger with a real file: order of records, two processes, damage, and a death in the middle.

use super::*;
use crate::plan::actual::SiteId;
use crate::source::Revision;
use runtime::container::state::Timestamp;
use serde_json::json;
use spec::desired::{Kind, ResourceId};
use spec::value::Digest;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    (directory, path)
}

fn site() -> SiteId {
    SiteId("https://git.test/site.git".into())
}

fn container(name: &str) -> ResourceId {
    ResourceId { kind: Kind::Container, name: name.into() }
}

fn revision(text: &str) -> Revision {
    Revision::Directory { fingerprint: Digest::of(text.as_bytes()) }
}

fn own(ledger: &mut Ledger, resource: &ResourceId, site: &SiteId, at: i64) -> Result<(), LedgerError> {
    let applied = json!({"image": "web"});
    ledger.intend(&Ownership { resource, site, applied: &applied, revision: Some(&revision("one")), at: Timestamp(at) })
}

fn outcome(kind: OutcomeKind, text: &str, at: i64) -> Outcome {
    Outcome {
        site: site(),
        revision: revision(text),
        desired: Some(Digest::of(text.as_bytes())),
        kind,
        summary: "1 created".into(),
        errors: Vec::new(),
        started: Timestamp(at),
        finished: Timestamp(at + 1),
    }
}

fn states(ledger: &Ledger) -> Vec<(String, OwnedState)> {
    ledger.owned(None).unwrap().into_iter().map(|owned| (owned.resource.to_string(), owned.state)).collect()
}

#[test]
fn a_resource_is_remembered_before_it_is_there_and_until_it_is_gone() {
    let (_directory, path) = place();
    let mut ledger = Ledger::open(&path).unwrap();
    let web = container("web@1");
    own(&mut ledger, &web, &site(), 1).unwrap();
    assert_eq!(states(&ledger), [("container/web@1".into(), OwnedState::Creating)]);
    own(&mut ledger, &web, &site(), 2).unwrap();
    ledger.confirm(&web, Timestamp(3)).unwrap();
    ledger.intend_removal(&web, Timestamp(4)).unwrap();
    drop(ledger);
    let mut ledger = Ledger::open(&path).unwrap();
    let found = ledger.find_owned(&web).unwrap().unwrap();
    assert_eq!((found.state, found.changed, found.revision), (OwnedState::Removing, Timestamp(4), Some(revision("one"))));
    assert_eq!(found.applied, json!({"image": "web"}));
    ledger.confirm_removal(&web).unwrap();
    ledger.confirm_removal(&web).unwrap();
    assert_eq!(states(&ledger), []);
}

#[test]
fn what_was_never_intended_cannot_be_confirmed() {
    let (_directory, path) = place();
    let mut ledger = Ledger::open(&path).unwrap();
    let error = ledger.confirm(&container("web@1"), Timestamp(1)).unwrap_err();
    assert_eq!(error.to_string(), "container/web@1 is not in the ledger");
    assert!(matches!(ledger.intend_removal(&container("web@1"), Timestamp(1)), Err(LedgerError::Unknown { .. })));
}

#[test]
fn a_resource_of_another_site_is_refused_and_stays_as_it_is() {
    let (_directory, path) = place();
    let mut ledger = Ledger::open(&path).unwrap();
    own(&mut ledger, &container("web@1"), &site(), 1).unwrap();
    let other = SiteId("/srv/other".into());
    let error = own(&mut ledger, &container("web@1"), &other, 2).unwrap_err();
    assert_eq!(error.to_string(), "container/web@1 belongs to the site https://git.test/site.git");
    assert_eq!(ledger.owned(Some(&other)).unwrap(), []);
    assert_eq!(ledger.owned(Some(&site())).unwrap().len(), 1);
}

#[test]
fn history_is_newest_first_and_repeats_are_counted() {
    let (_directory, path) = place();
    let mut ledger = Ledger::open(&path).unwrap();
    ledger.record_site(&site(), "https://git.test/site.git, branch main").unwrap();
    ledger.record_outcome(&outcome(OutcomeKind::Converged, "one", 10)).unwrap();
    for at in [20, 30, 40] {
        ledger.record_outcome(&outcome(OutcomeKind::Incomplete, "two", at)).unwrap();
    }
    let history = ledger.history(&site(), 10).unwrap();
    assert_eq!(
        history.iter().map(|entry| (entry.outcome.kind, entry.times)).collect::<Vec<_>>(),
        [(OutcomeKind::Incomplete, 3), (OutcomeKind::Converged, 1)]
    );
    assert_eq!((history[0].outcome.started, history[0].outcome.finished), (Timestamp(20), Timestamp(41)));
    assert_eq!(ledger.last_applied(&site()).unwrap().unwrap().outcome, outcome(OutcomeKind::Converged, "one", 10));
    let known = ledger.site(&site()).unwrap().unwrap();
    assert_eq!((known.last_revision, known.good_revision), (Some(revision("two")), Some(revision("one"))));
    assert_eq!(known.desired, Some(Digest::of(b"one")));
}

#[test]
fn history_and_events_do_not_grow_for_ever() {
    let (_directory, path) = place();
    let mut ledger = Ledger::open(&path).unwrap();
    ledger.connection.pragma_update(None, "synchronous", "OFF").unwrap();
    ledger.record_site(&site(), "x").unwrap();
    for at in 0..1_010 {
        ledger.record_outcome(&outcome(OutcomeKind::Converged, &at.to_string(), at)).unwrap();
    }
    let history = ledger.history(&site(), 5_000).unwrap();
    assert_eq!((history.len(), history[0].outcome.started), (1_000, Timestamp(1_009)));
    for (at, resource) in [(1, None), (2, Some(container("web@1")))] {
        ledger.record_event(&Event { at: Timestamp(at), site: site(), resource, text: "something".into() }).unwrap();
    }
    let events = ledger.events(1).unwrap();
    assert_eq!((events.len(), events[0].resource.clone()), (1, Some(container("web@1"))));
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let (_directory, path) = place();
    let mut ledger = Ledger::open(&path).unwrap();
    ledger.record_site(&site(), "x").unwrap();
    let log = path.with_extension("sqlite-wal");
    let before = (fs::metadata(&log).unwrap().modified().unwrap(), fs::read(&path).unwrap());
    ledger.record_site(&site(), "x").unwrap();
    ledger.owned(None).unwrap();
    Ledger::open(&path).unwrap().site(&site()).unwrap();
    assert_eq!((fs::metadata(&log).unwrap().modified().unwrap(), fs::read(&path).unwrap()), before);
}

#[test]
fn reading_makes_no_ledger() {
    let (_directory, path) = place();
    assert!(Ledger::read(&path).unwrap().is_none());
    assert!(!path.exists());
    Ledger::open(&path).unwrap().record_site(&site(), "x").unwrap();
    assert_eq!(Ledger::read(&path).unwrap().unwrap().sites().unwrap().len(), 1);
}

#[test]
fn a_damaged_ledger_is_an_error_and_stays_as_it_is() {
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 3] = [
        ("emptied", &|path| fs::write(path, b"").unwrap()),
        ("overwritten", &|path| fs::write(path, "not a database at all, but long enough to look like one".repeat(100)).unwrap()),
        ("torn", &|path| {
            let mut bytes = fs::read(path).unwrap();
            let page = bytes.len() - 4096;
            bytes[page..].fill(0xa5);
            fs::write(path, bytes).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let (_directory, path) = place();
        let mut ledger = Ledger::open(&path).unwrap();
        for number in 0..50 {
            own(&mut ledger, &container(&format!("web@{number}")), &site(), number).unwrap();
        }
        drop(ledger);
        damage(&path);
        let before = fs::read(&path).unwrap();
        let error = Ledger::open(&path).unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { .. }), "{what}: {error:?}");
        assert!(error.remedy().unwrap().contains("restore"));
        assert_eq!(fs::read(&path).unwrap(), before, "{what}: it is left alone");
    }
}

#[test]
fn a_newer_ledger_is_refused() {
    let (_directory, path) = place();
    Ledger::open(&path).unwrap().connection.pragma_update(None, "user_version", 99).unwrap();
    let error = Ledger::open(&path).unwrap_err();
    assert!(error.to_string().ends_with("has format 99; this version knows up to 2"), "{error}");
}

#[test]
fn an_older_ledger_is_read_as_it_is_and_migrated_by_the_first_who_writes() {
    let (_directory, path) = place();
    let connection = Ledger::open(&path).unwrap().connection;
    connection.execute_batch("DROP TABLE generation; PRAGMA user_version = 1;").unwrap();
    drop(connection);
    assert_eq!(Ledger::read(&path).unwrap().unwrap().generations(&site(), 3).unwrap(), []);
    let mut ledger = Ledger::open(&path).unwrap();
    ledger.record_generation(&site(), &images("one"), Timestamp(1)).unwrap();
    assert_eq!(Ledger::read(&path).unwrap().unwrap().generations(&site(), 3).unwrap(), [images("one")]);
}

fn images(what: &str) -> Generation {
    Generation::from([("web".to_owned(), Obtained { id: Digest::of(what.as_bytes()), applied: json!(what) })])
}

#[test]
fn a_generation_is_a_change_of_images_and_the_oldest_are_forgotten() {
    let (_directory, path) = place();
    let mut ledger = Ledger::open(&path).unwrap();
    let other = SiteId("other".into());
    ledger.record_generation(&other, &images("other"), Timestamp(0)).unwrap();
    ledger.record_generation(&site(), &Generation::new(), Timestamp(0)).unwrap();
    assert_eq!(ledger.generations(&site(), 9).unwrap(), [], "a site that never had images has no generations");
    for (at, what) in ["one", "one", "two", "one"].into_iter().enumerate() {
        ledger.record_generation(&site(), &images(what), Timestamp(at as i64)).unwrap();
    }
    assert_eq!(ledger.generations(&site(), 9).unwrap(), [images("one"), images("two"), images("one")]);
    assert_eq!(ledger.generations(&site(), 2).unwrap(), [images("one"), images("two")]);
    for at in 0..GENERATIONS_MAX + 5 {
        ledger.record_generation(&site(), &images(&at.to_string()), Timestamp(at.into())).unwrap();
    }
    assert_eq!(ledger.generations(&site(), u32::MAX).unwrap().len(), GENERATIONS_MAX as usize);
    assert_eq!(ledger.generations(&other, 9).unwrap(), [images("other")]);
}

#[test]
fn many_may_open_and_write_at_once() {
    let (_directory, path) = place();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let mut ledger = Ledger::open(path).unwrap();
                for number in 0..10 {
                    own(&mut ledger, &container(&format!("web-{writer}@{number}")), &site(), number).unwrap();
                }
            });
        }
    });
    assert_eq!(Ledger::open(&path).unwrap().owned(None).unwrap().len(), 40);
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["ledger.sqlite"], "nothing lies about");
}

/// Not a test by itself: the child of the next one, which says each record aloud once the ledger has acknowledged it.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("LEDGER_OF_A_CHILD") else { return };
    let mut ledger = Ledger::open(Path::new(&path)).unwrap();
    for number in 0.. {
        own(&mut ledger, &container(&format!("web@{number}")), &site(), number).unwrap();
        println!("\nacknowledged {number}");
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let (_directory, path) = place();
    let mut owned = 0;
    for round in 1..=5 {
        fs::remove_file(&path).unwrap_or_default();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::tests::child_that_writes_until_it_is_killed", "--nocapture"])
            .env("LEDGER_OF_A_CHILD", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = 0;
        while said < round * 7 {
            let line = lines.next().unwrap().unwrap();
            said += usize::from(line.starts_with("acknowledged "));
        }
        child.kill().unwrap();
        said += lines.map_while(Result::ok).filter(|line| line.starts_with("acknowledged ")).count();
        child.wait().unwrap();
        owned = Ledger::open(&path).unwrap().owned(None).unwrap().len();
        assert!(owned == said || owned == said + 1, "{said} acknowledged, {owned} found");
    }
    assert!(owned >= 35);
}
