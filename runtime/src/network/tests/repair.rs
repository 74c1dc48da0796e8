//! What was broken by hand is seen, named and mended; what is whole is left alone.

use super::super::link::{self, Address};
use super::super::netlink::{Family, Socket};
use super::super::{
    FirewallState, Links, NetworkError, bridge_name, connect, disconnect, ensure_network, list_networks, rebuild_firewall, remove_network,
};
use super::host::{Host, UPLINK, ask_tcp, endpoint, inside, nft_ruleset, on_a_host, record, serve, set_traffic, traffic, try_tcp};
use crate::places::Places;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;

fn delete_link(name: &str) {
    let mut socket = Socket::open(Family::Route).unwrap();
    let index = link::find(&mut socket, name).unwrap().unwrap().index;
    socket.transact(&[link::delete(index)]).unwrap();
}

fn network_faults(host: &Host, name: &str) -> Vec<String> {
    Links::read(&host.places, host.networks.keys()).unwrap().network_faults(&host.networks[&name.parse().unwrap()]).into_iter().collect()
}

#[test]
fn doing_it_again_changes_nothing() {
    on_a_host(|host| {
        let shop = host.network("shop", "10.77.0.0/24", false);
        let at = [endpoint("shop", "10.77.0.2")];
        host.container("web@1", &at);
        let serving = traffic(&[("web@1", &at, &["8080:80"])]);
        set_traffic(&host.places, &traffic(&[]), &serving).unwrap();
        let look = |host: &Host| {
            let mut socket = Socket::open(Family::Route).unwrap();
            let inner = inside(&host.namespace("web@1"), || link::links(&mut Socket::open(Family::Route).unwrap()).unwrap());
            let firewall = FirewallState::read(&host.places).unwrap();
            (link::links(&mut socket).unwrap(), link::addresses(&mut socket).unwrap(), inner, firewall)
        };
        let before = look(host);
        ensure_network(&host.places, &shop).unwrap();
        host.container("web@1", &at);
        set_traffic(&host.places, &serving, &serving).unwrap();
        let after = look(host);
        assert_eq!(before, after);
        assert_eq!(after.3.faults(&host.places, &host.networks, &serving).unwrap(), Default::default());
        assert_eq!(list_networks(&host.places).unwrap().len(), 1);
    });
}

#[test]
fn a_deleted_bridge_is_seen_and_made_again_with_its_links() {
    on_a_host(|host| {
        let shop = host.network("shop", "10.77.0.0/24", false);
        let at = [endpoint("shop", "10.77.0.2")];
        let web = host.container("web@1", &at);
        serve(&web, "web", 80);
        set_traffic(&host.places, &traffic(&[]), &traffic(&[("web@1", &at, &["8080:80"])])).unwrap();
        assert_eq!(network_faults(host, "shop"), [""; 0]);
        let bridge = bridge_name(&host.places, &shop.name);
        delete_link(&bridge);
        assert_eq!(network_faults(host, "shop"), [format!("bridge {bridge} is gone")]);
        assert_eq!(host.link_faults("web@1", &at), ["shop"]);
        let error = connect(&host.places, &"db@1".parse().unwrap(), &[endpoint("shop", "10.77.0.3")]).unwrap_err();
        assert_eq!(error.to_string(), format!("bridge {bridge} of network shop is gone"));
        ensure_network(&host.places, &shop).unwrap();
        assert_eq!(network_faults(host, "shop"), [""; 0]);
        assert_eq!(host.link_faults("web@1", &at), [""; 0]);
        assert!(ask_tcp(&host.outside, UPLINK, 8080).is_some());
    });
}

#[test]
fn a_bridge_without_address_or_switched_off_is_mended() {
    on_a_host(|host| {
        let shop = host.network("shop", "10.77.0.0/24", false);
        let bridge = bridge_name(&host.places, &shop.name);
        let script = format!("ip addr flush dev {bridge}; ip link set {bridge} down");
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        assert_eq!(
            network_faults(host, "shop"),
            [format!("bridge {bridge} is down"), format!("bridge {bridge} is without its address 10.77.0.1/24")]
        );
        ensure_network(&host.places, &shop).unwrap();
        assert_eq!(network_faults(host, "shop"), [""; 0]);
    });
}

