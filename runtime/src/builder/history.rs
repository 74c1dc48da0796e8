//! The history's lines in BuildKit's words, which people and scanners of images know. Pure.
//!
//! Where BuildKit has Go print a list or a structure, so do these.

use super::scope::Scope;
use crate::image::config::Healthcheck;
use std::fmt::Write as _;

/// The remark beside each line, by which scanners tell these words from those of other builders.
pub(super) const REMARK: &str = "buildkit.dockerfile.v0";

/// RUN, with the arguments it could see in the order of their declaration: `RUN |1 A=b /bin/sh -c make # buildkit`.
pub(super) fn run(command: &[String], scope: &Scope) -> String {
    let arguments: Vec<_> = scope.declared().map(|name| format!("{name}={}", scope.get(name).unwrap_or_default())).collect();
    let count = if arguments.is_empty() { String::new() } else { format!("|{}", arguments.len()) };
    let words: Vec<_> = [count].into_iter().filter(|count| !count.is_empty()).chain(arguments).chain(command.iter().cloned()).collect();
    layer(&format!("RUN {}", words.join(" ")))
}

/// What made a layer.
pub(super) fn layer(instruction: &str) -> String {
    format!("{instruction} # buildkit")
}

/// ENV and LABEL.
pub(super) fn pairs(verb: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(verb.to_owned(), |line, (name, value)| format!("{line} {name}={value}"))
}

/// ARG, with the values that count in this build.
pub(super) fn arguments(declared: &[(String, Option<String>)]) -> String {
    declared.iter().fold("ARG".to_owned(), |line, (name, value)| match value {
        Some(value) => format!("{line} {name}={value}"),
        None => format!("{line} {name}"),
    })
}

/// CMD and ENTRYPOINT: `CMD ["/bin/sh" "-c" "run"]`.
pub(super) fn command(verb: &str, words: &[String]) -> String {
    format!("{verb} {}", quoted_list(words))
}

/// SHELL, VOLUME and EXPOSE: `VOLUME [/a /b]`.
pub(super) fn list(verb: &str, words: &[String]) -> String {
    format!("{verb} [{}]", words.join(" "))
}

/// HEALTHCHECK: `HEALTHCHECK &{["CMD" "true"] "5s" "0s" "0s" "0s" '\x03'}`, the last being the number of retries as a character.
pub(super) fn health(check: &Healthcheck) -> String {
    let times = [check.interval, check.timeout, check.start_period, check.start_interval].map(|time| format!("{:?}", duration(time)));
    let retries = u32::try_from(check.retries).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    format!("HEALTHCHECK &{{{} {} '{}'}}", quoted_list(&check.test), times.join(" "), escaped(retries, '\''))
}

fn quoted_list(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("\"{}\"", word.chars().map(|c| escaped(c, '"')).collect::<String>())).collect();
    format!("[{}]", words.join(" "))
}

/// As Go's `%q` has it.
fn escaped(character: char, quote: char) -> String {
    match character {
        '\x07' => "\\a".to_owned(),
        '\x08' => "\\b".to_owned(),
        '\x0c' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\x0b' => "\\v".to_owned(),
        '\\' => "\\\\".to_owned(),
        _ if character == quote => format!("\\{character}"),
        _ if character.is_ascii_control() => format!("\\x{:02x}", u32::from(character)),
        ' ' => " ".to_owned(),
        _ if character.is_control() || character.is_whitespace() => format!("\\u{:04x}", u32::from(character)),
        _ => character.to_string(),
    }
}

/// Nanoseconds as Go writes them: `1h0m0s`, `1m30s`, `1.5s`, `20ms`.
fn duration(nanoseconds: i64) -> String {
    let Ok(total) = u64::try_from(nanoseconds) else { return format!("-{}", duration(nanoseconds.saturating_neg())) };
    let fraction = |total: u64, unit: u64, digits: usize| {
        let text = format!("{}.{:0digits$}", total / unit, total % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000, 6)),
        _ => {
            let minutes = total / 60_000_000_000;
            let mut text = String::new();
            if minutes >= 60 {
                let _ = write!(text, "{}h", minutes / 60);
            }
            if minutes > 0 {
                let _ = write!(text, "{}m", minutes % 60);
            }
            text + &fraction(total % 60_000_000_000, 1_000_000_000, 9) + "s"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (5_000_000_000, "5s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-5_000_000_000, "-5s"),
        ];
        for (time, expected) in cases {
            assert_eq!(duration(time), expected);
        }
    }

    #[test]
    fn lists_and_structures_as_go_prints_them() {
        let words = ["/bin/sh", "-c", "echo \"hi\"\t\u{a0}é\x01"].map(str::to_owned);
        assert_eq!(command("CMD", &words), r#"CMD ["/bin/sh" "-c" "echo \"hi\"\t\u00a0é\x01"]"#);
        assert_eq!(command("CMD", &[]), "CMD []");
        assert_eq!(list("VOLUME", &words[..2]), "VOLUME [/bin/sh -c]");
        let mut check =
            Healthcheck { test: vec!["CMD-SHELL".to_owned(), "true".to_owned()], interval: 5_000_000_000, ..Default::default() };
        assert_eq!(health(&check), r#"HEALTHCHECK &{["CMD-SHELL" "true"] "5s" "0s" "0s" "0s" '\x00'}"#);
        check.retries = 39;
        assert!(health(&check).ends_with(r"'\''}"));
    }
}
