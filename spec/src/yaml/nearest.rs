//! The known word that a mistyped one was probably meant to be.

/// Longest word compared: the cost grows with the square, and no field name of ours is longer.
const WORD_BYTES_MAX: usize = 64;

/// The known word nearest to this one, if one is near enough to be worth naming: equal but for case, `-` and `_`,
/// or at most a third of its letters changed, dropped, added or swapped with their neighbour.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let plain = squash(word);
    let scored = known.into_iter().filter(|candidate| candidate.len() <= WORD_BYTES_MAX).map(|candidate| {
        let target = squash(candidate);
        (distance(&plain, &target), plain.len().max(target.len()), candidate)
    });
    let near = scored.filter(|(distance, length, _)| *distance * 3 <= *length);
    near.min_by_key(|(distance, _, candidate)| (*distance, *candidate)).map(|(_, _, candidate)| candidate)
}

/// Lower case without separators, so that `depends_on` is `dependsOn`.
fn squash(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ' | '.')).flat_map(char::to_lowercase).collect()
}

/// Optimal string alignment distance: insertions, deletions, changes, and swaps of neighbours, one each.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (previous[j] + 1).min(row[j - 1] + 1).min(previous[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 6] = ["image", "env", "dependsOn", "volumes", "networks", "healthcheck"];

    #[test]
    fn a_slip_of_the_finger_is_forgiven() {
        assert_eq!(nearest("imgae", FIELDS), Some("image"));
        assert_eq!(nearest("volume", FIELDS), Some("volumes"));
        assert_eq!(nearest("helthchek", FIELDS), Some("healthcheck"));
    }

    #[test]
    fn other_spellings_of_the_same_word_are_equal() {
        assert_eq!(nearest("depends_on", FIELDS), Some("dependsOn"));
        assert_eq!(nearest("DEPENDS-ON", FIELDS), Some("dependsOn"));
    }

    #[test]
    fn a_different_word_has_no_neighbour() {
        assert_eq!(nearest("privileged", FIELDS), None);
        assert_eq!(nearest("e", FIELDS), None);
        assert_eq!(nearest("", FIELDS), None);
        assert_eq!(nearest(&"x".repeat(10_000), FIELDS), None);
    }
}
