//! Spans of time as Compose and Go write them: `90s`, `1m30s`, `500ms`, `2h`, `1.5s`.
//!
//! Values are plain [`Duration`]s; the serde module of the same name goes on the field: `#[serde(with = "spec::value::duration")]`.

use super::{ValueError, digits};
use serde::{Deserialize as _, Deserializer, Serializer};
use std::time::Duration;

/// Units from large to small with their length in nanoseconds.
const UNITS: [(&str, u64); 6] =
    [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// Reads a span. A bare number is refused (seconds or milliseconds?), `0` is not.
pub fn parse(text: &str) -> Result<Duration, ValueError> {
    let not_a_duration =
        || ValueError::with_hint(format!("{text:?} is not a duration"), "write a number and a unit, such as 10s, 1m30s or 500ms");
    let too_long = || ValueError::new(format!("{text:?} is longer than 584 years"));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let length = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at(length);
        let letters = tail.bytes().take_while(|b| b.is_ascii_alphabetic()).count();
        let (unit, tail) = tail.split_at(letters);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(not_a_duration)?;
        let nanos = match digits::<u64>(number) {
            Some(whole) => whole.checked_mul(*scale).ok_or_else(too_long)?,
            None => {
                let nanos = number.parse::<f64>().map_err(|_| not_a_duration())? * *scale as f64;
                if nanos < u64::MAX as f64 { nanos.round() as u64 } else { return Err(too_long()) }
            }
        };
        total = total.checked_add(nanos).ok_or_else(too_long)?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(not_a_duration());
    }
    Ok(Duration::from_nanos(total))
}

/// Prints the shortest exact form: `1m30s`, `500ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let mut nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in UNITS {
        if nanos >= scale {
            text.push_str(&format!("{}{unit}", nanos / scale));
            nanos %= scale;
        }
    }
    text
}

/// Writes the text form.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Reads the text form.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}
