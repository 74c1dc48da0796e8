//! Go's `filepath.Match`, which decides what a wildcard of COPY and ADD names. Pure, on bytes.

/// Whether the whole path matches: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` are classes, `\` takes the next character as it is.
/// A malformed pattern matches nothing.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let path: Vec<char> = path.chars().collect();
    matches_from(&pattern, &path)
}

/// Whether a pattern has anything that is not a plain character.
pub(crate) fn has_wildcard(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether all classes of a pattern end and its last `\` has a character after it.
pub(crate) fn is_well_formed(pattern: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut rest = pattern.as_slice();
    loop {
        rest = match rest {
            [] => return true,
            ['\\'] => return false,
            ['\\', _, rest @ ..] => rest,
            ['[', class @ ..] => match match_class(class, '\0') {
                Some((length, _)) => &class[length..],
                None => return false,
            },
            [_, rest @ ..] => rest,
        };
    }
}

/// Iterative with one point to come back to: the last `*`. A `*` never needs an earlier one reconsidered.
fn matches_from(pattern: &[char], path: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == path.len() => return true,
            None => None,
            Some(_) => match_one(&pattern[p..], path.get(t).copied()),
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            // Let the last star take one character more, if it may.
            (None, Some((after, from))) if path.get(from).is_some_and(|c| *c != '/') => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, Some(_) | None) => return false,
        }
    }
}

/// Length of the pattern's first element if it matches the character.
fn match_one(pattern: &[char], c: Option<char>) -> Option<usize> {
    let c = c?;
    match pattern {
        ['?', ..] => (c != '/').then_some(1),
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        ['[', class @ ..] => match_class(class, c).filter(|(_, found)| *found).map(|(length, _)| length + 1),
        [plain, ..] => (*plain == c && c != '\\').then_some(1),
        [] => None,
    }
}

/// Length of a class after its `[`, with the `]`, and whether the character is in it. `None` if it is malformed.
fn match_class(class: &[char], c: char) -> Option<(usize, bool)> {
    let negated = class.first() == Some(&'^');
    let mut at = usize::from(negated);
    let mut found = false;
    let mut ranges = 0;
    loop {
        if class.get(at) == Some(&']') && ranges > 0 {
            return Some((at + 1, found != negated));
        }
        let (low, next) = class_char(class, at)?;
        let (high, next) = if class.get(next) == Some(&'-') { class_char(class, next + 1)? } else { (low, next) };
        found |= (low..=high).contains(&c);
        at = next;
        ranges += 1;
    }
}

/// One character of a class and where the next one begins.
fn class_char(class: &[char], at: usize) -> Option<(char, usize)> {
    match class.get(at)? {
        '-' | ']' => None,
        '\\' => class.get(at + 1).map(|c| (*c, at + 2)),
        c => Some((*c, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("[-]", "-", false),
            ("[]a]", "]", false),
            ("[", "a", false),
            ("[^bc", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("[[]x", "[x", true),
            ("", "", true),
            ("", "a", false),
            ("[!a]", "!", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
            let malformed = ["[-]", "[]a]", "[", "[^bc", "a["].contains(&pattern);
            assert_eq!(is_well_formed(pattern), !malformed, "{pattern}");
        }
        assert!(!is_well_formed("*\\"));
        assert!(has_wildcard("a/*.txt") && has_wildcard("[[]x") && !has_wildcard("a\\*b") && !has_wildcard("a"));
    }
}
