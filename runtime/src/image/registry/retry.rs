//! When to try a request again. Pure: no I/O, no clock.

use crate::time::http_date;
use std::time::{Duration, SystemTime};

/// Longest wait that a registry may ask for: longer means "come back later", which is for the caller to decide.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often a request is tried again, and how long the waits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first one.
    pub attempts: u32,
    /// The first wait; each further one is twice as long.
    pub first_wait: Duration,
}

impl Default for Retry {
    /// Five more attempts within 15 s: a registry that restarts is waited for, a dead one is reported while somebody still looks.
    fn default() -> Self {
        Self { attempts: 5, first_wait: Duration::from_millis(500) }
    }
}

impl Retry {
    /// How long to wait before another attempt after `failures` failed ones, or `None` to give up. What the registry asked for
    /// (`Retry-After`) is respected, unless it is too long to wait for.
    pub(super) fn wait(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures > self.attempts || asked.is_some_and(|asked| asked > WAIT_MAX) {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(WAIT_MAX);
        Some(asked.map_or(doubled, |asked| asked.max(doubled)))
    }
}

/// How long `Retry-After` asks to wait: in seconds, or until a date (RFC 9110, 10.2.3). One that is past asks for nothing.
pub(super) fn asked(header: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(http_date(header.trim())?).ok()?);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_asks_in_seconds_or_until_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let cases = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ];
        for (header, expected) in cases {
            assert_eq!(asked(header, now), expected.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn waits_double_and_respect_the_registry() {
        let retry = Retry { attempts: 3, first_wait: Duration::from_secs(1) };
        let seconds = |failures, asked: Option<u64>| retry.wait(failures, asked.map(Duration::from_secs)).map(|wait| wait.as_secs());
        assert_eq!([seconds(1, None), seconds(2, None), seconds(3, None), seconds(4, None)], [Some(1), Some(2), Some(4), None]);
        assert_eq!([seconds(1, Some(7)), seconds(3, Some(1)), seconds(1, Some(3600))], [Some(7), Some(4), None]);
    }
}
