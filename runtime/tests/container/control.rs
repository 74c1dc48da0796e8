//! The control socket under strange clients.

use crate::host::{SOON, host};
use runtime::container::{self, Waited};
use runtime::shim::protocol::WaitCondition;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[test]
fn nonsense_is_answered_and_the_slow_hold_nobody_up() {
    let Some(host) = host() else { return };
    let config = host.config("asked@1", "sleep 1000");
    host.run(&config);
    let path = host.places.container_run(&config.id).join("control.sock");
    assert_eq!(std::fs::metadata(&path).expect("socket").permissions().mode() & 0o777, 0o600);
    let connect = || UnixStream::connect(&path).expect("connect");
    let ask = |bytes: &[u8]| {
        let mut stream = connect();
        // The other side may hang up in the middle of a flood.
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    for nonsense in ["\n", "{}\n", "{\"request\":\"fly\"}\n", "\0\0\0\n", "{\"request\":\"kill\",\"signal\":\"99\"}\n"] {
        assert!(ask(nonsense.as_bytes()).contains("not a request"), "{nonsense:?}");
    }
    ask(&vec![b'x'; 1 << 20]);
    let slow: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"{\"requ").expect("write");
            stream
        })
        .collect();
    let before = Instant::now();
    assert!(ask(b"{\"request\":\"state\"}\n").contains("\"running\""));
    assert!(before.elapsed() < Duration::from_secs(2));
    drop(slow);
}

#[test]
fn several_wait_and_all_are_answered() {
    let Some(host) = host() else { return };
    let config = host.config("awaited@1", "sleep 0.5; exit 6");
    host.run(&config);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(host.exit(&config.id).code, 6));
        }
    });
}

#[test]
fn a_wait_ends_in_time() {
    let Some(host) = host() else { return };
    let config = host.config("patience@1", "sleep 1000");
    host.run(&config);
    let before = Instant::now();
    let waited = container::wait(&host.places, &config.id, WaitCondition::Exited, Some(Duration::from_millis(200)));
    assert!(matches!(waited, Ok(Waited::TimedOut(_))), "{waited:?}");
    assert!(before.elapsed() >= Duration::from_millis(200) && before.elapsed() < SOON);
}
