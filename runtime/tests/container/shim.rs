//! The shim itself: killed, replaced, raced.

use crate::host::{eventually, host};
use runtime::container;
use runtime::container::state::{ExitCause, Health, Phase};
use spec::value::RestartPolicy;
use std::time::Duration;

#[test]
fn a_killed_shim_loses_no_output_and_no_exit_status() {
    let Some(host) = host() else { return };
    let config =
        host.config("bereft@1", "i=0; while test $i -lt 200; do seq $((i*100+1)) $((i*100+100)); i=$((i+1)); sleep 0.005; done; exit 7");
    host.run(&config);
    let process = host.process(&config.id);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(60));
        host.kill_shim(&config.id);
        assert_eq!(host.process(&config.id), process, "the container runs on");
        container::adopt(&host.places, &config.id).expect("adopt");
        assert!(host.inspect(&config.id).shim_alive);
    }
    let exit = host.exit(&config.id);
    assert_eq!((exit.code, exit.cause), (7, ExitCause::Own));
    let numbers: Vec<u32> = host.stdout(&config.id).lines().map(|line| line.parse().expect("number")).collect();
    assert!(numbers.iter().copied().eq(1..=20_000), "{} lines, {:?}", numbers.len(), gap(&numbers));
}

fn gap(numbers: &[u32]) -> Option<(u32, u32)> {
    numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]).map(|pair| (pair[0], pair[1]))
}

#[test]
fn the_policy_goes_on_under_a_new_shim() {
    let Some(host) = host() else { return };
    let mut config = host.config("policy@1", "sleep 1000");
    config.updatable.restart = RestartPolicy::Always;
    host.run(&config);
    let first = host.process(&config.id);
    host.kill_shim(&config.id);
    container::adopt(&host.places, &config.id).expect("adopt");
    crate::host::kill(first.pid);
    eventually("it is back", || matches!(host.inspect(&config.id).state.phase, Phase::Running { process, .. } if process != first));
    assert_eq!(host.inspect(&config.id).state.restarts, 1);
}

#[test]
fn a_process_that_died_unwatched_is_the_policys_business() {
    let Some(host) = host() else { return };
    let mut config = host.config("unseen@1", "sleep 1000");
    config.updatable.restart = RestartPolicy::OnFailure { max_retries: None };
    host.run(&config);
    let first = host.process(&config.id);
    host.kill_shim(&config.id);
    crate::host::kill(first.pid);
    eventually("it is seen to be gone", || matches!(host.inspect(&config.id).state.phase, Phase::Exited { .. }));
    container::adopt(&host.places, &config.id).expect("adopt");
    eventually(
        "it is back",
        || matches!(host.inspect(&config.id).state.phase, Phase::Running { process, health: Health::Unchecked, .. } if process != first),
    );
}

#[test]
fn stop_works_without_a_shim() {
    let Some(host) = host() else { return };
    let config = host.config("alone@1", "trap 'exit 5' TERM; echo ready; while true; do sleep 0.05; done");
    host.run(&config);
    eventually("it listens", || host.stdout(&config.id) == "ready\n");
    host.kill_shim(&config.id);
    let state = container::stop(&host.places, &config.id, None, container::StopBy::User).expect("stop");
    let Phase::Exited { exit } = state.phase else { panic!("{state:?}") };
    assert_eq!((exit.code, exit.cause), (5, ExitCause::Requested));
}

#[test]
fn a_host_that_shuts_down_stops_containers_and_nobody_has_wished_it() {
    let Some(host) = host() else { return };
    let mut config = host.config("evening@1", "trap 'exit 5' TERM; echo ready; while true; do sleep 0.05; done");
    config.updatable.restart = RestartPolicy::Always;
    host.run(&config);
    eventually("it listens", || host.stdout(&config.id) == "ready\n");
    let shim = host.inspect(&config.id).state.shim.expect("a shim");
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", shim.pid)).expect("cgroup");
    assert!(groups.contains(&format!("/{}/shims\n", host.places.instance())), "outside the caller's service or session: {groups}");
    let pid = rustix::process::Pid::from_raw(shim.pid).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
    eventually("both are gone", || !host.inspect(&config.id).shim_alive);
    let snapshot = host.inspect(&config.id);
    let Phase::Exited { exit } = snapshot.state.phase else { panic!("{:?}", snapshot.state) };
    assert_eq!((exit.code, exit.cause, snapshot.stopped_by_user), (5, ExitCause::Requested, false));
}

#[test]
fn of_two_shims_one_wins() {
    let Some(host) = host() else { return };
    let config = host.config("raced@1", "sleep 1000");
    host.create(&config);
    container::prepare(&host.places, &config.id).expect("prepare");
    // Past the locks of the verbs, straight at the program.
    let spawn = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_container-shim"))
            .args(["monitor", host.places.state.to_str().expect("path"), host.places.run.to_str().expect("path"), "raced@1"])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("spawn")
    };
    let outputs = [spawn(), spawn()].map(|child| String::from_utf8(child.wait_with_output().expect("output").stdout).expect("text"));
    let won = outputs.iter().filter(|output| output.contains("\"state\"")).count();
    let lost = outputs.iter().filter(|output| output.contains("another shim")).count();
    assert_eq!((won, lost), (1, 1), "{outputs:?}");
    let snapshot = host.inspect(&config.id);
    assert!(snapshot.shim_alive && matches!(snapshot.state.phase, Phase::Running { .. }));
}

#[test]
fn many_starts_at_once_make_one_container() {
    let Some(host) = host() else { return };
    let config = host.config("crowd@1", "echo started; sleep 1000");
    host.create(&config);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| container::start(&host.places, &config.id).expect("start"));
        }
    });
    eventually("it wrote", || host.stdout(&config.id) == "started\n");
}

#[test]
fn a_shim_keeps_nothing_of_its_starter_open() {
    let Some(host) = host() else { return };
    let lock = tempfile::NamedTempFile::new().expect("file");
    rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty()).expect("as a shell leaves it");
    let config = host.config("clean@1", "sleep 1000");
    let shim = host.run(&config).shim.expect("shim");
    let open = std::fs::read_dir(format!("/proc/{}/fd", shim.pid)).expect("descriptors");
    let open: Vec<_> = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    assert!(!open.iter().any(|path| path == lock.path()), "{open:?}");
}
