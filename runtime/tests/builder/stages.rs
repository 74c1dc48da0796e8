//! Stages side by side: the same result on any number of threads, and a failure ends all.

use crate::site::{Site, control_groups};
use runtime::builder::remote::{GitFetch, GitReference, GitTree};
use spec::value::Digest;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

const DIAMOND: &str = "FROM busybox AS base\nRUN echo base > /base\n\
    FROM base AS left\nRUN cat /base > /left; echo left >> /left\n\
    FROM base AS right\nRUN echo right > /right\nENV R=right\n\
    FROM busybox AS unused\nRUN false\n\
    FROM right\nRUN echo early > /early\nCOPY --from=left /left /\nRUN --mount=from=base,target=/b cat /b/base /left /right > /all; echo $R >> /all";

#[test]
fn any_number_of_threads_makes_the_same_image() {
    let mut ids = Vec::new();
    for workers in [1, 2, 3, 8] {
        let Some(mut site) = Site::with_busybox() else { return };
        site.request.workers = NonZeroUsize::new(workers).expect("not 0");
        let built = site.build(DIAMOND);
        assert_eq!(built.below("/all"), ["/all 0644 0:0 f base\nbase\nleft\nright\nright\n"]);
        assert!(!built.events.iter().any(|event| event.contains("unused")), "{:?}", built.events);
        ids.push(built.id);
        assert_eq!(site.build(DIAMOND).cached(), 6);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[test]
fn stages_run_at_the_same_time() {
    let Some(site) = Site::with_busybox() else { return };
    // Each waits for the other, by a cache that both have.
    let stage = |own: &str, other: &str| {
        format!(
            "FROM busybox AS {own}\nRUN --mount=type=cache,target=/c touch /c/{own}; while [ ! -e /c/{other} ]; do sleep 0.01; done; touch /{own}\n"
        )
    };
    let built = site.build(&format!("{}{}FROM one\nCOPY --from=two /two /", stage("one", "two"), stage("two", "one")));
    assert_eq!(built.below("/two").len(), 1);
}

#[test]
fn a_failure_ends_the_other_stages() {
    let Some(site) = Site::with_busybox() else { return };
    let text = "FROM busybox AS slow\nRUN --mount=type=cache,target=/c echo > /c/begun; sleep 1000\n\
                FROM busybox AS fails\nRUN --mount=type=cache,target=/c while [ ! -e /c/begun ]; do sleep 0.01; done; exit 7\n\
                FROM slow\nCOPY --from=fails /x /";
    let (result, events) = site.try_build(text);
    let error = result.expect_err("fails");
    assert!(format!("{error}").contains(":4:1: RUN"), "{error}");
    assert!(events.contains(&"slow 2 stopped".to_owned()), "{events:?}");
    let instance = site.request.places.instance();
    let left = control_groups(&instance).into_iter().flat_map(|group| std::fs::read_dir(group).expect("group"));
    assert_eq!(left.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count(), 0);
}

#[test]
fn a_failure_ends_what_others_wait_for() {
    let Some(site) = Site::with_busybox() else { return };
    site.build("FROM busybox\nRUN --mount=type=cache,target=/c,id=held true");
    // Somebody else has the cache, and keeps it.
    let cache = site.root().join("state/images/build-cache/mounts").join(format!("{}.lock", Digest::of(b"held").hex()));
    let held = std::fs::File::open(cache).expect("the cache's lock");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("the lock");
    let text = "FROM endless AS pulls\nFROM busybox AS waits\nRUN --mount=type=cache,target=/c,id=held,sharing=locked echo\n\
                FROM busybox AS fails\nRUN sleep 0.2; exit 7\nFROM busybox\nCOPY --from=pulls / /\nCOPY --from=waits / /\nCOPY --from=fails / /";
    let (result, events) = site.try_build(text);
    assert!(format!("{}", result.expect_err("fails")).contains(":5:1: RUN"));
    for stopped in ["pulls 1 stopped", "waits 2 stopped"] {
        assert!(events.contains(&stopped.to_owned()), "{events:?}");
    }
}

/// Repositories that never answer.
#[derive(Debug)]
struct Silent(Mutex<Receiver<()>>);

impl GitFetch for Silent {
    fn fetch(&self, _: &GitReference) -> Result<GitTree, Box<dyn std::error::Error + Send + Sync>> {
        let _ = self.0.lock().expect("nobody else asks").recv();
        Err("the test has ended".into())
    }
}

#[test]
fn a_failure_ends_downloads_that_nobody_answers() {
    let Some(mut site) = Site::with_busybox() else { return };
    // Kept open until the test has ended.
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (_test_lives, silence) = channel();
    site.request.git = Some(Arc::new(Silent(Mutex::new(silence))));
    let port = server.local_addr().expect("an address").port();
    let text = format!(
        "FROM busybox AS web\nADD http://127.0.0.1:{port}/file /\nFROM busybox AS git\nADD https://h.invalid/r.git /\n\
         FROM busybox AS fails\nRUN sleep 0.2; exit 7\nFROM busybox\nCOPY --from=web / /\nCOPY --from=git / /\nCOPY --from=fails / /"
    );
    let (result, events) = site.try_build(&text);
    assert!(format!("{}", result.expect_err("fails")).contains(":6:1: RUN"));
    for stopped in ["web 2 stopped", "git 2 stopped"] {
        assert!(events.contains(&stopped.to_owned()), "{events:?}");
    }
}

#[test]
fn a_trigger_of_the_base_may_copy_from_a_stage_that_nothing_else_needs() {
    let Some(mut site) = Site::with_busybox() else { return };
    let base = site.build("FROM busybox\nONBUILD COPY --from=made /x /y\nONBUILD RUN --mount=from=made,target=/m cat /m/x > /z");
    site.request.bases.insert("base".to_owned(), base.id);
    for workers in [1, 8] {
        site.request.workers = NonZeroUsize::new(workers).expect("not 0");
        let built = site.build("FROM busybox AS made\nRUN echo x > /x\nFROM base");
        assert_eq!((built.below("/y").len(), built.below("/z").len()), (1, 1));
        let missing = site.refusal("FROM busybox AS other\nFROM base");
        assert!(missing.contains("COPY --from=made"), "{missing}");
    }
}
