//! Runs what a [`Queue`] says is due, some of it at a time, until told to close.

use super::{Queue, Schedule, Verdict};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Where others put keys. Cheap to clone; usable from any thread.
#[derive(Debug)]
pub struct Handle<K> {
    // Unbounded: whatever is sent is folded into the queue at once, which holds each key once.
    sender: mpsc::UnboundedSender<Message<K>>,
}

impl<K> Clone for Handle<K> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

#[derive(Debug)]
pub(super) enum Message<K> {
    Add { key: K, delay: Duration },
    Reset { key: K },
}

impl<K> Handle<K> {
    /// A handle and what belongs into [`drive`].
    pub fn new() -> (Self, Inbox<K>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, Inbox { receiver })
    }

    /// A key is to be worked on after this delay; see [`Queue::add`]. Does nothing once [`drive`] has ended.
    pub fn add(&self, key: K, delay: Duration) {
        let _ = self.sender.send(Message::Add { key, delay });
    }

    /// A key has a new purpose and is due now; see [`Queue::reset`].
    pub fn reset(&self, key: K) {
        let _ = self.sender.send(Message::Reset { key });
    }
}

/// What was put in through a [`Handle`].
#[derive(Debug)]
pub struct Inbox<K> {
    receiver: mpsc::UnboundedReceiver<Message<K>>,
}

/// Starts `work` for each key that is due, at most `at_once` keys at a time and never one key twice, until `closing` is cancelled;
/// then starts nothing more, waits for what runs, and returns. `scheduled` hears when a finished key is due again.
pub async fn drive<K, W>(
    mut inbox: Inbox<K>,
    at_once: usize,
    closing: CancellationToken,
    mut work: impl FnMut(K) -> W,
    mut scheduled: impl FnMut(&K, Schedule),
) where
    K: Ord + Clone,
    W: Future<Output = Verdict>,
{
    let mut queue = Queue::<K>::new();
    let mut running = FuturesUnordered::new();
    loop {
        while !closing.is_cancelled() && running.len() < at_once {
            let Some(key) = queue.next(Instant::now()) else { break };
            let future = work(key.clone());
            running.push(async move { (key, future.await) });
        }
        if closing.is_cancelled() && running.is_empty() {
            return;
        }
        let next = queue.next_due().filter(|_| running.len() < at_once);
        let timer = async {
            match next {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((key, verdict)) = running.next(), if !running.is_empty() => {
                let next = queue.finish(&key, verdict, Instant::now(), random());
                scheduled(&key, Schedule { next, retry: queue.retry(&key) });
            }
            Some(message) = inbox.receiver.recv() => match message {
                Message::Add { key, delay } => queue.add(key, Instant::now() + delay),
                Message::Reset { key } => queue.reset(key, Instant::now()),
            },
            () = timer, if !closing.is_cancelled() => {}
            () = closing.cancelled(), if !closing.is_cancelled() => {}
        }
    }
}

/// A number in `0.0..1.0`, good enough to spread hosts: the standard library seeds each hasher from the system.
pub(super) fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Backoff;
    use std::cell::RefCell;
    use std::rc::Rc;
    use tokio::time::sleep;

    type Log = Rc<RefCell<Vec<(u64, String)>>>;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Runs a queue for a while; each key takes `took`, and `verdict` says what comes of it. Returns when what began and ended.
    async fn run<V>(at_once: usize, took: Duration, verdict: V, script: impl AsyncFnOnce(Handle<&'static str>)) -> Vec<(u64, String)>
    where
        V: Fn(&str) -> Verdict,
    {
        let start = Instant::now();
        let log = Log::default();
        let (handle, inbox) = Handle::new();
        let closing = CancellationToken::new();
        let work = |key: &'static str| {
            let (log, verdict) = (log.clone(), &verdict);
            async move {
                log.borrow_mut().push((start.elapsed().as_secs(), format!("begin {key}")));
                sleep(took).await;
                log.borrow_mut().push((start.elapsed().as_secs(), format!("end {key}")));
                verdict(key)
            }
        };
        let script = async {
            script(handle).await;
            closing.cancel();
        };
        tokio::join!(drive(inbox, at_once, closing.clone(), work, |_, _| {}), script);
        log.take()
    }

    fn began(log: &[(u64, String)]) -> Vec<(u64, &str)> {
        log.iter().filter_map(|(at, what)| what.strip_prefix("begin ").map(|key| (*at, key))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn many_wishes_are_one_run_and_one_more_if_they_came_meanwhile() {
        let log = run(
            4,
            seconds(10),
            |_| Verdict::Done { again: None },
            async |handle| {
                (0..5).for_each(|_| handle.add("a", Duration::ZERO));
                sleep(seconds(5)).await;
                (0..5).for_each(|_| handle.add("a", Duration::ZERO));
                sleep(seconds(60)).await;
            },
        );
        assert_eq!(began(&log.await), [(0, "a"), (10, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn different_keys_run_side_by_side_up_to_the_limit() {
        let log = run(
            2,
            seconds(10),
            |_| Verdict::Done { again: None },
            async |handle| {
                ["a", "b", "c"].into_iter().for_each(|key| handle.add(key, Duration::ZERO));
                sleep(seconds(60)).await;
            },
        );
        assert_eq!(began(&log.await), [(0, "a"), (0, "b"), (10, "c")]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_comes_again_when_asked_to_and_a_hint_comes_between() {
        let log = run(
            1,
            seconds(0),
            |_| Verdict::Done { again: Some(seconds(30)) },
            async |handle| {
                handle.add("a", Duration::ZERO);
                sleep(seconds(70)).await;
                handle.add("a", seconds(1));
                sleep(seconds(32)).await;
            },
        );
        assert_eq!(began(&log.await), [(0, "a"), (30, "a"), (60, "a"), (71, "a"), (101, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_a_reset_starts_over() {
        let backoff = Backoff { base: seconds(10), cap: seconds(40), floor: seconds(10) };
        let log = run(
            1,
            seconds(0),
            |_| Verdict::Failed { backoff },
            async |handle| {
                handle.add("a", Duration::ZERO);
                sleep(seconds(100)).await;
                handle.reset("a");
                sleep(seconds(1)).await;
            },
        )
        .await;
        let times: Vec<u64> = began(&log).into_iter().map(|(at, _)| at).collect();
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!((8..=10).contains(&gaps[0]) && (16..=20).contains(&gaps[1]) && (32..=40).contains(&gaps[2]), "{gaps:?}");
        assert_eq!(times.last(), Some(&100), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_what_runs_and_starts_nothing_more() {
        let log = run(
            1,
            seconds(10),
            |_| Verdict::Done { again: Some(Duration::ZERO) },
            async |handle| {
                handle.add("a", Duration::ZERO);
                handle.add("b", Duration::ZERO);
                sleep(seconds(5)).await;
            },
        );
        assert_eq!(log.await, [(0, "begin a".to_owned()), (10, "end a".to_owned())]);
    }
}
