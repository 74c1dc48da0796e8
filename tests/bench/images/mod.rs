//! Images: pulled, pushed, built, side by side with whoever can.

mod registry;
mod stock;

use crate::ground::{Ground, has, run};
use crate::measure::{Series, interleaved, timed};
use crate::options::{Measurement, Options};
use crate::peers::{ImageStep, Peer};
use crate::table::{self, Unit};
use anyhow::{Context as _, Result};
use registry::{ADDRESS, Registry};
use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Duration;
use stock::Stock;

type Peers<'a> = &'a mut [Box<dyn Peer>];

/// All that is wanted of images.
pub fn measure(ground: &Ground, options: &Options, peers: Peers<'_>) -> Result<()> {
    if let Some(missing) = ["docker-registry", "skopeo"].into_iter().find(|program| !has(program)) {
        println!("\nimages are left out: {missing} is not installed");
        return Ok(());
    }
    let stock = Stock::make(ground)?;
    let registry = RefCell::new(Registry::start(ground)?);
    if options.wants(Measurement::Pull) {
        pull(&stock, options, peers)?;
    }
    if options.wants(Measurement::Push) {
        push(&stock, &registry, options, peers);
    }
    if options.wants(Measurement::Build) {
        build(ground, &stock, options, peers)?;
        copy(&stock, options, peers);
    }
    registry.into_inner().stop()
}

/// The time something takes on a disk that has nothing left to write: whoever syncs must not pay for what others did.
fn settled(what: impl FnOnce() -> Result<()>) -> Result<Duration> {
    run(&mut std::process::Command::new("sync"))?;
    timed(what)
}

/// A step, untimed or inside a time; what a peer cannot do it is not asked for.
fn step(peer: &dyn Peer, step: &ImageStep<'_>) -> Result<()> {
    run(&mut peer.image(step).with_context(|| format!("{} cannot do that", peer.name()))?).map(drop)
}

fn can(peer: &dyn Peer, step: &ImageStep<'_>) -> bool {
    peer.image(step).is_some()
}

/// Forgetting what may not be there.
fn forget(peer: &dyn Peer, reference: &str) {
    // What is not there yet cannot be forgotten.
    let _absent = step(peer, &ImageStep::Forget { reference });
}

/// From a registry on loopback into a store that has nothing of it, unpacked.
fn pull(stock: &Stock, options: &Options, peers: Peers<'_>) -> Result<()> {
    for (name, words) in [("one", "one layer"), ("ten", "ten layers")] {
        let reference = stock.publish(name)?;
        let pulling = ImageStep::Pull { reference: &reference };
        let round = |peer: &mut dyn Peer| {
            forget(peer, &reference);
            Ok([settled(|| step(peer, &pulling))?])
        };
        let [times] = interleaved(options.long_rounds(), peers, |peer| can(peer, &pulling), round);
        table::print(&format!("pull an image of {words}"), Unit::Milliseconds, &times);
        let Some(agent) = peers.first() else { continue };
        forget(agent.as_ref(), &reference);
        let mut command = agent.image(&pulling).context("the agent pulls")?;
        let peak = Series::single(agent.name(), stock::peak_kib(&mut command)?);
        table::print(&format!("peak memory of a pull, {words}"), Unit::Kibibytes, &[peak]);
        peers.iter().filter(|peer| can(peer.as_ref(), &pulling)).for_each(|peer| forget(peer.as_ref(), &reference));
    }
    Ok(())
}

/// Into an empty registry, of an image that was never compressed; then once more.
fn push(stock: &Stock, registry: &RefCell<Registry>, options: &Options, peers: Peers<'_>) {
    let reference = format!("{ADDRESS}/pushed:1");
    let archive = stock.system();
    let pushing = ImageStep::Push { reference: &reference };
    let importing = ImageStep::Import { archive: &archive, reference: &reference };
    let round = |peer: &mut dyn Peer| {
        registry.borrow_mut().empty()?;
        forget(peer, &reference);
        step(peer, &importing)?;
        Ok([settled(|| step(peer, &pushing))?, settled(|| step(peer, &pushing))?])
    };
    let [fresh, again] = interleaved(options.long_rounds(), peers, |peer| can(peer, &pushing), round);
    table::print("push an image of one layer, nothing there yet", Unit::Milliseconds, &fresh);
    table::print("push it again", Unit::Milliseconds, &again);
    peers.iter().filter(|peer| can(peer.as_ref(), &pushing)).for_each(|peer| forget(peer.as_ref(), &reference));
}

fn building<'a>(context: &'a Path, reference: &'a str, cache: bool) -> ImageStep<'a> {
    ImageStep::Build { context, reference, cache }
}

/// Ten steps on a base that is there: every step done, then none.
fn build(ground: &Ground, stock: &Stock, options: &Options, peers: Peers<'_>) -> Result<()> {
    let (base, built) = (format!("{ADDRESS}/base:1"), format!("{ADDRESS}/built:1"));
    let context = stock.ten_steps(&base)?;
    let (cold, cached) = (building(&context, &built, false), building(&context, &built, true));
    let importing = ImageStep::Import { archive: &ground.archive(), reference: &base };
    peers.iter().filter(|peer| can(peer.as_ref(), &cold)).try_for_each(|peer| {
        // Builders that share a daemon import it twice; that is fine.
        if can(peer.as_ref(), &importing) { step(peer.as_ref(), &importing) } else { Ok(()) }
    })?;
    let round = |peer: &mut dyn Peer| -> Result<_> {
        let first = settled(|| step(peer, &cold))?;
        step(peer, &cached)?;
        Ok([first, settled(|| step(peer, &cached))?])
    };
    let [cold, cached] = interleaved(options.long_rounds(), peers, |peer| can(peer, &cold), round);
    table::print("build ten steps, nothing cached", Unit::Milliseconds, &cold);
    table::print("build ten steps, all cached", Unit::Milliseconds, &cached);
    Ok(())
}

/// A tree of twenty thousand files: new, as it was, with one file changed.
fn copy(stock: &Stock, options: &Options, peers: Peers<'_>) {
    let reference = format!("{ADDRESS}/tree:1");
    let round = |peer: &mut dyn Peer| -> Result<[Duration; 3]> {
        let context = stock.tree()?;
        let (cold, cached) = (building(&context, &reference, false), building(&context, &reference, true));
        let first = settled(|| step(peer, &cold))?;
        step(peer, &cached)?;
        let unchanged = settled(|| step(peer, &cached))?;
        let unique = format!("{:?}", std::time::Instant::now());
        fs::write(context.join("tree/7/7"), unique)?;
        Ok([first, unchanged, settled(|| step(peer, &cached))?])
    };
    let able = |peer: &dyn Peer| can(peer, &building(Path::new("."), &reference, true));
    let [cold, unchanged, changed] = interleaved(options.long_rounds(), peers, able, round);
    table::print("COPY 20,000 files, nothing cached", Unit::Milliseconds, &cold);
    table::print("COPY 20,000 files, unchanged", Unit::Milliseconds, &unchanged);
    table::print("COPY 20,000 files, one changed", Unit::Milliseconds, &changed);
}
