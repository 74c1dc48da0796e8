//! A list of problems that does not grow without end.

use super::{Diagnostic, Severity, sort};

/// Most problems of a site that are kept: nobody reads more, and a hostile file could have millions.
const PROBLEMS_MAX: usize = 1_000;

/// Problems in the order they were found.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Diagnostic>,
    /// How many more there were.
    dropped: usize,
    has_error: bool,
}

impl Problems {
    /// Notes a problem, unless the same one has been noted just before or there are too many.
    pub(crate) fn push(&mut self, problem: Diagnostic) {
        self.has_error |= problem.severity == Severity::Error;
        if self.kept.len() < PROBLEMS_MAX {
            self.kept.push(problem);
        } else {
            self.dropped += 1;
        }
    }

    pub(crate) fn append(&mut self, more: Self) {
        self.has_error |= more.has_error;
        self.dropped += more.dropped;
        more.kept.into_iter().for_each(|problem| self.push(problem));
    }

    /// Whether nothing more will be kept: a reader may stop looking.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= PROBLEMS_MAX
    }

    /// Whether any of them refuses the site.
    pub(crate) fn has_error(&self) -> bool {
        self.has_error
    }

    /// In the order in which they are shown; the last one says how many are not.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        sort(&mut self.kept);
        if let Some(last) = self.kept.last_mut().filter(|_| self.dropped > 0) {
            last.notes.push(format!("{} more problems are not shown", self.dropped));
        }
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_problems_are_enough() {
        let mut problems = Problems::default();
        for n in 0..PROBLEMS_MAX + 5 {
            problems.push(Diagnostic::file("a.yaml", format!("problem {n:05}")));
        }
        assert!(problems.is_full() && problems.has_error());
        let sorted = problems.into_sorted();
        assert_eq!(sorted.len(), PROBLEMS_MAX);
        assert_eq!(sorted[PROBLEMS_MAX - 1].notes, ["5 more problems are not shown"]);
    }

    #[test]
    fn a_warning_refuses_nothing() {
        let mut problems = Problems::default();
        let place = Diagnostic::file("a.yaml", "").place;
        problems.push(Diagnostic::warning(place, "hm"));
        assert!(!problems.has_error());
    }
}
