//! Shares of processor time.

use super::{ValueError, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// A limit on processor time in thousandths of one CPU: `0.5` is half a core, `2` two cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpus(u32);

impl Cpus {
    /// From thousandths of a CPU.
    pub const fn from_milli(milli: u32) -> Self {
        Self(milli)
    }

    /// Thousandths of a CPU.
    pub const fn milli(self) -> u32 {
        self.0
    }
}

impl FromStr for Cpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let not_cpus = || ValueError::with_hint(format!("{text:?} is not a number of CPUs"), "write 0.5 for half a core, or 500m");
        let milli = match text.strip_suffix('m') {
            Some(milli) => milli.parse::<u32>().map_err(|_| not_cpus())?,
            None => {
                let number: f64 = text.parse().map_err(|_| not_cpus())?;
                if !(0.0..=4_000_000.0).contains(&number) {
                    return Err(not_cpus());
                }
                (number * 1000.0).round() as u32
            }
        };
        // cfs_quota_us has a floor of 1 ms in a 100 ms period (kernel sched-bwc.rst): 0.01 CPU.
        if milli < 10 {
            return Err(ValueError::new(format!("{text:?} is below the smallest CPU limit, 0.01")));
        }
        Ok(Self(milli))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

serde_as_text!(Cpus);
