//! The keys that let go of a container and leave it running, in Docker's words: `ctrl-p,ctrl-q`. Pure: no I/O.

use std::str::FromStr;

/// Keys to be typed one after the other; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// Not keys: why, and what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} is no key: write a character, or ctrl- and one of a-z @ [ \\ ] ^ _, such as ctrl-p,ctrl-q")]
pub struct KeyError {
    key: String,
}

impl Default for DetachKeys {
    /// Docker's.
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = KeyError;

    /// Reads `ctrl-p,ctrl-q`, `a,b`, `ctrl-@,x`.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.split(',').map(byte_of).collect::<Result<_, _>>().map(Self)
    }
}

fn byte_of(key: &str) -> Result<u8, KeyError> {
    let wrong = || KeyError { key: key.to_owned() };
    match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([byte], _) if byte.is_ascii() => Ok(*byte),
        // What a terminal sends: the character's code without its upper bits, ascii(7).
        (_, Some([byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'['..=b'_')])) => Ok(byte & 0x1f),
        _ => Err(wrong()),
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub struct Watch<'a> {
    keys: &'a [u8],
    /// How many of them were typed just now and are held back.
    held: usize,
}

/// What comes of some typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// These go to the container; the start of the keys may be held back.
    On(Vec<u8>),
    /// The keys were typed; these came before them.
    Away(Vec<u8>),
}

impl DetachKeys {
    /// Begins to look.
    pub fn watch(&self) -> Watch<'_> {
        Watch { keys: &self.0, held: 0 }
    }
}

impl Watch<'_> {
    /// Takes what was typed. What is held back goes out with the first byte that does not belong to the keys.
    pub fn take(&mut self, typed: &[u8]) -> Typed {
        let mut on = Vec::with_capacity(self.held + typed.len());
        for byte in typed {
            while self.held > 0 && self.keys[self.held] != *byte {
                self.let_go_of_one(&mut on);
            }
            if self.keys[self.held] != *byte {
                on.push(*byte);
                continue;
            }
            self.held += 1;
            if self.held == self.keys.len() {
                self.held = 0;
                return Typed::Away(on);
            }
        }
        Typed::On(on)
    }

    /// Gives up the oldest held bytes until the rest is a start of the keys again.
    fn let_go_of_one(&mut self, on: &mut Vec<u8>) {
        let held = &self.keys[..self.held];
        let kept = (0..self.held).rev().find(|kept| held.ends_with(&self.keys[..*kept])).unwrap_or(0);
        on.extend_from_slice(&held[..self.held - kept]);
        self.held = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes on, and `|` where the keys were typed.
    fn typed(keys: &str, pieces: &[&str]) -> String {
        let keys: DetachKeys = keys.parse().expect("keys");
        let mut watch = keys.watch();
        let mut seen = String::new();
        for piece in pieces {
            let (bytes, mark) = match watch.take(piece.as_bytes()) {
                Typed::On(bytes) => (bytes, ""),
                Typed::Away(bytes) => (bytes, "|"),
            };
            seen.push_str(&String::from_utf8(bytes).expect("text"));
            seen.push_str(mark);
        }
        seen
    }

    #[test]
    fn docker_s_words_are_read() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        assert_eq!("a,ctrl-@,ctrl-[,ctrl-\\".parse(), Ok(DetachKeys(vec![b'a', 0, 0x1b, 0x1c])));
        for wrong in ["", "ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-p ctrl-q", "é"] {
            assert!(wrong.parse::<DetachKeys>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_found_wherever_reads_divide_them() {
        assert_eq!(typed("a,b", &["xab"]), "x|");
        assert_eq!(typed("a,b", &["xa", "b"]), "x|");
        assert_eq!(typed("q", &["q"]), "|");
    }

    #[test]
    fn what_was_held_back_goes_on_with_what_follows() {
        assert_eq!(typed("a,b", &["a"]), "");
        assert_eq!(typed("a,b", &["a", "c"]), "ac");
        assert_eq!(typed("a,b", &["aab"]), "a|");
        assert_eq!(typed("a,a,b", &["aaab"]), "a|");
        assert_eq!(typed("a,b,a,c", &["ababac"]), "ab|");
    }
}
