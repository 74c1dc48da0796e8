//! Whether and when a container that ended is started again. Pure: no I/O, no clock.
//!
//! The delays are Docker's (moby, `restartmanager.go`): 100 ms, doubled each time, at most 60 s, forgotten after 10 s of life.

use crate::container::state::{Exit, ExitCause};
use spec::value::RestartPolicy;
use std::time::Duration;

const DELAY_FIRST: Duration = Duration::from_millis(100);
/// The longest delay.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// A process that lived this long was well; what follows is a new trouble.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// How often in a row the container was restarted, and so how long the next restart is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    in_a_row: u32,
}

/// What happens to a container that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is started again after this delay.
    Again {
        /// How long to wait first.
        after: Duration,
    },
    /// It stays down.
    Stay,
}

impl Backoff {
    /// As it would be after so many restarts: what a new shim knows of its predecessor.
    pub fn resumed(restarts: u32) -> Self {
        Self { in_a_row: restarts }
    }

    /// Decides about one exit, and remembers it. A start that failed counts as an exit after no life at all.
    pub fn decide(&mut self, policy: RestartPolicy, exit: &Exit, lived: Duration) -> Verdict {
        if lived >= HEALTHY_AFTER {
            self.in_a_row = 0;
        }
        let again = match policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => exit.cause != ExitCause::Requested,
            RestartPolicy::OnFailure { max_retries } => {
                exit.cause != ExitCause::Requested && exit.code != 0 && max_retries.is_none_or(|max| self.in_a_row < max)
            }
        };
        if !again {
            return Verdict::Stay;
        }
        let after = DELAY_FIRST.saturating_mul(1u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX)).min(DELAY_MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Verdict::Again { after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::state::Timestamp;

    fn exit(code: i32, cause: ExitCause) -> Exit {
        Exit { code, cause, started: Timestamp(0), finished: Timestamp(0) }
    }

    fn delays(policy: RestartPolicy, exit: &Exit, times: usize) -> Vec<Option<u128>> {
        let mut backoff = Backoff::default();
        let mut decide = || match backoff.decide(policy, exit, Duration::ZERO) {
            Verdict::Again { after } => Some(after.as_millis()),
            Verdict::Stay => None,
        };
        (0..times).map(|_| decide()).collect()
    }

    #[test]
    fn delays_double_up_to_a_minute() {
        let delays = delays(RestartPolicy::Always, &exit(0, ExitCause::Own), 40);
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(delays[..12], expected.map(Some));
        assert_eq!(delays[39], Some(60_000));
    }

    #[test]
    fn ten_seconds_of_life_forget_the_delay() {
        let mut backoff = Backoff::resumed(7);
        let ended = exit(1, ExitCause::Own);
        assert_eq!(backoff.decide(RestartPolicy::Always, &ended, HEALTHY_AFTER), Verdict::Again { after: DELAY_FIRST });
    }

    #[test]
    fn on_failure_counts_and_minds_the_exit_code() {
        let policy = RestartPolicy::OnFailure { max_retries: Some(2) };
        assert_eq!(delays(policy, &exit(1, ExitCause::Own), 4), [Some(100), Some(200), None, None]);
        assert_eq!(delays(policy, &exit(0, ExitCause::Own), 1), [None]);
    }

    #[test]
    fn a_requested_stop_lasts_under_every_policy() {
        for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped, RestartPolicy::OnFailure { max_retries: None }] {
            assert_eq!(delays(policy, &exit(143, ExitCause::Requested), 1), [None]);
        }
    }

    #[test]
    fn memory_killer_and_unknown_ends_are_restarted() {
        for cause in [ExitCause::OutOfMemory, ExitCause::Unknown, ExitCause::StartFailed { reason: "x".to_owned() }] {
            assert_eq!(delays(RestartPolicy::OnFailure { max_retries: None }, &exit(137, cause), 1), [Some(100)]);
        }
    }
}
