//! Published ports: from everywhere, moved without a gap, many at once.

use super::super::sysctl::{self, Missing};
use super::super::{FirewallState, NetworkError, rebuild_firewall};
use super::host::{
    Host, OUTSIDE, UPLINK, ask_again, ask_tcp, ask_udp, endpoint, inside, nft_ruleset, on_a_host, serve, set_traffic, traffic, try_tcp,
};
use crate::container::config::Endpoint;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// `web@1` on network shop, listening on 80, as TCP and UDP 8080 of the host.
fn web_shop(host: &mut Host) -> [Endpoint; 1] {
    host.network("shop", "10.77.0.0/24", false);
    let at = [endpoint("shop", "10.77.0.2")];
    let web = host.container("web@1", &at);
    serve(&web, "web", 80);
    at
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    on_a_host(|host| {
        sysctl::set("bridge/bridge-nf-call-iptables", "0", Missing::Ignore).unwrap();
        reached_from_everywhere(host);
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere_where_the_bridge_filters() {
    on_a_host(|host| {
        // Where the kernel has br_netfilter this is what a new namespace begins with.
        sysctl::set("bridge/bridge-nf-call-iptables", "1", Missing::Ignore).unwrap();
        reached_from_everywhere(host);
    });
}

fn reached_from_everywhere(host: &mut Host) {
    let at = web_shop(host);
    let neighbour = host.container("db@1", &[endpoint("shop", "10.77.0.3")]);
    set_traffic(&host.places, &traffic(&[]), &traffic(&[("web@1", &at, &["8080:80", "8080:80/udp"])])).unwrap();
    let itself = host.namespace("web@1");
    let (gateway, localhost) = (Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::LOCALHOST);
    let clients = [
        ("another host", &host.outside, UPLINK, OUTSIDE),
        ("the host by its own address", &host.here, UPLINK, UPLINK),
        ("the host by localhost", &host.here, localhost, gateway),
        ("the container itself", &itself, UPLINK, gateway),
        ("a neighbour", &neighbour, UPLINK, gateway),
        ("a neighbour by the gateway", &neighbour, gateway, gateway),
    ];
    for (client, namespace, to, seen_as) in clients {
        assert_eq!(ask_tcp(namespace, to, 8080), Some(format!("web {seen_as}")), "tcp from {client}");
        assert_eq!(ask_udp(namespace, to, 8080), Some(format!("web {seen_as}")), "udp from {client}");
    }
    assert_eq!(try_tcp(&host.outside, UPLINK, 8081), None);
    assert_eq!(try_tcp(&host.here, Ipv4Addr::new(127, 0, 0, 53), 8080), None, "the rest of the loopback is the host's");
}

#[test]
fn a_port_of_one_address_is_reached_only_there() {
    on_a_host(|host| {
        let at = web_shop(host);
        let ports = ["127.0.0.1:8080:80", "192.0.2.1:9090:80"];
        set_traffic(&host.places, &traffic(&[]), &traffic(&[("web@1", &at, &ports)])).unwrap();
        assert!(ask_tcp(&host.here, Ipv4Addr::LOCALHOST, 8080).is_some());
        assert_eq!(try_tcp(&host.outside, UPLINK, 8080), None);
        assert_eq!(try_tcp(&host.here, UPLINK, 8080), None);
        assert!(ask_tcp(&host.outside, UPLINK, 9090).is_some());
        assert_eq!(try_tcp(&host.here, Ipv4Addr::LOCALHOST, 9090), None);
    });
}

#[test]
fn a_port_moves_without_one_failed_connection() {
    on_a_host(|host| {
        let old_at = web_shop(host);
        let new_at = [endpoint("shop", "10.77.0.3")];
        let new = host.container("web@2", &new_at);
        serve(&new, "new", 80);
        let (old, new) = (traffic(&[("web@1", &old_at, &["8080:80"])]), traffic(&[("web@2", &new_at, &["8080:80"])]));
        set_traffic(&host.places, &traffic(&[]), &old).unwrap();
        let (done, to_old, to_new) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    match ask_tcp(&host.outside, UPLINK, 8080).expect("no connection fails") {
                        answer if answer.starts_with("web ") => to_old.fetch_add(1, Ordering::Relaxed),
                        answer if answer.starts_with("new ") => to_new.fetch_add(1, Ordering::Relaxed),
                        answer => panic!("{answer}"),
                    };
                }
            });
            for _ in 0..25 {
                set_traffic(&host.places, &old, &new).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
                set_traffic(&host.places, &new, &old).unwrap();
                rebuild_firewall(&host.places, &host.networks, &old).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            done.store(true, Ordering::Relaxed);
            client.join().unwrap();
        });
        let (to_old, to_new) = (to_old.into_inner(), to_new.into_inner());
        eprintln!("{to_old} connections to the old container, {to_new} to the new one");
        assert!(to_old > 0 && to_new > 0);
    });
}

