//! `make bench`: the agent side by side with crun, runc, podman, docker, buildah and skopeo, in one run on one machine.
//!
//! Benchmarks, never timed tests: nothing fails because something is slow. Rounds are interleaved, so that whatever else the
//! machine does falls on everybody alike. All of it happens in mount, network and process namespaces of its own, in a directory of
//! its own; nothing of it outlives the run.

mod ground;
mod images;
mod measure;
mod memory;
mod options;
mod peers;
mod plan;
mod speed;
mod table;

use anyhow::Result;
use ground::Ground;
use options::{Measurement, Options};
use peers::Peer;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match Options::parse(std::env::args().skip(1)) {
        Ok(options) if ground::is_inside() => bench(&options).map(|()| ExitCode::SUCCESS),
        Ok(_) => ground::enter(),
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn bench(options: &Options) -> Result<()> {
    let ground = Ground::prepare()?;
    let mut peers = peers::prepare(&ground, options);
    table::heading(&peers);
    let outcome = measure(&ground, options, &mut peers);
    // Before the ground goes: they have processes, mounts and control groups on it.
    for peer in peers {
        let name = peer.name();
        if let Err(error) = peer.end() {
            eprintln!("{name}: cleaning up: {error:#}");
        }
    }
    outcome.and(ground.leave())
}

fn measure(ground: &Ground, options: &Options, peers: &mut [Box<dyn Peer>]) -> Result<()> {
    if options.wants(Measurement::Run) {
        speed::run(options, peers);
    }
    if options.wants(Measurement::Start) {
        speed::start(options, peers);
    }
    if options.wants(Measurement::Memory) {
        memory::measure(ground, options, peers)?;
    }
    if options.wants(Measurement::Plan) {
        plan::measure(ground, options)?;
    }
    if [Measurement::Pull, Measurement::Push, Measurement::Build].into_iter().any(|it| options.wants(it)) {
        images::measure(ground, options, peers)?;
    }
    Ok(())
}
