//! A deadline of a transfer, carried by everything that waits for the other side.

use std::time::{Duration, Instant};

/// The moment at which a transfer is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimit {
    end: Instant,
    /// The whole span, for messages.
    pub(super) span: Duration,
}

impl TimeLimit {
    /// Begins now.
    pub(super) fn of(span: Duration) -> Self {
        Self { end: Instant::now() + span, span }
    }

    /// What is left; zero when it is over.
    pub(super) fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Whether it is over.
    pub(super) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}
