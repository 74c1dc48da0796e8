//! What is to be done next: a set of keys, each with the moment it is due. Pure: time and chance come in as arguments.
//!
//! - A key is here once, however often it is added; the earlier moment wins.
//! - A key that runs is not started again; what is added meanwhile waits for its end.
//! - A failure puts its key off, longer each time. A success forgets the failures, and so does [`Queue::reset`]. What is done in
//!   between, for a hint's sake, changes nothing about when it is tried again.
//!
//! The manner is that of kube-runtime's scheduler and of the work queues of Kubernetes controllers.

use super::Backoff;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Keys and when they are due.
#[derive(Debug)]
pub struct Queue<K> {
    entries: BTreeMap<K, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    due: Option<Instant>,
    running: bool,
    failures: u32,
    /// After a failure: when it is tried again.
    retry: Option<Instant>,
    /// After a failure: hints are not followed before.
    not_before: Option<Instant>,
    /// It was reset while it ran: how that run ends says nothing about the new purpose.
    renewed: bool,
}

/// What came of working on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done; look again after this long, if at all.
    Done {
        /// From now.
        again: Option<Duration>,
    },
    /// It failed; try again by this policy.
    Failed {
        /// The policy.
        backoff: Backoff,
    },
    /// What failed was not tried again, since it is not its time: that stays when it was.
    PutOff {
        /// Look again after this long, if that is sooner.
        again: Option<Duration>,
    },
}

/// When a key that was worked on is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule {
    /// Next, whatever for.
    pub next: Option<Instant>,
    /// To try again what failed; `None` if nothing did.
    pub retry: Option<Instant>,
}

impl<K: Ord + Clone> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// A key is to be worked on at this moment, or earlier if it already waits for an earlier one; later if it has just failed.
    pub fn add(&mut self, key: K, due: Instant) {
        let entry = self.entries.entry(key).or_default();
        let due = entry.not_before.map_or(due, |not_before| due.max(not_before));
        entry.due = Some(entry.due.map_or(due, |waiting| waiting.min(due)));
    }

    /// A key has a new purpose: its failures are forgotten and it is due now.
    pub fn reset(&mut self, key: K, now: Instant) {
        let entry = self.entries.entry(key).or_default();
        (entry.failures, entry.retry, entry.not_before, entry.due) = (0, None, None, Some(now));
        entry.renewed = entry.running;
    }

    /// Takes the key that has been due for longest, if one is due and does not run already. It runs until [`Queue::finish`].
    pub fn next(&mut self, now: Instant) -> Option<K> {
        let (key, _) = self.waiting().filter(|(_, due)| *due <= now).min_by_key(|(_, due)| *due)?;
        let key = key.clone();
        let entry = self.entries.entry(key.clone()).or_default();
        (entry.running, entry.due) = (true, None);
        Some(key)
    }

    /// When the next key is due that could be started.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting().map(|(_, due)| due).min()
    }

    /// A key has been worked on. Returns when it is due again. `random` is in `0.0..1.0`.
    pub fn finish(&mut self, key: &K, verdict: Verdict, now: Instant, random: f64) -> Option<Instant> {
        let entry = self.entries.get_mut(key)?;
        entry.running = false;
        let again = match verdict {
            _ if std::mem::take(&mut entry.renewed) => None,
            Verdict::Done { again } => {
                (entry.failures, entry.retry, entry.not_before) = (0, None, None);
                again.map(|delay| now + delay)
            }
            Verdict::Failed { backoff } => {
                entry.failures = entry.failures.saturating_add(1);
                let delay = backoff.delay(entry.failures, random);
                let not_before = now + delay.min(backoff.floor);
                entry.not_before = Some(not_before);
                entry.due = entry.due.map(|due| due.max(not_before));
                entry.retry = Some(now + delay);
                entry.retry
            }
            Verdict::PutOff { again } => again.map(|delay| now + delay).into_iter().chain(entry.retry).min(),
        };
        entry.due = [entry.due, again].into_iter().flatten().min();
        let due = entry.due;
        if due.is_none() && entry.failures == 0 {
            self.entries.remove(key);
        }
        due
    }

    /// When a key is tried again that failed last.
    pub fn retry(&self, key: &K) -> Option<Instant> {
        self.entries.get(key)?.retry
    }

    fn waiting(&self) -> impl Iterator<Item = (&K, Instant)> {
        self.entries.iter().filter(|(_, entry)| !entry.running).filter_map(|(key, entry)| entry.due.map(|due| (key, due)))
    }
}

