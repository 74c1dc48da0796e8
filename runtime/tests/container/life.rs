//! Start, exit, restart, stop, health.

use crate::host::{SOON, eventually, host, id};
use runtime::container::config::ResourceLimits;
use runtime::container::state::{ExitCause, Health, Phase};
use runtime::container::{self, ContainerError, Waited, WhileRunning};
use runtime::shim::protocol::WaitCondition;
use spec::desired::HealthCheck;
use spec::value::{ByteSize, RestartPolicy, Signal};
use std::time::{Duration, Instant};

#[test]
fn exit_codes_are_exact() {
    let Some(host) = host() else { return };
    for (number, code) in [0, 1, 42, 255].into_iter().enumerate() {
        let config = host.config(&format!("exit{number}@1"), &format!("exit {code}"));
        host.run(&config);
        let exit = host.exit(&config.id);
        assert_eq!((exit.code, exit.cause), (code, ExitCause::Own));
        assert!(exit.started <= exit.finished);
    }
    let config = host.config("signal@1", "kill -USR1 $$");
    host.run(&config);
    // The first process of a pid namespace ignores signals it does not handle, even its own.
    assert_eq!(host.exit(&config.id).code, 0);
}

#[test]
fn sixty_short_lives_all_end_well() {
    let Some(host) = host() else { return };
    let mut config = host.config("quick@1", "");
    config.process.args = vec!["true".to_owned()];
    host.create(&config);
    for _ in 0..60 {
        container::start(&host.places, &config.id).expect("start");
        assert_eq!(host.exit(&config.id).code, 0);
    }
    assert!(!host.places.container_run(&config.id).join("netns").exists());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let Some(host) = host() else { return };
    let mut config = host.config("none@1", "");
    config.process.args = vec!["/bin/nonesuch".to_owned()];
    host.create(&config);
    let error = container::start(&host.places, &config.id).expect_err("cannot start");
    assert!(error.to_string().contains("/bin/nonesuch"), "{error}");
    let exit = host.exit(&config.id);
    assert_eq!(exit.code, 127);
    assert!(matches!(exit.cause, ExitCause::StartFailed { .. }), "{exit:?}");
}

#[test]
fn restarts_are_counted_and_put_off() {
    let Some(host) = host() else { return };
    let mut config = host.config("again@1", "echo once; exit 3");
    config.updatable.restart = RestartPolicy::OnFailure { max_retries: Some(3) };
    let before = Instant::now();
    host.run(&config);
    assert_eq!(host.exit(&config.id).code, 3);
    assert!(before.elapsed() >= Duration::from_millis(100 + 200 + 400));
    let state = host.inspect(&config.id).state;
    assert_eq!(state.restarts, 3);
    assert_eq!(host.stdout(&config.id), "once\n".repeat(4));
}

#[test]
fn a_killed_process_is_started_again_with_the_same_files() {
    let Some(host) = host() else { return };
    let mut config = host.config("killed@1", "test -e /tmp/mark && echo back; touch /tmp/mark; sleep 1000");
    config.updatable.restart = RestartPolicy::Always;
    host.run(&config);
    let first = host.process(&config.id);
    eventually("it made its mark", || host.places.container(&config.id).join("upper/tmp/mark").exists());
    crate::host::kill(first.pid);
    eventually("it is back", || host.stdout(&config.id) == "back\n");
    assert_ne!(host.process(&config.id), first);
    assert_eq!(host.inspect(&config.id).state.restarts, 1);
}

#[test]
fn stop_asks_then_kills_and_lasts() {
    let Some(host) = host() else { return };
    let mut config = host.config("deaf@1", "trap '' TERM; echo ready; while true; do sleep 1; done");
    config.updatable.restart = RestartPolicy::Always;
    host.run(&config);
    eventually("it is deaf", || host.stdout(&config.id) == "ready\n");
    let before = Instant::now();
    let state = container::stop(&host.places, &config.id, Some(Duration::from_millis(300)), container::StopBy::User).expect("stop");
    let Phase::Exited { exit } = state.phase else { panic!("{state:?}") };
    assert_eq!((exit.code, exit.cause), (137, ExitCause::Requested));
    assert!(before.elapsed() >= Duration::from_millis(300) && before.elapsed() < SOON);
    let snapshot = host.inspect(&config.id);
    assert!(snapshot.stopped_by_user);
    container::start(&host.places, &config.id).expect("start");
    assert!(!host.inspect(&config.id).stopped_by_user);
}

#[test]
fn stop_is_heard_by_one_that_listens() {
    let Some(host) = host() else { return };
    let config = host.config("polite@1", "trap 'echo bye; exit 9' TERM; echo ready; while true; do sleep 0.05; done");
    host.run(&config);
    eventually("it listens", || host.stdout(&config.id) == "ready\n");
    let state = container::stop(&host.places, &config.id, None, container::StopBy::User).expect("stop");
    let Phase::Exited { exit } = state.phase else { panic!("{state:?}") };
    assert_eq!((exit.code, exit.cause), (9, ExitCause::Requested));
    assert_eq!(host.stdout(&config.id), "ready\nbye\n");
    container::stop(&host.places, &config.id, None, container::StopBy::User).expect("stopping twice is fine");
}

