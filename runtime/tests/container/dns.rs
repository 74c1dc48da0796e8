//! The name server, asked from inside the container's namespace.

use crate::host::{Host, SOON, host};
use runtime::container;
use runtime::container::config::{ContainerConfig, Endpoint, NetworkConfig};
use runtime::shim::dns::ADDRESS;
use runtime::shim::dns::responder::Responder;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, Question, TYPE};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A network namespace with loopback up, pinned until dropped.
struct Pinned(PathBuf);

impl Pinned {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        File::create(&path).expect("pin");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                own_namespace();
                rustix::mount::mount_bind("/proc/thread-self/ns/net", &path).expect("pin");
            });
        });
        Self(path)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Moves this thread into a network namespace of its own.
fn own_namespace() {
    #[expect(deprecated, reason = "the other form is unsafe for a flag that is not used here")]
    rustix::thread::unshare(UnshareFlags::NEWNET).expect("unshare");
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip").success());
}

/// Runs this on a thread inside the namespace.
fn inside<T: Send>(path: &Path, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let namespace = File::open(path).expect("namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter");
            run()
        });
        thread.join().expect("thread")
    })
}

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(77);
    packet.questions.push(Question::new(Name::new(name).expect("name"), kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().expect("query")
}

fn describe(reply: &[u8]) -> String {
    let packet = Packet::parse(reply).expect("reply");
    assert_eq!(packet.id(), 77);
    let answer = |rdata: &RData<'_>| match rdata {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        other => format!("{other:?}"),
    };
    let mut answers: Vec<_> = packet.answers.iter().map(|record| answer(&record.rdata)).collect();
    answers.sort();
    format!("{:?} {}", packet.rcode(), answers.join(" "))
}

fn ask_udp(name: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
    socket.set_read_timeout(Some(SOON)).expect("timeout");
    socket.send_to(&query(name, TYPE::A), ADDRESS).expect("send");
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).expect("answer");
    assert_eq!(from, SocketAddr::from(ADDRESS));
    describe(&buffer[..length])
}

fn ask_tcp(stream: &mut TcpStream, name: &str) -> String {
    let query = query(name, TYPE::A);
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    stream.write_all(&u16::try_from(query.len()).expect("short").to_be_bytes()).expect("write");
    stream.write_all(&query).expect("write");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("length");
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).expect("reply");
    describe(&reply)
}

fn write_records(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("write");
    std::fs::rename(new, path).expect("rename");
}

fn bridged(host: &Host, name: &str) -> (ContainerConfig, Pinned) {
    let mut config = host.config(name, "sleep 1000");
    let network = "shop".parse().expect("name");
    let endpoint = Endpoint { network, address: Ipv4Addr::new(10, 9, 0, 2), aliases: BTreeSet::new() };
    config.network = NetworkConfig::Bridged { endpoints: vec![endpoint], ports: Vec::new() };
    host.create(&config);
    container::prepare(&host.places, &config.id).expect("prepare");
    let pinned = Pinned::new(host.places.container_run(&config.id).join("netns"));
    (config, pinned)
}