#[test]
fn a_steady_udp_sender_follows_the_port() {
    on_a_host(|host| {
        let old_at = web_shop(host);
        let new_at = [endpoint("shop", "10.77.0.3")];
        serve(&host.container("web@2", &new_at), "new", 80);
        let (none, old, new) =
            (traffic(&[]), traffic(&[("web@1", &old_at, &["8080:80/udp"])]), traffic(&[("web@2", &new_at, &["8080:80/udp"])]));
        inside(&host.outside, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", (UPLINK, 8080)).unwrap());
        let client = inside(&host.outside, || UdpSocket::bind((OUTSIDE, 0)).unwrap());
        client.connect((UPLINK, 8080)).unwrap();
        assert_eq!(ask_again(&client), None);
        for (before, after, answer) in [(&none, &old, "web 192.0.2.9"), (&old, &new, "new 192.0.2.9"), (&new, &old, "web 192.0.2.9")] {
            set_traffic(&host.places, before, after).unwrap();
            // The first may meet the refusal of an earlier packet.
            assert_eq!(ask_again(&client).or_else(|| ask_again(&client)).as_deref(), Some(answer));
        }
        set_traffic(&host.places, &old, &none).unwrap();
        assert_eq!(ask_again(&client).or_else(|| ask_again(&client)), None);
    });
}

#[test]
fn a_range_of_200_ports_is_one_transaction() {
    on_a_host(|host| {
        let at = web_shop(host);
        let ports: Vec<String> = (0..200).map(|offset| format!("{}:80", 20_000 + offset)).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let (none, all) = (traffic(&[]), traffic(&[("web@1", &at, &ports)]));
        let begun = std::time::Instant::now();
        set_traffic(&host.places, &none, &all).unwrap();
        eprintln!("200 ports published in {:?}", begun.elapsed());
        assert!(ask_tcp(&host.outside, UPLINK, 20_000).is_some() && ask_tcp(&host.outside, UPLINK, 20_199).is_some());
        if let Some(ruleset) = nft_ruleset() {
            assert_eq!(ruleset.matches(": 10.77.0.2 . 80").count(), 200, "{ruleset}");
        }
        set_traffic(&host.places, &all, &none).unwrap();
        assert_eq!(try_tcp(&host.outside, UPLINK, 20_000), None);
    });
}

#[test]
fn thousands_of_ports_fit() {
    on_a_host(|host| {
        let at = web_shop(host);
        let ports: Vec<String> = (0..5000).map(|offset| format!("{}:80", 20_000 + offset)).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let all = traffic(&[("web@1", &at, &ports)]);
        rebuild_firewall(&host.places, &host.networks, &all).unwrap();
        let state = FirewallState::read(&host.places).unwrap();
        assert_eq!(state.faults(&host.places, &host.networks, &all).unwrap(), Default::default());
        assert_eq!(state.missing_ports(&host.networks, &all), Default::default());
    });
}

#[test]
fn a_port_of_two_containers_changes_nothing() {
    on_a_host(|host| {
        let at = web_shop(host);
        let other = [endpoint("shop", "10.77.0.3")];
        let one = traffic(&[("web@1", &at, &["8080:80"])]);
        set_traffic(&host.places, &traffic(&[]), &one).unwrap();
        let two = traffic(&[("web@1", &at, &["8080:80"]), ("other@1", &other, &["8080:80"])]);
        let error = set_traffic(&host.places, &one, &two).unwrap_err();
        assert!(matches!(error, NetworkError::PortConflict { .. }), "{error}");
        assert!(ask_tcp(&host.outside, UPLINK, 8080).is_some());
    });
}

#[test]
fn nft_reads_the_table_as_it_is_meant() {
    on_a_host(|host| {
        let at = web_shop(host);
        host.network("back", "10.79.0.0/24", true);
        let ports = ["8080:80", "127.0.0.1:53:53/udp"];
        set_traffic(&host.places, &traffic(&[]), &traffic(&[("web@1", &at, &ports)])).unwrap();
        let Some(ruleset) = nft_ruleset() else { return };
        for line in [
            "elements = { tcp . 8080 : 10.77.0.2 . 80 }",
            "elements = { 127.0.0.1 . udp . 53 : 10.77.0.2 . 53 }",
            "type nat hook prerouting priority dstnat; policy accept;",
            "fib daddr type local jump publish comment \"from others\"",
            "dnat ip to ip daddr . meta l4proto . th dport map @published-at comment \"ports of one address\"",
            "dnat ip to meta l4proto . th dport map @published comment \"ports of every address\"",
            "ip saddr . oifname @neighbours ct status dnat masquerade comment \"to a published port of a neighbour or itself\"",
            "iifname @outward masquerade comment \"the way out\"",
            "ct state established,related accept comment \"what was let through goes on\"",
            "iifname @internal drop comment \"internal networks have no way out\"",
        ] {
            assert!(ruleset.contains(line), "{line}\nis not in\n{ruleset}");
        }
    });
}
