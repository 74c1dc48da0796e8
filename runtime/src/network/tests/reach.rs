//! Who reaches whom without published ports.

use super::super::{FirewallState, RESOLVER, RESOLVER_ADDRESS, Traffic, disconnect, missing_features, remove_network, write_names};
use super::host::{
    Host, OUTSIDE, UPLINK, ask_tcp, ask_udp, endpoint, inside, nft_ruleset, on_a_host, serve, serve_at, set_traffic, traffic,
};
use std::net::Ipv4Addr;

#[test]
fn this_kernel_has_what_networks_need() {
    on_a_host(|_| assert!(missing_features().is_empty(), "{:?}", missing_features()));
}

#[test]
fn containers_of_one_network_reach_each_other_as_they_are() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let web = host.container("web@1", &[endpoint("shop", "10.77.0.2")]);
        let db = host.container("db@1", &[endpoint("shop", "10.77.0.3")]);
        serve(&db, "db", 5432);
        assert_eq!(ask_tcp(&web, Ipv4Addr::new(10, 77, 0, 3), 5432).as_deref(), Some("db 10.77.0.2"));
        assert_eq!(ask_tcp(&host.here, Ipv4Addr::new(10, 77, 0, 3), 5432).as_deref(), Some("db 10.77.0.1"), "the host reaches them too");
    });
}

#[test]
fn a_container_goes_out_with_the_hosts_address() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let web = host.container("web@1", &[endpoint("shop", "10.77.0.2")]);
        serve(&host.outside, "outside", 80);
        assert_eq!(ask_tcp(&web, OUTSIDE, 80), Some(format!("outside {UPLINK}")));
    });
}

#[test]
fn a_container_on_two_networks_has_a_link_and_an_address_on_each() {
    on_a_host(|host| {
        host.network("back", "10.78.0.0/24", true);
        host.network("front", "10.77.0.0/24", false);
        let web = host.container("web@1", &[endpoint("back", "10.78.0.2"), endpoint("front", "10.77.0.2")]);
        let db = host.container("db@1", &[endpoint("back", "10.78.0.3")]);
        serve(&db, "db", 5432);
        serve(&host.outside, "outside", 80);
        assert_eq!(ask_tcp(&web, Ipv4Addr::new(10, 78, 0, 3), 5432).as_deref(), Some("db 10.78.0.2"));
        assert_eq!(ask_tcp(&web, OUTSIDE, 80), Some(format!("outside {UPLINK}")), "by the network that has a way out");
        assert_eq!(inside(&web, || host.links()), ["lo", "eth0", "eth1"]);
    });
}

#[test]
fn nothing_is_left_when_all_is_removed() {
    on_a_host(|host| {
        let before = host.links();
        host.network("shop", "10.77.0.0/24", false);
        host.network("back", "10.78.0.0/24", true);
        let at = [endpoint("shop", "10.77.0.2"), endpoint("back", "10.78.0.2")];
        host.container("web@1", &at);
        assert_eq!(host.links().len(), before.len() + 4);
        for _ in 0..2 {
            disconnect(&host.places, &"web@1".parse().unwrap(), &at).unwrap();
            remove_network(&host.places, &"shop".parse().unwrap()).unwrap();
            remove_network(&host.places, &"back".parse().unwrap()).unwrap();
        }
        assert_eq!(host.links(), before);
        assert_eq!(nft_ruleset().unwrap_or_default(), "");
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
        assert!(!mounts.contains(host.places.run.to_str().unwrap()), "{mounts}");
        let left = |directory: std::path::PathBuf| std::fs::read_dir(directory).unwrap().count();
        assert_eq!((left(host.places.networks()), left(host.places.run.join("records"))), (0, 0));
        assert_eq!(left(host.places.container_run(&"web@1".parse().unwrap())), 0);
    });
}

#[test]
fn a_containers_name_server_leads_to_its_shim() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", true);
        let web = host.container("web@1", &[endpoint("shop", "10.77.0.2")]);
        serve_at(&web, "shim", RESOLVER);
        // Its own name server is its own affair.
        serve(&web, "own", 53);
        assert_eq!(ask_tcp(&web, RESOLVER_ADDRESS, 53).as_deref(), Some("shim 127.0.0.1"));
        assert_eq!(ask_udp(&web, RESOLVER_ADDRESS, 53).as_deref(), Some("shim 127.0.0.1"));
        assert_eq!(ask_udp(&host.here, Ipv4Addr::new(10, 77, 0, 2), 53).as_deref(), Some("own 10.77.0.1"));
    });
}

#[test]
fn names_follow_the_traffic() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        host.network("back", "10.78.0.0/24", true);
        let names = |host: &Host, network: &str| std::fs::read_to_string(host.places.records(&network.parse().unwrap())).unwrap();
        assert_eq!(names(host, "shop"), r#"{"domain":{},"forward":true}"#);
        let mut db = endpoint("back", "10.78.0.3");
        db.aliases.insert("postgres".parse().unwrap());
        let (one, two) = ([endpoint("shop", "10.77.0.2"), endpoint("back", "10.78.0.2")], [endpoint("shop", "10.77.0.9")]);
        let (db, steps) = ([db], [traffic(&[]), traffic(&[("web@1", &one, &[])]), traffic(&[("web@2", &two, &[])])]);
        let with_db = |step: &Traffic| step.clone().into_iter().chain(traffic(&[("db@1", &db, &[])])).collect::<Traffic>();
        set_traffic(&host.places, &steps[0], &with_db(&steps[1])).unwrap();
        assert_eq!(names(host, "shop"), r#"{"domain":{"web":["10.77.0.2"]},"forward":true}"#);
        let back = r#"{"domain":{"db":["10.78.0.3"],"postgres":["10.78.0.3"],"web":["10.78.0.2"]},"forward":false}"#;
        assert_eq!(names(host, "back"), back);
        set_traffic(&host.places, &with_db(&steps[1]), &with_db(&steps[2])).unwrap();
        assert_eq!(names(host, "shop"), r#"{"domain":{"web":["10.77.0.9"]},"forward":true}"#);
        std::fs::remove_file(host.places.records(&"back".parse().unwrap())).unwrap();
        let faults = FirewallState::read(&host.places).unwrap().faults(&host.places, &host.networks, &with_db(&steps[2])).unwrap();
        assert_eq!(faults.into_iter().collect::<Vec<_>>(), ["names of network back"]);
        write_names(&host.places, &host.networks, &with_db(&steps[2])).unwrap();
        assert_eq!(names(host, "back"), r#"{"domain":{"db":["10.78.0.3"],"postgres":["10.78.0.3"]},"forward":false}"#);
    });
}