#[test]
fn a_deleted_link_is_seen_and_made_again() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        host.network("back", "10.78.0.0/24", true);
        let at = [endpoint("shop", "10.77.0.2"), endpoint("back", "10.78.0.2")];
        let web = host.container("web@1", &at);
        serve(&web, "web", 80);
        let link = host.links().into_iter().find(|name| name.starts_with("hv-")).unwrap();
        delete_link(&link);
        let faults = host.link_faults("web@1", &at);
        assert_eq!(faults.len(), 1, "{faults:?}");
        connect(&host.places, &"web@1".parse().unwrap(), &at).unwrap();
        assert_eq!(host.link_faults("web@1", &at), [""; 0]);
        assert!(ask_tcp(&host.here, Ipv4Addr::new(10, 77, 0, 2), 80).is_some());
        assert!(ask_tcp(&host.here, Ipv4Addr::new(10, 78, 0, 2), 80).is_some());
    });
}

#[test]
fn a_link_broken_from_inside_is_mended() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let at = [endpoint("shop", "10.77.0.2")];
        let web = host.container("web@1", &at);
        serve(&web, "web", 80);
        inside(&web, || assert!(Command::new("ip").args(["link", "set", "eth0", "down"]).status().unwrap().success()));
        assert_eq!(host.link_faults("web@1", &at), ["shop"]);
        host.container("web@1", &at);
        assert!(ask_tcp(&host.here, Ipv4Addr::new(10, 77, 0, 2), 80).is_some());
    });
}

#[test]
fn networks_come_and_go_on_a_running_container() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        host.network("back", "10.78.0.0/24", true);
        host.network("logs", "10.79.0.0/24", false);
        let (shop, back, logs) = (endpoint("shop", "10.77.0.2"), endpoint("back", "10.78.0.2"), endpoint("logs", "10.79.0.2"));
        let web = host.container("web@1", std::slice::from_ref(&shop));
        let inner = |host: &Host| {
            inside(&web, || {
                let mut socket = Socket::open(Family::Route).unwrap();
                let names = link::links(&mut socket).unwrap().into_iter().map(|link| link.name).collect::<Vec<_>>();
                let gateway = link::routes(&mut socket).unwrap().into_iter().find(|route| route.prefix == 0).and_then(|it| it.gateway);
                let _ = host;
                (names.join(" "), gateway.map(|gateway| gateway.to_string()).unwrap_or_default())
            })
        };
        assert_eq!(inner(host), ("lo eth0".to_owned(), "10.77.0.1".to_owned()));
        host.container("web@1", &[shop.clone(), back.clone(), logs.clone()]);
        assert_eq!(inner(host), ("lo eth0 eth1 eth2".to_owned(), "10.77.0.1".to_owned()));
        host.container("web@1", &[back.clone(), logs.clone()]);
        assert_eq!(inner(host), ("lo eth1 eth2".to_owned(), "10.79.0.1".to_owned()));
        host.container("web@1", std::slice::from_ref(&back));
        assert_eq!(inner(host), ("lo eth1".to_owned(), String::new()));
        host.container("web@1", &[shop, endpoint("back", "10.78.0.9")]);
        assert_eq!(inner(host).1, "10.77.0.1");
        let addresses = inside(&web, || link::addresses(&mut Socket::open(Family::Route).unwrap()).unwrap());
        let addresses: Vec<String> = addresses.iter().map(|Address { address, .. }| address.to_string()).collect();
        assert!(addresses.contains(&"10.78.0.9".to_owned()) && !addresses.contains(&"10.78.0.2".to_owned()), "{addresses:?}");
    });
}

