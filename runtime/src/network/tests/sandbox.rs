//! Networks of build steps.

use super::super::link::{self, Address};
use super::super::netlink::{Family, Socket};
use super::super::{InUse, Links, NetworkError, Sandboxes};
use super::host::{Host, Namespace, OUTSIDE, UPLINK, ask_tcp, ask_udp, endpoint, inside, nft_ruleset, on_a_host, serve, try_tcp};
use std::fs::File;
use std::net::Ipv4Addr;
use std::sync::Arc;

fn namespace(step: &InUse<'_>) -> Namespace {
    Arc::new(File::open(step.path()).unwrap())
}

/// The address a step has.
fn address(step: &InUse<'_>) -> Ipv4Addr {
    inside(&namespace(step), || {
        let addresses = link::addresses(&mut Socket::open(Family::Route).unwrap()).unwrap();
        addresses.into_iter().map(|found| found.address).find(|address| !address.is_loopback()).unwrap()
    })
}

/// Gives the host's uplink one more address.
fn use_subnet(address: &str, prefix: u8) {
    let mut socket = Socket::open(Family::Route).unwrap();
    let link = link::find(&mut socket, "uplink").unwrap().unwrap().index;
    socket.transact(&[link::add_address(&Address { link, address: address.parse().unwrap(), prefix })]).unwrap();
}

#[test]
fn a_step_goes_out_with_the_hosts_address_and_nobody_comes_in() {
    on_a_host(|host: &mut Host| {
        host.network("shop", "10.77.0.0/24", false);
        let web = host.container("web@1", &[endpoint("shop", "10.77.0.2")]);
        serve(&web, "web", 80);
        serve(&host.outside, "outside", 80);
        let sandboxes = Sandboxes::new(&host.places);
        let (one, two) = (sandboxes.take().unwrap(), sandboxes.take().unwrap());
        serve(&namespace(&two), "two", 80);
        assert_eq!(ask_tcp(&namespace(&one), OUTSIDE, 80), Some(format!("outside {UPLINK}")));
        assert_eq!(ask_udp(&namespace(&one), OUTSIDE, 80), Some(format!("outside {UPLINK}")));
        assert_eq!(try_tcp(&namespace(&one), Ipv4Addr::new(10, 77, 0, 2), 80), None, "no container");
        assert_eq!(try_tcp(&namespace(&one), address(&two), 80), None, "no other step");
        assert_eq!(try_tcp(&web, address(&two), 80), None, "nor does a container reach one");
        // Whoever watches over networks does not notice; only the subnet is taken.
        assert_eq!(super::super::list_networks(&host.places).unwrap().len(), 1);
        assert!(Links::read(&host.places, []).unwrap().foreign_subnets().iter().any(|subnet| subnet.contains(address(&one))));
    });
}

#[test]
fn a_step_cannot_speak_ipv6_to_the_host() {
    on_a_host(|host| {
        let sandboxes = Sandboxes::new(&host.places);
        let _step = sandboxes.take().unwrap();
        assert_eq!(std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap().matches("hab-").count(), 0);
    });
}

#[test]
fn what_one_step_is_done_with_serves_the_next() {
    on_a_host(|host| {
        serve(&host.outside, "outside", 80);
        let sandboxes = Sandboxes::new(&host.places);
        let first = sandboxes.take().unwrap();
        let of_first = first.path();
        drop(first);
        let (again, other) = (sandboxes.take().unwrap(), sandboxes.take().unwrap());
        assert_eq!(again.path(), of_first);
        assert_ne!(address(&again), address(&other));
        drop(again);
        sandboxes.retire();
        drop(other);
        for _ in 0..2 {
            let late = sandboxes.take().unwrap();
            assert_eq!(ask_tcp(&namespace(&late), OUTSIDE, 80), Some(format!("outside {UPLINK}")), "wanted after all");
        }
    });
}

#[test]
fn two_builds_at_once_do_not_meet_and_nothing_is_left() {
    on_a_host(|host| {
        let before = host.links();
        let (one, two) = (Sandboxes::new(&host.places), Sandboxes::new(&host.places));
        let steps = [one.take().unwrap(), two.take().unwrap(), one.take().unwrap()];
        let addresses: std::collections::BTreeSet<_> = steps.iter().map(address).collect();
        assert_eq!(addresses.len(), 3);
        assert_eq!(nft_ruleset().map_or(2, |rules| rules.matches("table ip agent-build-").count()), 2);
        drop(steps);
        drop(one);
        serve(&host.outside, "outside", 80);
        assert_eq!(ask_tcp(&namespace(&two.take().unwrap()), OUTSIDE, 80), Some(format!("outside {UPLINK}")));
        drop(two);
        assert_eq!(host.links(), before);
        assert_eq!(nft_ruleset().unwrap_or_default(), "");
        assert!(!host.places.run.exists() && !host.places.state.exists(), "nothing is written");
    });
}

#[test]
fn subnets_that_the_host_uses_are_left_to_it() {
    on_a_host(|host| {
        use_subnet("198.18.200.1", 24);
        let step = |host: &Host| Sandboxes::new(&host.places).take().map(|step| address(&step));
        assert_eq!(step(host).unwrap(), Ipv4Addr::new(198, 19, 0, 2));
        use_subnet("198.19.0.1", 16);
        assert_eq!(step(host).unwrap(), Ipv4Addr::new(172, 16, 0, 2));
        use_subnet("172.16.9.9", 29);
        assert!(matches!(step(host), Err(NetworkError::NoBlock)));
    });
}
