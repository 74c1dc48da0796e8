//! How long things take: a command to its end, a crowd of containers up and down.

use crate::measure::{interleaved, timed};
use crate::options::Options;
use crate::peers::{Network, Peer};
use crate::table::{self, Unit};
use anyhow::Result;

const NETWORKS: [(Network, &str); 2] = [(Network::None, "without network"), (Network::Bridge, "on a bridge")];

/// `true` in a new container, from the command line to its exit, container removed.
pub fn run(options: &Options, peers: &mut [Box<dyn Peer>]) {
    for (network, words) in NETWORKS {
        let round = |peer: &mut dyn Peer| Ok([timed(|| peer.run_true(network))?]);
        let [times] = interleaved(options.rounds(), peers, |peer| peer.has(network), round);
        table::print(&format!("run `true` to its end, {words}"), Unit::Milliseconds, &times);
    }
}

/// Many containers that sleep: until all of them run, and until all of them are gone.
pub fn start(options: &Options, peers: &mut [Box<dyn Peer>]) {
    let count = options.crowd();
    for (network, words) in NETWORKS {
        let round = |peer: &mut dyn Peer| -> Result<_> { Ok([timed(|| peer.start(count, network))?, timed(|| peer.stop(count))?]) };
        let [up, down] = interleaved(options.long_rounds(), peers, |peer| peer.has(network), round);
        table::print(&format!("start {count} containers, {words}"), Unit::Milliseconds, &up);
        table::print(&format!("stop and remove them, {words}"), Unit::Milliseconds, &down);
    }
}