#[test]
fn a_flushed_or_altered_table_is_seen_and_written_anew() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let at = [endpoint("shop", "10.77.0.2")];
        let web = host.container("web@1", &at);
        serve(&web, "web", 80);
        let serving = traffic(&[("web@1", &at, &["8080:80"])]);
        set_traffic(&host.places, &traffic(&[]), &serving).unwrap();
        let table = host.places.instance();
        let faults = |host: &Host| FirewallState::read(&host.places).unwrap().faults(&host.places, &host.networks, &serving).unwrap();
        assert_eq!(faults(host), Default::default());
        for damage in [
            "nft flush ruleset".to_owned(),
            format!("nft delete table ip {table}"),
            format!("nft flush chain ip {table} forward"),
            format!("nft add rule ip {table} forward drop"),
            format!("nft add chain ip {table} mine"),
            format!("nft flush map ip {table} published"),
            format!("nft delete element ip {table} bridges '{{ {} }}'", bridge_name(&host.places, &"shop".parse().unwrap())),
            format!("nft add element ip {table} published '{{ tcp . 9 : 1.2.3.4 . 9 }}'"),
        ] {
            if !Command::new("sh").args(["-c", &damage]).status().unwrap().success() {
                eprintln!("SKIPPED: damage by nft: {damage}");
                continue;
            }
            assert_ne!(faults(host), Default::default(), "after {damage}");
            rebuild_firewall(&host.places, &host.networks, &serving).unwrap();
            assert_eq!(faults(host), Default::default(), "rebuilt after {damage}");
            assert!(ask_tcp(&host.outside, UPLINK, 8080).is_some());
        }
    });
}

#[test]
fn a_change_over_a_flushed_table_writes_all_of_it() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let at = [endpoint("shop", "10.77.0.2")];
        let (one, two) = (traffic(&[("web@1", &at, &["8080:80"])]), traffic(&[("web@1", &at, &["8080:80", "8081:80"])]));
        set_traffic(&host.places, &traffic(&[]), &one).unwrap();
        super::super::remove_firewall(&host.places).unwrap();
        set_traffic(&host.places, &one, &two).unwrap();
        let state = FirewallState::read(&host.places).unwrap();
        assert_eq!(state.faults(&host.places, &host.networks, &two).unwrap(), Default::default());
    });
}

#[test]
fn a_table_that_is_mended_after_the_last_network_went_does_not_come_back() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let Some(there) = nft_ruleset() else { return };
        remove_network(&host.places, &"shop".parse().unwrap()).unwrap();
        rebuild_firewall(&host.places, &BTreeMap::new(), &traffic(&[])).unwrap();
        let left = nft_ruleset().unwrap();
        let table = format!("table ip {}", host.places.instance());
        assert!(there.contains(&table) && !left.contains(&table), "{left}");
    });
}

#[test]
fn links_that_are_not_ours_are_left_alone() {
    on_a_host(|host| {
        let name = bridge_name(&host.places, &"shop".parse().unwrap());
        let mut socket = Socket::open(Family::Route).unwrap();
        socket.transact(&[link::create_bridge(&name, [2, 0, 0, 0, 0, 7])]).unwrap();
        let error = ensure_network(&host.places, &record("shop", "10.77.0.0/24", false)).unwrap_err();
        assert!(matches!(&error, NetworkError::ForeignLink { link } if *link == name), "{error}");
        assert_eq!(list_networks(&host.places).unwrap().len(), 0, "nothing is recorded");
        remove_network(&host.places, &"shop".parse().unwrap()).unwrap();
        assert!(link::find(&mut socket, &name).unwrap().is_some());
    });
}

#[test]
fn a_failed_connection_leaves_nothing() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let before = host.links();
        let id = "web@1".parse().unwrap();
        for wrong in ["10.77.0.0", "10.77.0.1", "10.77.0.255", "10.78.0.2"] {
            let error = connect(&host.places, &id, &[endpoint("shop", wrong)]).unwrap_err();
            assert!(matches!(error, NetworkError::Address { .. }), "{error}");
        }
        let error = connect(&host.places, &id, &[endpoint("shop", "10.77.0.2"), endpoint("nowhere", "10.77.0.2")]).unwrap_err();
        assert_eq!(error.to_string(), "network nowhere does not exist");
        // Two links with one name on the host: the second is refused after the first was made.
        let error = connect(&host.places, &id, &[endpoint("shop", "10.77.0.2"), endpoint("shop", "10.77.0.3")]).unwrap_err();
        assert!(matches!(error, NetworkError::Netlink { .. }), "{error}");
        assert_eq!(host.links(), before);
        assert!(!super::super::namespace::pin_path(&host.places, &id).exists());
    });
}

