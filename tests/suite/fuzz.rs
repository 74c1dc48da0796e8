//! The fuzz entries on stable: every seed, and a few thousand mutations of them that are the same on every machine.

#[path = "../fuzz/entries.rs"]
mod entries;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Mutations of each entry, so that all of it stays within two seconds: a layer costs a directory, a pattern a regular expression.
const MUTATIONS: [(&str, usize); 8] = [
    ("dockerfile", 600),
    ("words", 1_500),
    ("dockerignore", 200),
    ("reference", 1_500),
    ("manifest", 1_000),
    ("layer", 80),
    ("site", 300),
    ("registry", 500),
];
/// Bytes a mutated input may have.
const INPUT_BYTES_MAX: usize = 8 << 10;
/// What grammars turn on.
const TOKENS: [&str; 24] = [
    "$",
    "${",
    "}",
    "\"",
    "'",
    "\\",
    "`",
    "\n",
    "\\\n",
    "#",
    "<<EOF",
    "<<-'E'",
    "[\"",
    "*",
    "**",
    "!",
    "../",
    "/",
    ":",
    "@sha256:",
    "\u{feff}",
    "\u{e4}",
    "\r\n",
    "- {a: &x [*x]}",
];

#[test]
fn no_input_panics_or_leaves_its_root() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, entry) in entries::ENTRIES {
        let seeds = read_seeds(&seeds.join(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (_, mutations) = MUTATIONS.into_iter().find(|(known, _)| *known == name).expect("every entry has its share");
        let mutated = (0..mutations).map(|_| mutate(&seeds, &mut random)).collect::<Vec<_>>();
        let since = std::time::Instant::now();
        for input in seeds.iter().chain(&mutated) {
            if catch_unwind(AssertUnwindSafe(|| entry(input))).is_err() {
                panic!("{name}: {}", String::from_utf8_lossy(input).escape_debug());
            }
        }
        crate::measure(&format!("fuzz {name}"), since);
    }
}

/// In the order of their names, so that a failure comes again.
fn read_seeds(directory: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(directory).expect("seeds").map(|entry| entry.expect("a seed").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit.max(1) as u64).expect("below a usize")
    }
}

/// A seed with one to four changes: bytes, tokens, parts of itself and of other seeds.
fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let to = at + random.below(input.len() - at + 1).min(512);
        match random.below(7) {
            0 => drop(input.drain(at..to)),
            1 if at < input.len() => input[at] = u8::try_from(random.below(256)).expect("a byte"),
            1 | 2 => drop(input.splice(at..at, TOKENS[random.below(TOKENS.len())].bytes())),
            3 => drop(input.splice(at..to, TOKENS[random.below(TOKENS.len())].bytes())),
            4 => {
                let part = input[at..to].to_vec();
                let again = random.below(input.len() + 1);
                input.splice(again..again, part);
            }
            5 if at < input.len() => input[at] ^= 1 << random.below(8),
            5 | 6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let part = other[from..(from + random.below(256)).min(other.len())].to_vec();
                input.splice(at..at, part);
            }
            _ => unreachable!("below seven"),
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}