#[test]
fn a_container_finds_its_neighbours_by_name() {
    let Some(host) = host() else { return };
    let (config, pinned) = bridged(&host, "asker@1");
    let records = host.places.records(&"shop".parse().expect("name"));
    write_records(&records, r#"{"domain": {"web": ["10.9.0.3", "10.9.0.4"]}, "forward": false}"#);
    container::start(&host.places, &config.id).expect("start");
    inside(&pinned.0, || {
        assert_eq!(ask_udp("WEB"), "NoError 10.9.0.3 10.9.0.4");
        assert_eq!(ask_udp("db"), "NameError ");
        let before = Instant::now();
        assert_eq!(ask_udp("example.com"), "NameError ", "an internal network forwards nothing");
        assert!(before.elapsed() < Duration::from_secs(1));
        let mut stream = TcpStream::connect(ADDRESS).expect("connect");
        assert_eq!(ask_tcp(&mut stream, "web"), "NoError 10.9.0.3 10.9.0.4");
        assert_eq!(ask_tcp(&mut stream, "db"), "NameError ");
    });
    write_records(&records, r#"{"domain": {"db": ["10.9.0.9"]}, "forward": false}"#);
    inside(&pinned.0, || assert_eq!(ask_udp("db"), "NoError 10.9.0.9"));
    // A new shim answers like the old one.
    host.kill_shim(&config.id);
    container::adopt(&host.places, &config.id).expect("adopt");
    inside(&pinned.0, || assert_eq!(ask_udp("db"), "NoError 10.9.0.9"));
}

#[test]
fn hostile_packets_change_nothing() {
    let Some(host) = host() else { return };
    let (config, pinned) = bridged(&host, "attacked@1");
    write_records(&host.places.records(&"shop".parse().expect("name")), r#"{"domain": {"web": ["10.9.0.3"]}, "forward": true}"#);
    container::start(&host.places, &config.id).expect("start");
    inside(&pinned.0, || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
        for length in 0..64 {
            socket.send_to(&vec![0xC0; length], ADDRESS).expect("send");
        }
        socket.send_to(&[0; 9000], ADDRESS).expect("send");
        for _ in 0..40 {
            // A query cut short, then a reset: unread data makes close(2) send one.
            let mut stream = TcpStream::connect(ADDRESS).expect("connect");
            stream.write_all(&[0, 200, 1, 2]).expect("write");
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("linger");
        }
        let idle: Vec<_> = (0..4).map(|_| TcpStream::connect(ADDRESS).expect("connect")).collect();
        assert_eq!(ask_udp("web"), "NoError 10.9.0.3");
        assert_eq!(ask_tcp(&mut TcpStream::connect(ADDRESS).expect("connect"), "web"), "NoError 10.9.0.3");
        drop(idle);
    });
    let shim = host.inspect(&config.id).state.shim.expect("shim");
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", shim.pid)).expect("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("fields").1.split_whitespace().collect();
        fields[11].parse::<u64>().expect("user") + fields[12].parse::<u64>().expect("system")
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(ticks() - before <= 2, "the shim is idle again");
}

/// An upstream nameserver that knows one name, on UDP and TCP.
fn serve(udp: &UdpSocket, tcp: &TcpListener, stop: &AtomicBool) {
    udp.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout");
    tcp.set_nonblocking(true).expect("nonblocking");
    let answer = |query: &[u8]| {
        let mut reply = Packet::parse(query).expect("query").into_reply();
        let name = reply.questions[0].qname.clone();
        assert_eq!(name.to_string(), "example.com");
        let rdata = RData::A(Ipv4Addr::new(192, 0, 2, 1).into());
        reply.answers.push(simple_dns::ResourceRecord::new(name, CLASS::IN, 60, rdata));
        reply.build_bytes_vec().expect("reply")
    };
    while !stop.load(Ordering::Relaxed) {
        let mut buffer = [0; 4096];
        if let Ok((length, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(&answer(&buffer[..length]), from).expect("send");
        }
        if let Ok((mut stream, _)) = tcp.accept() {
            stream.set_nonblocking(false).expect("blocking");
            let length = { stream.read_exact(&mut buffer[..2]).map(|()| usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))) };
            let length = length.expect("length");
            stream.read_exact(&mut buffer[..length]).expect("query");
            let reply = answer(&buffer[..length]);
            stream.write_all(&[&u16::try_from(reply.len()).expect("short").to_be_bytes(), reply.as_slice()].concat()).expect("write");
        }
    }
}

#[test]
fn other_names_are_asked_of_the_hosts_servers() {
    let Some(host) = host() else { return };
    let directory = host.places.run.clone();
    let pinned = Pinned::new(directory.join("container"));
    let (records, resolv_conf) = (directory.join("shop"), directory.join("resolv.conf"));
    write_records(&records, r#"{"domain": {"web": ["10.9.0.3"]}, "forward": true}"#);
    // The first one refuses, the second one answers.
    std::fs::write(&resolv_conf, "nameserver 127.0.0.99\nnameserver 127.0.0.53\n").expect("write");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            own_namespace();
            let udp = UdpSocket::bind("127.0.0.53:53").expect("upstream");
            let tcp = TcpListener::bind("127.0.0.53:53").expect("upstream");
            let mut responder = Responder::open(&pinned.0, vec![records.clone()], resolv_conf.clone()).expect("responder");
            std::thread::scope(|inner| {
                // A thread begins in the namespace of the one that made it.
                inner.spawn(|| serve(&udp, &tcp, &stop));
                while !stop.load(Ordering::Relaxed) {
                    responder.turn(Instant::now());
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        });
        let asked = std::panic::catch_unwind(|| {
            crate::host::eventually("the responder is up", || inside(&pinned.0, || TcpStream::connect(ADDRESS).is_ok()));
            inside(&pinned.0, || {
                assert_eq!(ask_udp("example.com"), "NoError 192.0.2.1");
                assert_eq!(ask_udp("web"), "NoError 10.9.0.3");
                assert_eq!(ask_udp("nowhere"), "NameError ");
                let mut stream = TcpStream::connect(ADDRESS).expect("connect");
                assert_eq!(ask_tcp(&mut stream, "example.com"), "NoError 192.0.2.1");
                assert_eq!(ask_tcp(&mut stream, "web"), "NoError 10.9.0.3");
                std::fs::write(&resolv_conf, "").expect("write");
                assert_eq!(ask_udp("example.com"), "ServerFailure ");
            });
        });
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = asked {
            std::panic::resume_unwind(panic);
        }
    });
}
