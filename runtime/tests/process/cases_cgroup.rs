//! Groups: membership, limits, change while running, use, and the end of everything inside.

use crate::Case;
use crate::scene::{Scene, finish, kill};
use runtime::cgroup::settled;
use runtime::container::config::ResourceLimits;
use std::fs;
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[
    ("a_container_lives_in_its_own_group", a_container_lives_in_its_own_group),
    ("limits_are_read_back_and_change_while_it_runs", limits_are_read_back_and_change_while_it_runs),
    ("too_many_processes_are_refused", too_many_processes_are_refused),
    ("too_much_memory_is_counted_as_a_kill", too_much_memory_is_counted_as_a_kill),
    ("use_is_counted", use_is_counted),
    ("kill_all_ends_what_forks", kill_all_ends_what_forks),
    ("a_group_is_removed_and_may_be_absent", a_group_is_removed_and_may_be_absent),
];

fn a_container_lives_in_its_own_group() {
    let mut scene = Scene::new();
    let running = scene.background();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", running.process.pid)).unwrap();
    let own = format!("/{}/case@1", scene.places.instance());
    for name in ["memory", "pids", "cpu", "cpuacct", "devices", "freezer", "name=systemd", ""] {
        if let Some(line) = groups.lines().find(|line| line.split(':').nth(1) == Some(name)) {
            assert!(line.ends_with(&own), "{line}");
        }
    }
    assert_eq!(scene.cgroup.processes().unwrap(), [running.process.pid]);
    kill(&running);
}

fn limits_are_read_back_and_change_while_it_runs() {
    let mut scene = Scene::new();
    let limits = |memory: &str, cpus: &str, pids| ResourceLimits {
        memory: Some(memory.parse().unwrap()),
        cpus: Some(cpus.parse().unwrap()),
        pids: Some(pids),
    };
    scene.config.updatable.resources = limits("50000001", "0.25", 20);
    let running = scene.background();
    assert_eq!(scene.cgroup.read_limits().unwrap(), settled(&limits("50000001", "0.25", 20)));
    for next in [limits("100Mi", "1.5", 5), limits("20Mi", "0.05", 500), ResourceLimits::default()] {
        scene.cgroup.apply(&next).unwrap();
        assert_eq!(scene.cgroup.read_limits().unwrap(), settled(&next));
    }
    kill(&running);
}

fn too_many_processes_are_refused() {
    let mut scene = Scene::new();
    scene.config.updatable.resources.pids = Some(5);
    let outcome = scene.script("for i in 1 2 3 4 5 6 7 8; do sleep 5 & done").run().unwrap();
    assert!(outcome.err.contains("Resource temporarily unavailable"), "{outcome:?}");
}

fn too_much_memory_is_counted_as_a_kill() {
    let mut scene = Scene::new();
    scene.config.updatable.resources.memory = Some("16Mi".parse().unwrap());
    assert_eq!(scene.script("cat /dev/zero | tail > /dev/null & wait $!; true").run().unwrap().code, 0);
    assert!(scene.cgroup.oom_kills().unwrap() >= 1);
}

fn use_is_counted() {
    let mut scene = Scene::new();
    scene.config.updatable.resources.memory = Some("64Mi".parse().unwrap());
    let running = scene.background();
    let stats = scene.cgroup.stats().unwrap();
    assert_eq!((stats.pids, stats.memory_limit_bytes), (1, Some(64 << 20)));
    assert!(stats.memory_bytes > 0 && stats.memory_bytes < 64 << 20 && stats.cpu_ns > 0, "{stats:?}");
    kill(&running);
}

fn kill_all_ends_what_forks() {
    let mut scene = Scene::new();
    scene.config.updatable.resources.pids = Some(50);
    scene.background();
    let started = {
        scene.script("while true; do (sleep 100 &) 2>/dev/null; done");
        let null = fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        let fd = || std::os::fd::AsFd::as_fd(&null);
        scene.start(runtime::process::Stdio::Files { stdin: fd(), stdout: fd(), stderr: fd() }).unwrap()
    };
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    scene.cgroup.kill_all().unwrap();
    assert!(scene.cgroup.processes().unwrap().is_empty() && begun.elapsed() < Duration::from_secs(5));
    assert_eq!(finish(&started), 137);
}

fn a_group_is_removed_and_may_be_absent() {
    let scene = Scene::new();
    scene.cgroup.ensure(&ResourceLimits::default()).unwrap();
    scene.cgroup.ensure(&ResourceLimits::default()).unwrap();
    assert!(scene.cgroup.exists());
    scene.cgroup.remove().unwrap();
    scene.cgroup.remove().unwrap();
    assert!(!scene.cgroup.exists());
    scene.cgroup.kill_all().unwrap();
}
