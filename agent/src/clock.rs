//! The clock: read at the edges, handed on as a value.

use runtime::container::state::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// A time as machines read it: RFC 3339, in UTC.
pub fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.0)).map(|time| time.to_string()).unwrap_or_default()
}

/// The time now.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
