//! A host for one test, with another host beside it.

use super::super::link::{self, Address, Pair};
use super::super::netlink::{Family, Socket};
use super::super::{Links, NetworkError, NetworkRecord, Serving, Traffic, connect, ensure_network, namespace};
use crate::container::config::Endpoint;
use crate::network;
use crate::places::Places;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use spec::value::{ContainerId, Name};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The host's address on its uplink, and the other host's.
pub(super) const UPLINK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// How long a client waits for an answer that must come, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits before it counts as shut out: a thousand times longer than an answer takes.
const IMPATIENCE: Duration = Duration::from_millis(400);

/// A network namespace that can be entered.
pub(super) type Namespace = Arc<File>;

/// The host a test runs on: its thread is in it.
pub(super) struct Host {
    pub(super) places: Places,
    pub(super) here: Namespace,
    pub(super) outside: Namespace,
    pub(super) networks: BTreeMap<Name, NetworkRecord>,
}

/// Runs a test on a host of its own; skips it, loudly, without the rights it needs.
pub(super) fn on_a_host(test: impl FnOnce(&mut Host) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root, to make network namespaces");
        return;
    }
    // Outlives the thread: what is pinned below it is busy as long as the thread's mount namespace lives.
    let root = tempfile::tempdir().unwrap();
    let at = |name| root.path().join(name);
    let places = Places { state: at("state"), run: at("run"), config: at("config") };
    let thread = std::thread::spawn(move || {
        #[expect(deprecated, reason = "the other form is unsafe for a flag that is not used here")]
        rustix::thread::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        let here: Namespace = Arc::new(File::open("/proc/thread-self/ns/net").unwrap());
        let outside = new_namespace();
        let mut socket = Socket::open(Family::Route).unwrap();
        let pair = Pair { name: "uplink", bridge: 0, namespace: outside.as_fd(), peer: "eth0", peer_hardware: [2, 0, 0, 0, 0, 9] };
        socket.transact(&[link::set_up("lo"), link::create_pair(&pair)]).unwrap();
        set_address(&mut socket, "uplink", UPLINK);
        inside(&outside, || {
            let mut socket = Socket::open(Family::Route).unwrap();
            set_address(&mut socket, "eth0", OUTSIDE);
            socket.transact(&[link::set_up("lo")]).unwrap();
        });
        test(&mut Host { places, here, outside, networks: BTreeMap::new() });
    });
    let ended = thread.join();
    root.close().unwrap();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Runs something on a thread inside a namespace.
pub(super) fn inside<T: Send>(namespace: &Namespace, run: impl FnOnce() -> T + Send) -> T {
    let result = std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            run()
        });
        entered.join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Host {
    /// Makes a network.
    pub(super) fn network(&mut self, name: &str, subnet: &str, internal: bool) -> NetworkRecord {
        let record = record(name, subnet, internal);
        ensure_network(&self.places, &record).unwrap();
        self.networks.insert(record.name.clone(), record.clone());
        record
    }

    /// Connects a container; its namespace.
    pub(super) fn container(&self, id: &str, endpoints: &[Endpoint]) -> Namespace {
        connect(&self.places, &id.parse().unwrap(), endpoints).unwrap();
        self.namespace(id)
    }

    /// The namespace of a container.
    pub(super) fn namespace(&self, id: &str) -> Namespace {
        Arc::new(File::from(namespace::open(&self.places, &id.parse().unwrap()).unwrap().expect("a pinned namespace")))
    }

    /// Names of the links in the host's namespace.
    pub(super) fn links(&self) -> Vec<String> {
        let mut socket = Socket::open(Family::Route).unwrap();
        link::links(&mut socket).unwrap().into_iter().map(|link| link.name).collect()
    }

    /// What is wrong with a container's links.
    pub(super) fn link_faults(&self, id: &str, endpoints: &[Endpoint]) -> Vec<String> {
        let id: ContainerId = id.parse().unwrap();
        Links::read(&self.places, self.networks.keys()).unwrap().link_faults(&id, endpoints).iter().map(ToString::to_string).collect()
    }
}

