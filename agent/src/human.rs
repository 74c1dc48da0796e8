//! Spans, times and sizes as people read them.

use runtime::container::state::Timestamp;
use runtime::image::layer::pack::EPOCH;

/// A span as people read it: `3s`, `2m`, `5h`, `4d`, `3y`.
pub fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "0s".to_owned(),
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        172_800..=63_071_999 => format!("{}d", seconds / 86_400),
        63_072_000.. => format!("{}y", seconds / 31_536_000),
    }
}

/// How long ago a time of RFC 3339 was, as people read it; nothing if it is none.
pub fn age_of(time: &str, now: Timestamp) -> String {
    time.parse::<jiff::Timestamp>().map_or_else(|_| String::new(), |then| age(now.0 / 1_000_000_000 - then.as_second()))
}

/// How long ago an image, or a step of it, was made: `5h ago`. `N/A` where it says nothing, or only the time that everything has that was
/// made reproducibly.
pub fn made(created: Option<&str>, now_s: i64) -> String {
    let created = created.and_then(|time| time.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second);
    match created.filter(|second| *second > EPOCH.seconds) {
        Some(second) => format!("{} ago", age(now_s - second)),
        None => "N/A".to_owned(),
    }
}

/// Bytes as people read them: `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_time_of_everything_has_none() {
        let now = 1_700_000_000;
        for (created, shown) in [
            (Some("2023-11-14T22:13:15Z"), "5s ago"),
            (Some("1980-01-02T00:00:00Z"), "N/A"),
            (Some("1970-01-01T00:00:00Z"), "N/A"),
            (Some("0001-01-01T00:00:00Z"), "N/A"),
            (Some("yesterday"), "N/A"),
            (None, "N/A"),
        ] {
            assert_eq!(made(created, now), shown, "{created:?}");
        }
    }
}
