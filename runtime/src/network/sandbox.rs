//! Networks of build steps: namespaces with one link each, which lead out as the host does.
//!
//! ```text
//!  host namespace                                   namespace of a step, held open by its builder
//!  ┌───────────────────────────────────────────┐    ┌──────────────────────────────────────────┐
//!  │ hab-7  198.18.0.29/30 ────────────────────┼────┼─ eth0 198.18.0.30/30  default → hab-7    │
//!  │ table ip agent-build-<pid>-<n>:           │    │ table ip host-agent:                     │
//!  │   masquerade, wall                        │    │   127.0.0.11:53 → :10053 (the step's shim) │
//!  └───────────────────────────────────────────┘    └──────────────────────────────────────────┘
//! ```
//!
//! No bridge, no record and no lock: the kernel keeps the account, and takes all of it away with whoever made it, however that ends.
//! A namespace lives as long as a descriptor of it is open or a process is in it, a link as long as its namespace, and the table as
//! long as the socket that made it. A number is free if a link of that name can be made; its addresses follow from the number. So
//! steps neither see each other nor any container, and what watches over networks and containers never hears of them.

use super::connect::settle;
use super::error::NetworkError;
use super::firewall::{self, Wall};
use super::ipam::{Pool, free_subnet};
use super::link::{self, Address, Pair, Which};
use super::links::Links;
use super::namespace;
use super::naming::hardware_address;
use super::netlink::{Family, Socket};
use super::probe::Feature;
use super::sysctl::{self, Missing};
use crate::places::Places;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What the names of all links of build steps begin with, whatever instance they belong to.
pub(super) const LINK_PREFIX: &str = "hab-";
/// Most steps of all builds of a host at once: what a block has room for is sixteen times that.
const LINKS_MAX: u32 = 1024;
/// Prefix length of a step's subnet: two addresses, one for each end.
const STEP_PREFIX: u8 = 30;
/// Blocks that the subnets of steps are taken from, the first that the host does not use: those for measurements (RFC 2544), which are
/// routed nowhere, then some that neither containers' networks nor Docker's take.
const BLOCKS: [Pool; 2] = [
    Pool { first: Ipv4Addr::new(198, 18, 0, 0), count: 2, prefix: 16 },
    Pool { first: Ipv4Addr::new(172, 16, 0, 0), count: 1, prefix: 16 },
];

/// The networks of one build's steps. What a step is done with serves the next one.
#[derive(Debug)]
pub struct Sandboxes {
    places: Places,
    ground: Mutex<Option<Ground>>,
    free: Mutex<Vec<Sandbox>>,
    /// Those that are being taken away.
    going: Mutex<Vec<JoinHandle<()>>>,
}

/// What all of a build's have in common.
#[derive(Debug)]
struct Ground {
    /// The block that subnets are taken from.
    block: Ipv4Addr,
    _wall: Wall,
}

/// One of them.
#[derive(Debug)]
struct Sandbox {
    /// The host's end of its link.
    link: u32,
    namespace: OwnedFd,
}

/// One in use by a step.
#[derive(Debug)]
pub struct InUse<'a> {
    sandboxes: &'a Sandboxes,
    sandbox: Option<Sandbox>,
}

impl Sandboxes {
    /// For a build of this instance. Nothing is made before the first step needs it.
    pub fn new(places: &Places) -> Self {
        Self { places: places.clone(), ground: Mutex::default(), free: Mutex::default(), going: Mutex::default() }
    }

