//! What a start costs: printed, never asserted.

use crate::scene::{Scene, finish};
use runtime::process::Stdio;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const ROUNDS: usize = 40;

/// Prints medians of a start (until the program runs), of the whole life of `true`, and of clearing up.
pub(crate) fn measure() {
    let mut scene = Scene::new();
    scene.config.process.args = vec!["/bin/true".into()];
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut spans: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let started = scene.start(Stdio::Files { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() }).unwrap();
        spans[0].push(begun.elapsed());
        finish(&started);
        spans[1].push(begun.elapsed());
        scene.cgroup.remove().unwrap();
        spans[2].push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    for (name, mut span) in ["started", "ended", "cleared up"].into_iter().zip(spans) {
        span.sort();
        println!("{name}: median {:?}, best {:?}", span[ROUNDS / 2], span[0]);
    }
}
