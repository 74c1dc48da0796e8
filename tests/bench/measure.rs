//! Measuring: interleaved rounds, medians, minima, ratios.

use crate::peers::Peer;
use anyhow::Result;
use std::time::{Duration, Instant};

/// What was measured of one peer.
#[derive(Debug, Clone)]
pub struct Series {
    /// Whose.
    pub name: String,
    values: Vec<f64>,
}

impl Series {
    /// An empty one.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), values: Vec::new() }
    }

    /// One value of something that is not repeated.
    pub fn single(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), values: vec![value] }
    }

    /// Adds a time, in milliseconds.
    pub fn add(&mut self, time: Duration) {
        self.values.push(time.as_secs_f64() * 1000.0);
    }

    /// Adds a value of any unit.
    pub fn add_value(&mut self, value: f64) {
        self.values.push(value);
    }

    /// The value in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The smallest one.
    pub fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// The time something takes.
pub fn timed(what: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    what()?;
    Ok(began.elapsed())
}

/// Lets each peer that takes part do its round in turn, `rounds` times over after one that does not count. A round gives `N`
/// times. A peer that fails is out, with a line that says why.
pub fn interleaved<const N: usize>(
    rounds: usize,
    peers: &mut [Box<dyn Peer>],
    takes_part: impl Fn(&dyn Peer) -> bool,
    round: impl Fn(&mut dyn Peer) -> Result<[Duration; N]>,
) -> [Vec<Series>; N] {
    let mut racers: Vec<_> = peers
        .iter_mut()
        .filter(|peer| takes_part(peer.as_ref()))
        .map(|peer| (std::array::from_fn::<_, N, _>(|_| Series::new(peer.name())), peer))
        .collect();
    for number in 0..=rounds {
        racers.retain_mut(|(series, peer)| match round(peer.as_mut()) {
            Ok(times) => {
                if number > 0 {
                    series.iter_mut().zip(times).for_each(|(series, time)| series.add(time));
                }
                true
            }
            Err(error) => {
                eprintln!("{} is out: {error:#}", peer.name());
                false
            }
        });
    }
    let mut all = std::array::from_fn(|_| Vec::new());
    for (series, _) in racers {
        all.iter_mut().zip(series).for_each(|(all, series): (&mut Vec<_>, _)| all.push(series));
    }
    all
}
