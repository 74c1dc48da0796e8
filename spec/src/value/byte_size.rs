//! Amounts of memory and disk.

use super::{ValueError, digits, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// A number of bytes. Read as Docker and Kubernetes write them: `268435456`, `256m`, `256Mi`, `1.5GiB`, `2G`.
///
/// All suffixes are powers of 1024, as in Docker's `--memory`; printed with the largest binary unit that divides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// From a number of bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let not_a_size =
            || ValueError::with_hint(format!("{text:?} is not a size"), "write a number with an optional unit, such as 256Mi or 1.5Gi");
        let length = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(length);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "ki" | "kib" => 10,
            "m" | "mb" | "mi" | "mib" => 20,
            "g" | "gb" | "gi" | "gib" => 30,
            "t" | "tb" | "ti" | "tib" => 40,
            _ => return Err(not_a_size()),
        };
        let too_large = || ValueError::new(format!("{text:?} is more than 16 EiB"));
        if let Some(whole) = digits::<u64>(number) {
            return whole.checked_mul(1 << shift).map(Self).ok_or_else(too_large);
        }
        let fraction: f64 = number.parse().map_err(|_| not_a_size())?;
        let bytes = fraction * (1u64 << shift) as f64;
        // 2^64 as a float is exact; what is below it fits.
        if bytes < u64::MAX as f64 { Ok(Self(bytes as u64)) } else { Err(too_large()) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
        match units.iter().find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift) {
            Some((unit, shift)) => f.pad(&format!("{}{unit}", self.0 >> shift)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

serde_as_text!(ByteSize);
