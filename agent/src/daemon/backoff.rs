//! How long to wait after failures: longer each time, never for ever, and not all hosts at once. Pure.

use std::time::Duration;

/// A policy for one kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub base: Duration,
    /// After many.
    pub cap: Duration,
    /// After a failure, a hint that something changed is followed no sooner than this.
    pub floor: Duration,
}

impl Backoff {
    /// The delay after so many failures in a row (at least one): doubled each time up to the cap, of which the last fifth is left to
    /// chance. `random` is in `0.0..1.0`.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.base.saturating_mul(1 << doublings).min(self.cap);
        whole.mul_f64(0.8 + 0.2 * random)
    }
}

/// An interval with a tenth of chance to both sides, so that a thousand hosts do not ask at the same moment for ever.
pub(super) fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60), floor: Duration::ZERO };

    #[test]
    fn it_doubles_up_to_the_cap() {
        let seconds: Vec<u64> = (1..=8).map(|failures| BACKOFF.delay(failures, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(BACKOFF.delay(u32::MAX, 1.0), BACKOFF.cap);
    }

    #[test]
    fn chance_only_shortens_and_by_a_fifth_at_most() {
        assert_eq!(BACKOFF.delay(7, 0.0), Duration::from_secs(48));
        assert_eq!(jittered(Duration::from_secs(30), 0.0), Duration::from_secs(27));
        assert_eq!(jittered(Duration::from_secs(30), 1.0), Duration::from_secs(33));
    }
}
