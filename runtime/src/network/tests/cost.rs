//! What things cost; a measurement, not a test: `cargo test -p runtime network::tests::cost -- --ignored --nocapture`.

use super::super::{FirewallState, Links, Sandboxes, connect, disconnect};
use super::host::{endpoint, on_a_host, set_traffic, traffic};
use spec::value::ContainerId;
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    eprintln!("{what}: median {:?}, least {:?}, most {:?}", times[times.len() / 2], times[0], times[times.len() - 1]);
}

fn time<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let result = run();
    (begun.elapsed(), result)
}

#[test]
#[ignore = "a measurement"]
fn of_connecting_and_of_moving_ports() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/16", false);
        let at = |index: usize| [endpoint("shop", &format!("10.77.1.{}", index + 1))];
        let id = |index: usize| -> ContainerId { format!("web-{index}@1").parse().unwrap() };
        let connected = (0..ROUNDS).map(|index| time(|| connect(&host.places, &id(index), &at(index)).unwrap()).0).collect();
        print("connect", connected);
        let again = (0..ROUNDS).map(|index| time(|| connect(&host.places, &id(index), &at(index)).unwrap()).0).collect();
        print("connect what is connected", again);
        print("look at 50 links", (0..ROUNDS).map(|_| time(|| Links::read(&host.places, host.networks.keys()).unwrap()).0).collect());
        let serving = |index: usize| traffic(&[("web@1", &at(index), &["8080:80"])]);
        let moved =
            (0..ROUNDS).map(|index| time(|| set_traffic(&host.places, &serving(index.saturating_sub(1)), &serving(index)).unwrap()).0);
        print("move a port and a name", moved.collect());
        print("look at the firewall", (0..ROUNDS).map(|_| time(|| FirewallState::read(&host.places).unwrap()).0).collect());
        let disconnected = (0..ROUNDS).map(|index| time(|| disconnect(&host.places, &id(index), &at(index)).unwrap()).0).collect();
        print("disconnect", disconnected);
    });
}

#[test]
#[ignore = "a measurement"]
fn of_networks_of_build_steps() {
    on_a_host(|host| {
        let (mut first, mut second, mut again, mut over) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let sandboxes = Sandboxes::new(&host.places);
            let (took, one) = time(|| sandboxes.take().unwrap());
            first.push(took);
            second.push(time(|| sandboxes.take().unwrap()).0);
            drop(one);
            again.push(time(|| sandboxes.take().unwrap()).0);
            over.push(time(|| drop(sandboxes)).0);
        }
        print("the first of a build", first);
        print("another one beside it", second);
        print("one that served before", again);
        print("the end of the build", over);
    });
}
