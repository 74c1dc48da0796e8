//! The times a build writes: never the clock's.
//!
//! The rule: everything a build makes is dated `SOURCE_DATE_EPOCH` if that is given, else [`EPOCH`]. That goes for the configuration,
//! its history, and every file that was written while a step ran. Files that are older (from packages and archives) keep their time.

use crate::image::layer::header::Time;
use crate::image::layer::pack::EPOCH;
use crate::time::civil;

/// What a build's results are dated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BuildTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Whether it was asked for: then no file stays later than this.
    pub asked: bool,
}

impl BuildTime {
    /// The time asked for, or the fixed one.
    pub(crate) fn of(asked: Option<i64>) -> Self {
        Self { seconds: asked.unwrap_or(EPOCH.seconds), asked: asked.is_some() }
    }

    /// As files are dated.
    pub(crate) fn time(self) -> Time {
        Time { seconds: self.seconds, nanoseconds: 0 }
    }

    /// The latest time that a file may keep, if there is a bound.
    pub(crate) fn latest(self) -> Option<i64> {
        self.asked.then_some(self.seconds)
    }

    /// RFC 3339, UTC, whole seconds.
    pub(crate) fn rfc3339(self) -> String {
        let days = self.seconds.div_euclid(86_400);
        let second = self.seconds.rem_euclid(86_400);
        let (year, month, day) = civil(days);
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::BuildTime;

    #[test]
    fn dates() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(BuildTime::of(Some(seconds)).rfc3339(), expected);
        }
        assert_eq!(BuildTime::of(None).rfc3339(), "1980-01-02T00:00:00Z");
    }
}
