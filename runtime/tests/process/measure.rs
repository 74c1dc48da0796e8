//! What a start costs: printed, never asserted.

use crate::scene::{Scene, finish};
use runtime::process::{Stdio, pidfd};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const ROUNDS: usize = 40;

/// Prints medians of a start (until the program runs), of the whole life of `true`, and of clearing up; and the processor time of both
/// sides, which is what remains when others keep the machine busy.
pub(crate) fn measure() {
    let mut scene = Scene::new();
    scene.config.process.args = vec!["/bin/true".into()];
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut spans: [Vec<Duration>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let (begun, own) = (Instant::now(), processor_time("self"));
        let started = scene.start(Stdio::Files { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() }).unwrap();
        spans[0].push(begun.elapsed());
        spans[3].push(processor_time("self") - own);
        pidfd::wait(started.pidfd.as_fd(), None).unwrap();
        spans[4].push(processor_time(&started.process.pid.to_string()));
        finish(&started);
        spans[1].push(begun.elapsed());
        scene.cgroup.remove().unwrap();
        spans[2].push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    let names = ["started", "ended", "cleared up", "processor, starter", "processor, init stage and `true`"];
    for (name, mut span) in names.into_iter().zip(spans) {
        span.sort();
        println!("{name}: median {:?}, best {:?}", span[ROUNDS / 2], span[0]);
    }
}

/// First field of /proc/[pid]/schedstat; a process that is not reaped yet still has it.
fn processor_time(process: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
