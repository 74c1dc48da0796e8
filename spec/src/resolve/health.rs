//! Health checks: Compose's forms of a test to one, and its defaults.

use super::Resolver;
use crate::desired::HealthCheck;
use crate::manifest::{self, DurationText, TextOrList};
use crate::parse::{Document, Spot};
use std::time::Duration;

/// Docker's defaults for interval and timeout.
const THIRTY_SECONDS: Duration = Duration::from_secs(30);
/// Docker's default for retries.
const RETRIES: u32 = 3;
/// Docker's least interval and timeout; anything below keeps a CPU busy with probes.
const SPAN_MIN: Duration = Duration::from_millis(1);

impl Resolver<'_> {
    pub(super) fn healthcheck(&mut self, document: &Document, written: Option<&manifest::HealthCheck>) -> Option<HealthCheck> {
        let written = written?;
        let spot = document.spec().key("healthcheck");
        let test = match &written.test {
            _ if written.disable == Some(true) => Vec::new(),
            Some(test) => self.test(test, spot.key("test"))?,
            None if spot.key("test").is_written() => return None,
            None => {
                let problem = spot.key_error("the health check has no test");
                self.report(problem.help("add test, such as [CMD, wget, -qO-, http://localhost/], or disable: true".to_owned()));
                return None;
            }
        };
        let retries = written.retries.unwrap_or(RETRIES);
        if retries == 0 {
            let problem = spot.key("retries").error("with no retries nothing is ever unhealthy");
            self.report(problem.help("write at least 1".to_owned()));
        }
        Some(HealthCheck {
            test,
            interval: self.span(written.interval, spot.key("interval")),
            timeout: self.span(written.timeout, spot.key("timeout")),
            retries,
            start_period: written.start_period.map_or(Duration::ZERO, |span| span.0),
        })
    }

    fn span(&mut self, written: Option<DurationText>, spot: Spot<'_>) -> Duration {
        let span = written.map_or(THIRTY_SECONDS, |span| span.0);
        if span < SPAN_MIN {
            self.report(spot.error("the time is too short for a probe").help("write at least 1ms".to_owned()));
        }
        span
    }

    /// The words to run; none switch the image's own check off.
    fn test(&mut self, test: &TextOrList, spot: Spot<'_>) -> Option<Vec<String>> {
        let shell = |line: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()];
        let list = match test {
            TextOrList::Text(line) => return Some(shell(line)),
            TextOrList::List(list) => list.iter().map(|word| word.0.as_str()).collect::<Vec<_>>(),
        };
        if list.iter().any(|word| word.contains('\0')) {
            self.report(spot.error("a word has a NUL byte, which no program can be given"));
        }
        let (message, help) = match list.as_slice() {
            ["NONE"] => return Some(Vec::new()),
            ["CMD", words @ ..] if !words.is_empty() => return Some(words.iter().map(|word| (*word).to_owned()).collect()),
            ["CMD-SHELL", line] => return Some(shell(line)),
            ["CMD"] => ("CMD has no program".to_owned(), "write [CMD, program, argument…]".to_owned()),
            ["CMD-SHELL", ..] => ("CMD-SHELL takes one text".to_owned(), "write [CMD-SHELL, \"a line for /bin/sh\"]".to_owned()),
            ["NONE", ..] => ("nothing may follow NONE".to_owned(), "write [NONE]".to_owned()),
            [] => ("the test is empty".to_owned(), "write [CMD, program, argument…], or disable: true".to_owned()),
            [first, ..] => {
                (format!("a test begins with CMD, CMD-SHELL or NONE, not {first:?}"), format!("write [CMD, {}]", list.join(", ")))
            }
        };
        self.report(spot.error(message).help(help));
        None
    }
}