impl<K: Ord + Clone> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(60), floor: Duration::from_secs(5) };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_key_is_here_once_and_the_earlier_moment_wins() {
        let start = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", start + seconds(9));
        queue.add("a", start + seconds(3));
        queue.add("a", start + seconds(6));
        assert_eq!(queue.next_due(), Some(start + seconds(3)));
        assert_eq!(queue.next(start + seconds(2)), None);
        assert_eq!(queue.next(start + seconds(3)), Some("a"));
        assert_eq!(queue.next(start + seconds(99)), None);
    }

    #[test]
    fn a_running_key_is_not_started_again_and_what_came_meanwhile_is_not_lost() {
        let start = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", start);
        assert_eq!(queue.next(start), Some("a"));
        queue.add("a", start);
        queue.add("b", start + seconds(1));
        assert_eq!(queue.next(start + seconds(1)), Some("b"));
        assert_eq!(queue.next(start + seconds(1)), None);
        queue.finish(&"a", Verdict::Done { again: Some(seconds(30)) }, start + seconds(2), 0.0);
        assert_eq!(queue.next(start + seconds(2)), Some("a"));
    }

    #[test]
    fn failures_put_off_and_success_forgets_them() {
        let start = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", start);
        let fail = |queue: &mut Queue<&str>, verdict| {
            let now = queue.next_due().unwrap();
            assert_eq!(queue.next(now), Some("a"));
            queue.finish(&"a", verdict, now, 1.0).map(|due| (due - now).as_secs())
        };
        let failed = Verdict::Failed { backoff: BACKOFF };
        assert_eq!([1, 2, 3, 4, 5].map(|_| fail(&mut queue, failed)), [10, 20, 40, 60, 60].map(Some));
        assert_eq!(fail(&mut queue, Verdict::Done { again: Some(seconds(1)) }), Some(1));
        assert_eq!(fail(&mut queue, failed), Some(10));
    }

    #[test]
    fn after_a_failure_hints_wait_for_the_floor_and_a_reset_does_not() {
        let start = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", start);
        queue.next(start);
        queue.add("a", start);
        assert_eq!(queue.finish(&"a", Verdict::Failed { backoff: BACKOFF }, start, 1.0), Some(start + seconds(5)));
        queue.add("a", start + seconds(1));
        assert_eq!(queue.next_due(), Some(start + seconds(5)));
        queue.reset("a", start + seconds(1));
        assert_eq!(queue.next(start + seconds(1)), Some("a"));
        assert_eq!(queue.finish(&"a", Verdict::Failed { backoff: BACKOFF }, start, 1.0), Some(start + seconds(10)));
    }

    #[test]
    fn looking_in_between_does_not_change_when_it_is_tried_again() {
        let start = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", start);
        queue.next(start);
        queue.finish(&"a", Verdict::Failed { backoff: BACKOFF }, start, 1.0);
        assert_eq!(queue.retry(&"a"), Some(start + seconds(10)));
        for (at, again, due) in [(5, None, 10), (6, Some(seconds(1)), 7), (7, Some(seconds(9)), 10)] {
            queue.add("a", start + seconds(at));
            assert_eq!(queue.next(start + seconds(at)), Some("a"));
            assert_eq!(queue.finish(&"a", Verdict::PutOff { again }, start + seconds(at), 1.0), Some(start + seconds(due)));
        }
        assert_eq!(queue.next(start + seconds(10)), Some("a"));
        assert_eq!(queue.finish(&"a", Verdict::Failed { backoff: BACKOFF }, start + seconds(10), 1.0), Some(start + seconds(30)));
        queue.reset("a", start + seconds(11));
        assert_eq!(queue.retry(&"a"), None);
    }

    #[test]
    fn a_failure_of_the_old_purpose_does_not_put_off_the_new_one() {
        let start = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", start);
        queue.next(start);
        queue.reset("a", start);
        assert_eq!(queue.finish(&"a", Verdict::Failed { backoff: BACKOFF }, start, 1.0), Some(start));
        assert_eq!(queue.next(start), Some("a"));
    }

    #[derive(Debug, Clone)]
    enum Move {
        Add(u8, u64),
        Reset(u8),
        Start,
        Succeed(u8),
        Fail(u8),
        Wait(u64),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let key = 0u8..3;
        let one = prop_oneof![
            (key.clone(), 0u64..100).prop_map(|(key, delay)| Move::Add(key, delay)),
            key.clone().prop_map(Move::Reset),
            Just(Move::Start),
            key.clone().prop_map(Move::Succeed),
            key.prop_map(Move::Fail),
            (0u64..50).prop_map(Move::Wait),
        ];
        proptest::collection::vec(one, 0..60)
    }

    proptest! {
        /// Whatever happens: no key runs twice at a time, nothing starts before it is due, and nothing that was added is lost.
        #[test]
        fn whatever_happens_keys_run_one_at_a_time_and_none_is_lost(moves in moves()) {
            let mut now = Instant::now();
            let mut queue = Queue::new();
            let mut running = std::collections::BTreeSet::new();
            let mut wanted = std::collections::BTreeSet::new();
            for step in moves {
                match step {
                    Move::Add(key, delay) => { queue.add(key, now + seconds(delay)); wanted.insert(key); }
                    Move::Reset(key) => { queue.reset(key, now); wanted.insert(key); }
                    Move::Start => {
                        let due = queue.next_due();
                        if let Some(key) = queue.next(now) {
                            prop_assert!(due.is_some_and(|due| due <= now));
                            prop_assert!(running.insert(key), "key {} runs twice", key);
                            wanted.remove(&key);
                        }
                    }
                    Move::Succeed(key) if running.remove(&key) => { queue.finish(&key, Verdict::Done { again: None }, now, 0.5); }
                    Move::Fail(key) if running.remove(&key) => {
                        queue.finish(&key, Verdict::Failed { backoff: BACKOFF }, now, 0.5);
                        wanted.insert(key);
                    }
                    Move::Succeed(_) | Move::Fail(_) => {}
                    Move::Wait(delay) => now += seconds(delay),
                }
            }
            for key in std::mem::take(&mut running) {
                queue.finish(&key, Verdict::Done { again: None }, now, 0.5);
            }
            now += seconds(1000);
            let mut drained = std::collections::BTreeSet::new();
            while let Some(key) = queue.next(now) {
                drained.insert(key);
            }
            prop_assert_eq!(drained, wanted);
        }
    }
}