#[test]
fn subnets_of_others_are_foreign_and_ours_are_not() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let foreign: Vec<String> = Links::read(&host.places, []).unwrap().foreign_subnets().iter().map(ToString::to_string).collect();
        assert_eq!(foreign, ["127.0.0.0/8", "192.0.2.0/24"]);
    });
}

#[test]
fn an_unreadable_record_keeps_the_walls_of_its_network() {
    on_a_host(|host| {
        host.network("one", "10.77.0.0/24", false);
        std::fs::write(host.places.networks().join("one.json"), "{").unwrap();
        let walls = |host: &Host| format!("{:?}", FirewallState::read(&host.places).unwrap()).matches("104, 97").count();
        let before = walls(host);
        host.network("two", "10.78.0.0/24", false);
        assert!(walls(host) > before);
        remove_network(&host.places, &"two".parse().unwrap()).unwrap();
        assert_eq!(walls(host), before);
        let listed = list_networks(&host.places).unwrap();
        assert!(matches!(listed.values().next(), Some(Err(NetworkError::Record { .. }))), "{listed:?}");
    });
}

#[test]
fn a_namespace_that_lost_its_pin_is_made_anew() {
    on_a_host(|host| {
        host.network("shop", "10.77.0.0/24", false);
        let (id, at) = ("web@1".parse().unwrap(), [endpoint("shop", "10.77.0.2")]);
        // Its old links may still be there, or be going, or be gone.
        for _ in 0..10 {
            serve(&host.container("web@1", &at), "web", 80);
            assert!(ask_tcp(&host.here, Ipv4Addr::new(10, 77, 0, 2), 80).is_some());
            super::super::namespace::remove(&host.places, &id).unwrap();
        }
        // A bare file is what an interrupted start leaves.
        std::fs::write(super::super::namespace::pin_path(&host.places, &id), "").unwrap();
        serve(&host.container("web@1", &at), "web", 80);
        assert!(ask_tcp(&host.here, Ipv4Addr::new(10, 77, 0, 2), 80).is_some());
        assert_eq!(host.link_faults("web@1", &at), [""; 0]);
    });
}

#[test]
fn instances_on_one_host_do_not_meet() {
    on_a_host(|host| {
        let mut other = Host {
            places: Places {
                state: host.places.state.with_extension("other"),
                run: host.places.run.with_extension("other"),
                ..host.places.clone()
            },
            here: host.here.clone(),
            outside: host.outside.clone(),
            networks: Default::default(),
        };
        host.network("shop", "10.77.0.0/24", false);
        other.network("shop", "10.78.0.0/24", false);
        let (at, other_at) = ([endpoint("shop", "10.77.0.2")], [endpoint("shop", "10.78.0.2")]);
        let (web, other_web) = (host.container("web@1", &at), other.container("web@1", &other_at));
        serve(&web, "web", 80);
        serve(&other_web, "other", 80);
        set_traffic(&host.places, &traffic(&[]), &traffic(&[("web@1", &at, &["8080:80"])])).unwrap();
        set_traffic(&other.places, &traffic(&[]), &traffic(&[("web@1", &other_at, &["8081:80"])])).unwrap();
        assert_eq!(try_tcp(&web, Ipv4Addr::new(10, 78, 0, 2), 80), None);
        assert_eq!(try_tcp(&other_web, Ipv4Addr::new(10, 77, 0, 2), 80), None);
        assert_eq!(ask_tcp(&web, UPLINK, 8081).as_deref(), Some("other 10.78.0.1"));
        assert_eq!(ask_tcp(&other_web, UPLINK, 8080).as_deref(), Some("web 10.77.0.1"));
        disconnect(&host.places, &"web@1".parse().unwrap(), &at).unwrap();
        remove_network(&host.places, &"shop".parse().unwrap()).unwrap();
        assert_eq!(ask_tcp(&host.outside, UPLINK, 8081).as_deref(), Some("other 192.0.2.9"));
        assert_eq!(other.link_faults("web@1", &other_at), [""; 0]);
        assert_eq!(Links::read(&host.places, []).unwrap().foreign_subnets().len(), 3, "a free subnet is not one of the other's");
    });
}
