//! Signals by name.

use super::{ValueError, digits, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// Standard signals of Linux on every architecture this agent runs on, signal(7).
const SIGNALS: [(&str, u8); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];
/// First and last real-time signal as glibc numbers them.
const REAL_TIME: std::ops::RangeInclusive<u8> = 34..=64;

/// A signal number, read as `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `SIGRTMAX-2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

impl Signal {
    /// Ends a process that does not listen.
    pub const KILL: Self = Self(9);
    /// Asks a process to end.
    pub const TERM: Self = Self(15);

    /// The number the kernel knows.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

impl FromStr for Signal {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let unknown = || ValueError::with_hint(format!("{text:?} is not a signal"), "write a name such as SIGTERM, or a number");
        let known = |number: u8| (1..=31).contains(&number) || REAL_TIME.contains(&number);
        if let Some(number) = digits::<u8>(text) {
            return if known(number) { Ok(Self(number)) } else { Err(unknown()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN") {
            let offset: u8 = if offset.is_empty() { 0 } else { offset.strip_prefix('+').and_then(digits).ok_or_else(unknown)? };
            let number = REAL_TIME.start().checked_add(offset).ok_or_else(unknown)?;
            return if known(number) { Ok(Self(number)) } else { Err(unknown()) };
        }
        if let Some(offset) = name.strip_prefix("RTMAX") {
            let offset: u8 = if offset.is_empty() { 0 } else { offset.strip_prefix('-').and_then(digits).ok_or_else(unknown)? };
            let number = REAL_TIME.end().checked_sub(offset).filter(|number| REAL_TIME.contains(number));
            return number.map(Self).ok_or_else(unknown);
        }
        SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| Self(*number)).ok_or_else(unknown)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.pad(&format!("SIG{name}")),
            None => f.pad(&format!("SIGRTMIN+{}", self.0 - REAL_TIME.start())),
        }
    }
}

serde_as_text!(Signal);
