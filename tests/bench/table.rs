//! Printing: one line a peer, the agent first, everything beside it as a multiple of it.

use crate::measure::Series;
use crate::peers::Peer;

/// What is shown of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// KiB.
    Kibibytes,
}

/// Who takes part, in which version, and on what.
pub fn heading(peers: &[Box<dyn Peer>]) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("Linux {}, {processors} processors", kernel.trim());
    for peer in peers {
        println!("{:<8} {}", peer.name(), peer.version());
    }
}

/// One measurement. The first line is what the others are compared with.
pub fn print(title: &str, unit: Unit, lines: &[Series]) {
    let Some(first) = lines.first() else { return };
    let (name, digits) = match unit {
        Unit::Milliseconds => ("ms", 1),
        Unit::Kibibytes => ("KiB", 0),
    };
    println!("\n{title}");
    println!("  {:<28} {:>10} {:>10} {:>8}", "", format!("median {name}"), "min", "ratio");
    for line in lines {
        let (median, min, ratio) = (line.median(), line.min(), line.median() / first.median());
        println!("  {:<28} {median:>10.digits$} {min:>10.digits$} {ratio:>7.2}x", line.name);
    }
}