/// A network as recorded.
pub(super) fn record(name: &str, subnet: &str, internal: bool) -> NetworkRecord {
    let subnet: spec::value::Subnet = subnet.parse().unwrap();
    NetworkRecord {
        name: name.parse().unwrap(),
        subnet,
        gateway: subnet.first_host(),
        internal,
        labels: BTreeMap::new(),
        annotations: serde_json::json!({"owner": "test"}),
    }
}

/// A place on a network.
pub(super) fn endpoint(network: &str, address: &str) -> Endpoint {
    Endpoint { network: network.parse().unwrap(), address: address.parse().unwrap(), aliases: Default::default() }
}

/// What leads to containers: (id, endpoints, ports).
pub(super) fn traffic(serving: &[(&str, &[Endpoint], &[&str])]) -> Traffic {
    let one = |(id, endpoints, ports): &(&str, &[Endpoint], &[&str])| {
        let ports = ports.iter().map(|port| port.parse().unwrap()).collect();
        (id.parse().unwrap(), Serving { endpoints: endpoints.to_vec(), ports })
    };
    serving.iter().map(one).collect()
}

/// Changes the traffic from one whole to another.
pub(super) fn set_traffic(places: &Places, before: &Traffic, after: &Traffic) -> Result<(), NetworkError> {
    let ids = before.keys().chain(after.keys()).filter(|id| before.get(id) != after.get(id));
    network::set_traffic(places, before, &ids.map(|id| (id.clone(), after.get(id).cloned())).collect())
}

/// Listens in a namespace, at all its addresses.
pub(super) fn serve(namespace: &Namespace, name: &'static str, port: u16) {
    serve_at(namespace, name, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
}

/// Listens in a namespace on TCP and UDP, and answers `<name> <address of the client>`, for as long as the test process lives.
pub(super) fn serve_at(namespace: &Namespace, name: &'static str, at: SocketAddrV4) {
    let (tcp, udp) = inside(namespace, || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let client = stream.peer_addr().unwrap().ip();
            let _ = stream.write_all(format!("{name} {client}").as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(format!("{name} {}", client.ip()).as_bytes(), client);
        }
    });
}

/// What a TCP server says to a client in a namespace.
pub(super) fn ask_tcp(namespace: &Namespace, address: Ipv4Addr, port: u16) -> Option<String> {
    tcp(namespace, address, port, PATIENCE)
}

/// As [`ask_tcp`], where no answer is expected.
pub(super) fn try_tcp(namespace: &Namespace, address: Ipv4Addr, port: u16) -> Option<String> {
    tcp(namespace, address, port, IMPATIENCE)
}

fn tcp(namespace: &Namespace, address: Ipv4Addr, port: u16, patience: Duration) -> Option<String> {
    inside(namespace, || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), patience).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}

/// What a UDP server says to a client in a namespace.
pub(super) fn ask_udp(namespace: &Namespace, address: Ipv4Addr, port: u16) -> Option<String> {
    inside(namespace, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        // Connected: an answer from another address than was asked is refused.
        socket.connect((address, port)).ok()?;
        ask_again(&socket)
    })
}

/// Sends once more from a socket that has been used.
pub(super) fn ask_again(socket: &UdpSocket) -> Option<String> {
    socket.set_read_timeout(Some(IMPATIENCE)).unwrap();
    let mut buffer = [0; 64];
    socket.send(b"?").ok()?;
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// What `nft list ruleset` says about the namespace of this thread; `None`, loudly, without `nft`.
pub(super) fn nft_ruleset() -> Option<String> {
    match Command::new("nft").args(["list", "ruleset"]).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            eprintln!("SKIPPED: the second opinion of nft: {error}");
            None
        }
    }
}

fn new_namespace() -> Namespace {
    let thread = std::thread::spawn(|| {
        namespace::unshare_network().unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    Arc::new(thread.join().unwrap())
}

fn set_address(socket: &mut Socket, name: &str, address: Ipv4Addr) {
    let index = link::find(socket, name).unwrap().unwrap().index;
    socket.transact(&[link::set_up(name), link::add_address(&Address { link: index, address, prefix: 24 })]).unwrap();
}