#[test]
fn kill_restart_and_update_do_what_they_say() {
    let Some(host) = host() else { return };
    let mut config = host.config("verbs@1", "sleep 1000");
    config.updatable.restart = RestartPolicy::UnlessStopped;
    host.run(&config);
    let first = host.process(&config.id);
    let state = container::restart(&host.places, &config.id, Some(Duration::ZERO)).expect("restart");
    assert!(matches!(state.phase, Phase::Running { process, .. } if process != first), "{state:?}");
    assert_eq!(state.restarts, 0);
    let mut updatable = config.updatable.clone();
    updatable.resources.pids = Some(17);
    container::update(&host.places, &config.id, &updatable).expect("update");
    assert_eq!(host.inspect(&config.id).config.updatable, updatable);
    assert!(matches!(container::remove(&host.places, &config.id, WhileRunning::Refuse), Err(ContainerError::StillRunning { .. })));
    container::kill(&host.places, &config.id, Signal::KILL).expect("kill");
    let exit = host.exit(&config.id);
    assert_eq!((exit.code, exit.cause), (137, ExitCause::Requested));
    assert!(host.inspect(&config.id).stopped_by_user);
}

#[test]
fn want_of_memory_is_named() {
    let Some(host) = host() else { return };
    let mut config = host.config("hungry@1", "head -c 100m /dev/zero | tail -c 90m");
    config.process.args = ["tail", "-c", "100m", "/dev/zero"].map(str::to_owned).to_vec();
    config.updatable.resources = ResourceLimits { memory: Some(ByteSize::from_bytes(8 << 20)), ..ResourceLimits::default() };
    host.run(&config);
    let exit = host.exit(&config.id);
    assert_eq!((exit.code, exit.cause), (137, ExitCause::OutOfMemory));
}

#[test]
fn health_comes_goes_and_comes_back() {
    let Some(host) = host() else { return };
    let mut config = host.config("probed@1", "touch /tmp/well; sleep 1000");
    config.health = Some(HealthCheck {
        test: ["sh", "-c", "echo looked; test -e /tmp/well"].map(str::to_owned).to_vec(),
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(5),
        retries: 2,
        start_period: Duration::ZERO,
    });
    host.run(&config);
    let wait = || container::wait(&host.places, &config.id, WaitCondition::Healthy, Some(SOON)).expect("wait");
    assert!(matches!(wait(), Waited::Reached(_)));
    let well = host.inside(&config.id, "tmp/well");
    let health = || match host.inspect(&config.id).state.phase {
        Phase::Running { health, .. } => health,
        other => panic!("{other:?}"),
    };
    std::fs::remove_file(&well).expect("remove");
    eventually("it is unhealthy", || matches!(health(), Health::Unhealthy { failures: 2.., output } if output == "looked\n"));
    assert!(matches!(wait(), Waited::Missed(_)));
    std::fs::write(&well, "").expect("write");
    eventually("it is healthy again", || health() == Health::Healthy);
}

#[test]
fn a_probe_that_hangs_is_a_failure() {
    let Some(host) = host() else { return };
    let mut config = host.config("hang@1", "sleep 1000");
    config.health = Some(HealthCheck {
        test: ["sleep", "1000"].map(str::to_owned).to_vec(),
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(100),
        retries: 1,
        start_period: Duration::ZERO,
    });
    host.run(&config);
    let waited = container::wait(&host.places, &config.id, WaitCondition::Healthy, Some(SOON)).expect("wait");
    assert!(matches!(waited, Waited::Missed(_)), "{waited:?}");
    let state = container::stop(&host.places, &config.id, Some(Duration::ZERO), container::StopBy::User).expect("stop");
    assert!(matches!(state.phase, Phase::Exited { .. }));
}

#[test]
fn create_is_whole_and_remove_is_thorough() {
    let Some(host) = host() else { return };
    let config = host.config("thing@1", "sleep 1000");
    host.create(&config);
    let again = container::create(&host.places, &config, &serde_json::Value::Null, None);
    assert!(matches!(again, Err(ContainerError::AlreadyExists { .. })));
    assert_eq!(host.inspect(&config.id).state.phase, Phase::Created);
    container::annotate(&host.places, &config.id, serde_json::json!({"site": "shop"})).expect("annotate");
    assert_eq!(host.inspect(&config.id).annotations, serde_json::json!({"site": "shop"}));
    container::start(&host.places, &config.id).expect("start");
    container::remove(&host.places, &config.id, WhileRunning::Kill).expect("remove");
    container::remove(&host.places, &config.id, WhileRunning::Refuse).expect("removing twice is fine");
    assert!(matches!(container::inspect(&host.places, &config.id), Err(ContainerError::NotFound { .. })));
}

#[test]
fn one_spoilt_container_does_not_hide_the_others() {
    let Some(host) = host() else { return };
    for name in ["good@1", "bad@1"] {
        host.create(&host.config(name, "true"));
    }
    std::fs::write(host.places.container(&id("bad@1")).join("container.json"), "{").expect("write");
    let containers = container::list(&host.places).expect("list");
    assert!(containers[&id("good@1")].is_ok());
    assert!(matches!(containers[&id("bad@1")], Err(ContainerError::Corrupt { .. })));
}
