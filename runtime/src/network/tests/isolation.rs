//! The walls: who does not reach whom.

use super::super::link::{self, Address};
use super::super::netlink::{Family, Socket};
use super::super::{DnsRecords, ensure_network};
use super::host::{OUTSIDE, UPLINK, ask_tcp, endpoint, inside, on_a_host, record, serve, set_traffic, traffic, try_tcp};
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

#[test]
fn two_networks_do_not_reach_each_other() {
    on_a_host(|host| {
        host.network("one", "10.77.0.0/24", false);
        host.network("two", "10.78.0.0/24", false);
        let one = host.container("a@1", &[endpoint("one", "10.77.0.2")]);
        let two = host.container("b@1", &[endpoint("two", "10.78.0.2")]);
        serve(&one, "a", 80);
        serve(&two, "b", 80);
        assert_eq!(try_tcp(&one, Ipv4Addr::new(10, 78, 0, 2), 80), None);
        assert_eq!(try_tcp(&two, Ipv4Addr::new(10, 77, 0, 2), 80), None);
    });
}

#[test]
fn published_ports_are_the_door_between_networks() {
    on_a_host(|host| {
        host.network("one", "10.77.0.0/24", false);
        host.network("two", "10.78.0.0/24", false);
        let one = host.container("a@1", &[endpoint("one", "10.77.0.2")]);
        let at = [endpoint("two", "10.78.0.2")];
        let two = host.container("b@1", &at);
        serve(&two, "b", 80);
        set_traffic(&host.places, &traffic(&[]), &traffic(&[("b@1", &at, &["8080:80"])])).unwrap();
        assert!(ask_tcp(&one, UPLINK, 8080).is_some());
        assert_eq!(try_tcp(&one, Ipv4Addr::new(10, 78, 0, 2), 80), None, "not past the door");
    });
}

#[test]
fn another_host_does_not_reach_containers_but_by_published_ports() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let at = [endpoint("shop", "10.77.0.2")];
        let web = host.container("web@1", &at);
        serve(&web, "web", 80);
        serve(&web, "admin", 81);
        set_traffic(&host.places, &traffic(&[]), &traffic(&[("web@1", &at, &["8080:80"])])).unwrap();
        // It knows a way to the containers' subnet, as any neighbour of a host may.
        inside(&host.outside, || Socket::open(Family::Route).unwrap().transact(&[link::set_default_route(UPLINK)]).unwrap());
        assert_eq!(try_tcp(&host.outside, Ipv4Addr::new(10, 77, 0, 2), 80), None);
        assert_eq!(try_tcp(&host.outside, Ipv4Addr::new(10, 77, 0, 2), 81), None);
        assert!(ask_tcp(&host.outside, UPLINK, 8080).is_some());
    });
}

#[test]
fn an_internal_network_has_no_way_out_and_none_in() {
    on_a_host(|host| {
        host.network("back", "10.79.0.0/24", true);
        host.network("front", "10.77.0.0/24", false);
        let (at, front_at) = ([endpoint("back", "10.79.0.2")], [endpoint("front", "10.77.0.2")]);
        let db = host.container("db@1", &at);
        let client = host.container("client@1", &[endpoint("back", "10.79.0.3")]);
        let web = host.container("web@1", &front_at);
        serve(&db, "db", 5432);
        serve(&web, "web", 80);
        serve(&host.outside, "outside", 80);
        let serving = traffic(&[("db@1", &at, &["5432:5432"]), ("web@1", &front_at, &["8080:80"])]);
        set_traffic(&host.places, &traffic(&[]), &serving).unwrap();
        let address = Ipv4Addr::new(10, 79, 0, 2);
        assert!(ask_tcp(&client, address, 5432).is_some(), "neighbours see each other");
        for way_out in [(OUTSIDE, 80), (Ipv4Addr::new(10, 77, 0, 2), 80), (UPLINK, 8080)] {
            assert_eq!(try_tcp(&db, way_out.0, way_out.1), None, "without a route");
        }
        // A container that may change its routes is kept in by the firewall.
        inside(&db, || Socket::open(Family::Route).unwrap().transact(&[link::set_default_route(Ipv4Addr::new(10, 79, 0, 1))]).unwrap());
        for way_out in [(OUTSIDE, 80), (Ipv4Addr::new(10, 77, 0, 2), 80), (UPLINK, 8080)] {
            assert_eq!(try_tcp(&db, way_out.0, way_out.1), None, "with a route");
        }
        assert_eq!(try_tcp(&web, address, 5432), None);
        assert_eq!(try_tcp(&host.outside, UPLINK, 5432), None, "its ports are not published");
        let names: DnsRecords = serde_json::from_slice(&fs::read(host.places.records(&"back".parse().unwrap())).unwrap()).unwrap();
        assert!(!names.forward && names.domain.contains_key(&"db".parse().unwrap()), "{names:?}");
    });
}

#[test]
fn a_network_becomes_internal_and_back_while_it_is_used() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let at = [endpoint("shop", "10.77.0.2")];
        let web = host.container("web@1", &at);
        serve(&host.outside, "outside", 80);
        assert!(ask_tcp(&web, OUTSIDE, 80).is_some());
        ensure_network(&host.places, &record("shop", "10.77.0.0/24", true)).unwrap();
        assert_eq!(try_tcp(&web, OUTSIDE, 80), None);
        host.container("web@1", &at);
        ensure_network(&host.places, &record("shop", "10.77.0.0/24", false)).unwrap();
        host.container("web@1", &at);
        assert!(ask_tcp(&web, OUTSIDE, 80).is_some());
    });
}

#[test]
fn the_hosts_loopback_is_out_of_reach_of_containers() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let web = host.container("web@1", &[endpoint("shop", "10.77.0.2")]);
        serve(&host.here, "host", 9000);
        // As a container with CAP_NET_ADMIN would: 127.0.0.0/8 by the gateway instead of its own loopback.
        let route = "sysctl -qw net.ipv4.conf.all.route_localnet=1; ip addr del 127.0.0.1/8 dev lo; \
                     ip route del local 127.0.0.1 table local; ip route del local 127.0.0.0/8 table local; \
                     ip route add 127.0.0.1/32 via 10.77.0.1 dev eth0 src 10.77.0.2";
        inside(&web, || Command::new("sh").args(["-c", route]).output().unwrap());
        assert_eq!(try_tcp(&web, Ipv4Addr::LOCALHOST, 9000), None);
        assert!(ask_tcp(&web, Ipv4Addr::new(10, 77, 0, 1), 9000).is_some(), "what the host serves to all it serves to containers");
        assert!(ask_tcp(&host.here, Ipv4Addr::LOCALHOST, 9000).is_some());
    });
}

#[test]
fn ipv6_is_off_inside() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let web = host.container("web@1", &[endpoint("shop", "10.77.0.2")]);
        let addresses = inside(&web, || fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default());
        assert_eq!(addresses, "");
        let all = inside(&web, || link::addresses(&mut Socket::open(Family::Route).unwrap()).unwrap());
        assert!(all.iter().any(|Address { address, .. }| *address == Ipv4Addr::new(10, 77, 0, 2)), "{all:?}");
    });
}
