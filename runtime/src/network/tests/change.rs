//! Changes by other hands are heard of, and those of others are not.

use super::super::ChangeWatch;
use super::super::bridge_name;
use super::host::{endpoint, on_a_host, set_traffic, traffic};
use std::process::Command;

fn run(words: &str) {
    let mut words = words.split(' ');
    let program = words.next().unwrap();
    assert!(Command::new(program).args(words).status().unwrap().success());
}

#[test]
fn what_is_done_to_ours_is_heard_and_what_is_done_to_others_is_not() {
    on_a_host(|host| {
        let shop = host.network("shop", "10.77.0.0/24", false);
        let at = [endpoint("shop", "10.77.0.2")];
        host.container("web@1", &at);
        set_traffic(&host.places, &traffic(&[]), &traffic(&[("web@1", &at, &["8080:80"])])).unwrap();
        let (links, firewall) = (ChangeWatch::links(&host.places).unwrap(), ChangeWatch::firewall(&host.places).unwrap());
        let heard = || (links.read().unwrap(), firewall.read().unwrap());
        assert_eq!(heard(), (false, false), "nothing happened");
        run("ip link add stranger type bridge");
        run("ip address add 192.0.2.1/24 dev stranger");
        run("nft add table ip stranger");
        assert_eq!(heard(), (false, false), "somebody else's");
        let (bridge, table) = (bridge_name(&host.places, &shop.name), host.places.instance());
        run(&format!("ip address del 10.77.0.1/24 dev {bridge}"));
        assert_eq!(heard(), (true, false));
        run(&format!("ip link set {bridge} down"));
        assert_eq!(heard(), (true, false));
        run(&format!("ip link del {bridge}"));
        assert_eq!(heard(), (true, false));
        run(&format!("nft flush table ip {table}"));
        assert_eq!(heard(), (false, true));
        run(&format!("nft delete table ip {table}"));
        assert_eq!(heard(), (false, true));
        run("ip link del stranger");
        assert_eq!(heard(), (false, false));
    });
}
