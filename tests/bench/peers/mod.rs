//! Who is measured, each through its own command line as a user would. A peer that is not installed or does not work here is
//! left out, with a line that says why.

pub mod agent;
mod buildah;
mod docker;
mod oci;
mod podman;
mod skopeo;

use crate::ground::{Ground, has};
use crate::options::Options;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// Commands of a peer that run at the same time when many containers are started: as many as the agent starts at once.
const AT_ONCE: usize = 8;

/// How a container is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Loopback only.
    None,
    /// On the peer's default bridge, with an address, a route and masquerading.
    Bridge,
}

/// A step in the life of an image; references name a registry on loopback without TLS.
#[derive(Debug, Clone, Copy)]
pub enum ImageStep<'a> {
    /// From a tar archive of a root file system.
    Import {
        /// The archive.
        archive: &'a Path,
        /// The image's name.
        reference: &'a str,
    },
    /// From the registry, into the store.
    Pull {
        /// Which.
        reference: &'a str,
    },
    /// From the store to the registry.
    Push {
        /// Which.
        reference: &'a str,
    },
    /// Out of the store, with all that is only there for it.
    Forget {
        /// Which.
        reference: &'a str,
    },
    /// From a Dockerfile.
    Build {
        /// The directory with the Dockerfile.
        context: &'a Path,
        /// The image's name.
        reference: &'a str,
        /// Whether earlier results count.
        cache: bool,
    },
}

/// A way to run containers, to handle images, or both. Made ready by its constructor: image imported, daemon started.
pub trait Peer {
    /// Its command.
    fn name(&self) -> &'static str;

    /// As it says itself.
    fn version(&self) -> String;

    /// Whether it can do this by itself.
    fn has(&self, _network: Network) -> bool {
        false
    }

    /// Runs `true` in a new container to its end and removes the container.
    fn run_true(&self, _network: Network) -> Result<()> {
        bail!("{} runs no containers", self.name())
    }

    /// Starts so many containers that sleep; returns when all of them run.
    fn start(&mut self, _count: usize, _network: Network) -> Result<()> {
        bail!("{} runs no containers", self.name())
    }

    /// Ends and removes them.
    fn stop(&mut self, _count: usize) -> Result<()> {
        bail!("{} runs no containers", self.name())
    }

    /// The name of the process it keeps beside each container, if it does.
    fn monitor(&self) -> Option<&'static str> {
        None
    }

    /// The command for a step in the life of an image; `None` if it does no such thing.
    fn image(&self, _step: &ImageStep<'_>) -> Option<Command> {
        None
    }

    /// Whether it works here: by running `true`, if it can.
    fn try_out(&self) -> Result<()> {
        if self.has(Network::None) { self.run_true(Network::None) } else { Ok(()) }
    }

    /// Takes away all it has made.
    fn end(self: Box<Self>) -> Result<()>;
}

type Constructor = fn(&Ground) -> Result<Box<dyn Peer>>;

/// All that are wanted, installed and work here: the agent first.
pub fn prepare(ground: &Ground, options: &Options) -> Vec<Box<dyn Peer>> {
    let known: [(&str, &str, Constructor); 8] = [
        ("agent", "sh", |ground| Ok(Box::new(agent::Agent::new(ground, "agent")?))),
        ("crun", "crun", |ground| Ok(Box::new(oci::Oci::new("crun", ground)?))),
        ("runc", "runc", |ground| Ok(Box::new(oci::Oci::new("runc", ground)?))),
        ("podman", "podman", |ground| Ok(Box::new(podman::Podman::new(ground)?))),
        ("docker", "dockerd", |ground| Ok(Box::new(docker::Docker::new(ground)?))),
        // With docker's daemon, so after it.
        ("buildkit", "dockerd", |ground| Ok(Box::new(docker::BuildKit::new(ground)?))),
        ("buildah", "buildah", |ground| Ok(Box::new(buildah::Buildah::new(ground)))),
        ("skopeo", "skopeo", |ground| Ok(Box::new(skopeo::Skopeo::new(ground)))),
    ];
    let mut peers = Vec::new();
    for (name, program, constructor) in known {
        if name != "agent" && !options.admits(name) {
            continue;
        }
        if !has(program) {
            println!("{name} is left out: it is not installed");
            continue;
        }
        match constructor(ground).and_then(works) {
            Ok(peer) => peers.push(peer),
            Err(error) => println!("{name} is left out: {error:#}"),
        }
    }
    peers
}

fn works(peer: Box<dyn Peer>) -> Result<Box<dyn Peer>> {
    match peer.try_out() {
        Ok(()) => Ok(peer),
        Err(error) => {
            if let Err(second) = peer.end() {
                eprintln!("cleaning up: {second:#}");
            }
            Err(error)
        }
    }
}

/// Runs `0..count` commands, some at a time.
fn many(count: usize, command: impl Fn(usize) -> Command + Sync) -> Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            crate::ground::run(&mut command(number))?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// The first line a program says about its version.
fn version_of(command: &mut Command) -> String {
    let output = command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    output.ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
}