    /// One that no step uses: one that served before, or a new one.
    pub fn take(&self) -> Result<InUse<'_>, NetworkError> {
        let block = self.block()?;
        let served = self.free().pop();
        let sandbox = match served {
            Some(sandbox) => sandbox,
            None => self.make(block)?,
        };
        Ok(InUse { sandboxes: self, sandbox: Some(sandbox) })
    }

    /// Begins to take away what no step uses, while the build goes on: the kernel waits some tens of milliseconds until no packet is
    /// under way any more. A step that takes one all the same has it made anew.
    pub fn retire(&self) {
        let ground = self.ground.lock().unwrap_or_else(PoisonError::into_inner).take();
        let served = std::mem::take(&mut *self.free());
        if ground.is_none() && served.is_empty() {
            return;
        }
        // The links and the table wait each for themselves: then side by side.
        let mut threads = vec![std::thread::spawn(move || drop(ground))];
        if !served.is_empty() {
            threads.push(std::thread::spawn(move || remove(served)));
        }
        self.going.lock().unwrap_or_else(PoisonError::into_inner).extend(threads);
    }

    /// The block of this build, with the table that leads out of it.
    fn block(&self) -> Result<Ipv4Addr, NetworkError> {
        let mut ground = self.ground.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ground) = &*ground {
            return Ok(ground.block);
        }
        let used = Links::read(&self.places, [])?.subnets_of_others(LINK_PREFIX);
        let block = free_subnet(&BLOCKS, &used).ok_or(NetworkError::NoBlock)?.network();
        sysctl::set("ipv4/ip_forward", "1", Missing::Refuse)?;
        let wall = firewall::lead_out(LINK_PREFIX)?;
        *ground = Some(Ground { block, _wall: wall });
        Ok(block)
    }

    fn make(&self, block: Ipv4Addr) -> Result<Sandbox, NetworkError> {
        // Sockets stay in the namespace they were opened in, wherever they are used: only what is read from `/proc` must be here.
        let mut host = open()?;
        let (mut inside, namespace) = namespace::within_unpinned(WHAT, |_| {
            let mut inside = open()?;
            settle(&self.places, &mut inside)?;
            Ok(inside)
        })?;
        let (link, number) = pair(&mut host, &namespace)?;
        let sandbox = Sandbox { link, namespace };
        match connect((&mut host, link), &mut inside, block, number) {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                remove([sandbox]);
                Err(error)
            }
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Sandbox>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What errors call one.
const WHAT: &str = "a build step";

impl InUse<'_> {
    /// Where its namespace can be opened as long as this is held: by descriptor, for it is mounted nowhere.
    pub fn path(&self) -> PathBuf {
        let sandbox = self.sandbox.as_ref().expect("it is given back only when dropped");
        format!("/proc/{}/fd/{}", std::process::id(), sandbox.namespace.as_raw_fd()).into()
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.sandboxes.free().extend(self.sandbox.take());
    }
}

impl Drop for Sandboxes {
    fn drop(&mut self) {
        self.retire();
        let going = std::mem::take(self.going.get_mut().unwrap_or_else(PoisonError::into_inner));
        // One that panicked has nothing to say that matters now.
        going.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Takes links away at once; with their namespaces they would go too, but later.
fn remove(sandboxes: impl IntoIterator<Item = Sandbox>) {
    for sandbox in sandboxes {
        let _ = open().and_then(|mut host| host.transact(&[link::delete(sandbox.link)]).map_err(failed("delete the link")));
    }
}

/// Makes a link under the first name that is free; the index of the host's end, and its number.
fn pair(host: &mut Socket, namespace: &OwnedFd) -> Result<(u32, u32), NetworkError> {
    for number in 0..LINKS_MAX {
        let name = format!("{LINK_PREFIX}{number}");
        let pair = Pair { name: &name, bridge: 0, namespace: namespace.as_fd(), peer: "eth0", peer_hardware: HARDWARE };
        match host.transact(&[link::create_pair(&pair)]) {
            Ok(()) => {
                let found = link::find(host, &name).map_err(failed("find the link"))?;
                return Ok((found.map(|link| link.index).unwrap_or_default(), number));
            }
            Err(error) if error.refusal() == Some(libc::EEXIST) => {}
            Err(error) => return Err(failed("create the link")(error)),
        }
    }
    Err(NetworkError::NoBlock)
}

/// The hardware address of every step's link: the same for all, as no two are on one wire.
const HARDWARE: [u8; 6] = hardware_address(Ipv4Addr::new(198, 18, 0, 2));

/// Gives both ends their addresses, and the namespace its way out.
fn connect((host, link): (&mut Socket, u32), inside: &mut Socket, block: Ipv4Addr, number: u32) -> Result<(), NetworkError> {
    let name = format!("{LINK_PREFIX}{number}");
    // Before the other end is up: a step could else send router advertisements to the host.
    sysctl::set(&format!("ipv6/conf/{name}/disable_ipv6"), "1", Missing::Ignore)?;
    let subnet = u32::from(block) + (number << (32 - STEP_PREFIX));
    let [gateway, own] = [1, 2].map(|host| Ipv4Addr::from(subnet + host));
    let address = |link, address| link::add_address(&Address { link, address, prefix: STEP_PREFIX });
    host.transact(&[address(link, gateway)]).map_err(failed("address the link"))?;
    let inner = link::find(inside, "eth0").map_err(failed("find the inner link"))?.map(|link| link.index).unwrap_or_default();
    let up = [link::set_up("eth0"), address(inner, own), link::set_default_route(gateway), link::settle(Which::Numbered(inner))];
    inside.transact(&up).map_err(failed("set up the inner link"))?;
    // It has a carrier only now.
    host.transact(&[link::settle(Which::Numbered(link))]).map_err(failed("settle the link"))
}

fn open() -> Result<Socket, NetworkError> {
    Socket::open(Family::Route).map_err(NetworkError::netlink("talk to rtnetlink", Feature::Links))
}

fn failed(action: &str) -> impl FnOnce(super::NetlinkError) -> NetworkError {
    NetworkError::netlink(format!("{action} of {WHAT}"), Feature::Veth)
}
