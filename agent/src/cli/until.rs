//! `--filter until=…` of the verbs that remove: what came, or served, since then stays. As Docker's users write it.

use spec::value::duration;
use std::time::{Duration, SystemTime};

/// The moment before which things are old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(SystemTime),
}

/// Reads `until=24h`, `until=2026-01-02T15:04:05Z`, or seconds since 1970.
pub(super) fn parse(text: &str) -> Result<Until, String> {
    let wrong = || "write until=24h, until=2026-01-02T15:04:05Z or until= and seconds since 1970".to_owned();
    let value = text.strip_prefix("until=").ok_or_else(wrong)?;
    if let Ok(seconds) = value.parse::<u64>() {
        return SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map(Until::At).ok_or_else(wrong);
    }
    if let Ok(span) = duration::parse(value) {
        return Ok(Until::Ago(span));
    }
    value.parse::<jiff::Timestamp>().map(|at| Until::At(at.into())).map_err(|_| wrong())
}

impl Until {
    /// The moment, for somebody who asks now.
    pub(super) fn moment(self, now: SystemTime) -> SystemTime {
        match self {
            Self::At(moment) => moment,
            Self::Ago(span) => now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_moments_and_seconds() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let moment = |text: &str| parse(text).map(|until| until.moment(at(100_000)));
        assert_eq!(moment("until=24h"), Ok(at(13_600)));
        assert_eq!(moment("until=27h"), Ok(at(2800)));
        assert_eq!(moment("until=1500"), Ok(at(1500)));
        assert_eq!(moment("until=1970-01-01T01:00:00Z"), Ok(at(3600)));
        for wrong in ["24h", "until=", "until=yesterday", "label=x"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
