//! Which stage is built when: stages that do not need each other side by side, each once.
//!
//! Workers take the first stage in the file's order whose base is done; a stage then waits for others only where a step needs them.
//! Nobody waits in vain: whoever needs a stage that nobody has begun builds stages that are ready until somebody has. The first
//! failure stops all: nothing new begins, and what waits or runs a command is told.

use super::error::{BuildError, StepError};
use super::state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The stages of one build and what has become of them.
pub(super) struct Schedule {
    board: Mutex<Board>,
    changed: Condvar,
}

/// Builds a stage by its number.
pub(super) type Builder<'a> = dyn Fn(usize) -> Result<State, BuildError> + 'a;

#[derive(Default)]
struct Board {
    /// Stages that nobody has begun, with the stage each begins with.
    open: BTreeMap<usize, Option<usize>>,
    /// Stages somebody is building.
    begun: BTreeSet<usize>,
    done: BTreeMap<usize, Arc<State>>,
    /// By stage: of several failures the one that stands first in the file is told.
    failures: BTreeMap<usize, BuildError>,
    stopped: bool,
    /// How to end commands that are running.
    running: BTreeMap<u64, Stop>,
    count: u64,
}

type Stop = Box<dyn Fn() + Send>;

/// A command that ends when the build stops, for as long as this lives.
pub(super) struct Running<'a> {
    schedule: &'a Schedule,
    number: u64,
}

impl Schedule {
    /// With nothing to do.
    pub(super) fn new() -> Self {
        Self { board: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds stages that are needed, with the stage each begins with. Those it has are left alone.
    pub(super) fn add(&self, stages: impl IntoIterator<Item = (usize, Option<usize>)>) {
        let mut board = self.board();
        for (stage, base) in stages {
            if !board.begun.contains(&stage) && !board.done.contains_key(&stage) {
                board.open.insert(stage, base);
            }
        }
        self.changed.notify_all();
    }

    /// Builds stages until none is left to begin, or all is stopped.
    pub(super) fn work(&self, build: &Builder<'_>) {
        let mut board = self.board();
        while !board.stopped && !board.open.is_empty() {
            board = match board.take_ready(usize::MAX) {
                Some(stage) => self.build(stage, board, build),
                None => self.wait(board),
            };
        }
    }

    /// A stage that is needed, as soon as it is done.
    pub(super) fn need(&self, stage: usize, build: &Builder<'_>) -> Result<Arc<State>, StepError> {
        let mut board = self.board();
        loop {
            if board.stopped {
                return Err(StepError::Stopped);
            }
            if let Some(done) = board.done.get(&stage) {
                return Ok(done.clone());
            }
            // Never a later one: it might need the stage that is waiting here.
            let ready = if board.open.contains_key(&stage) { board.take_ready(stage) } else { None };
            board = match ready {
                Some(ready) => self.build(ready, board, build),
                None => self.wait(board),
            };
        }
    }

    /// A stage that is done, if it is.
    pub(super) fn done(&self, stage: usize) -> Option<Arc<State>> {
        self.board().done.get(&stage).cloned()
    }

    /// The failure that stopped all, if one did; of several the first in the file.
    pub(super) fn failure(&self) -> Option<BuildError> {
        self.board().failures.pop_first().map(|(_, error)| error)
    }

    /// Whether this stage, which is being built, is the last one.
    pub(super) fn is_last(&self, stage: usize) -> bool {
        let board = self.board();
        board.open.is_empty() && board.begun.iter().all(|begun| *begun == stage)
    }

    /// Whether nothing more is wanted.
    pub(super) fn is_stopped(&self) -> bool {
        self.board().stopped
    }

    /// Notes a command that has begun and how to end it. If all is stopped already it is ended at once.
    pub(super) fn running(&self, stop: impl Fn() + Send + 'static) -> Running<'_> {
        let mut board = self.board();
        if board.stopped {
            stop();
        }
        board.count += 1;
        let number = board.count;
        board.running.insert(number, Box::new(stop));
        Running { schedule: self, number }
    }

    /// Builds one that was taken, the board free meanwhile.
    fn build<'a>(&'a self, stage: usize, board: MutexGuard<'a, Board>, build: &Builder<'_>) -> MutexGuard<'a, Board> {
        drop(board);
        // If the builder panics the others must not wait for it.
        let unfinished = Unfinished(self);
        let built = build(stage);
        std::mem::forget(unfinished);
        let mut board = self.board();
        board.begun.remove(&stage);
        match built {
            Ok(state) => drop(board.done.insert(stage, Arc::new(state))),
            Err(error) => {
                if !error.is_stopped() {
                    board.failures.insert(stage, error);
                }
                board.stop();
            }
        }
        self.changed.notify_all();
        board
    }

    fn wait<'a>(&self, board: MutexGuard<'a, Board>) -> MutexGuard<'a, Board> {
        self.changed.wait(board).unwrap_or_else(PoisonError::into_inner)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Every change of the board is whole before the lock is given up.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// Begins the first stage up to `last` whose base is done.
    fn take_ready(&mut self, last: usize) -> Option<usize> {
        let ready = self.open.range(..=last).find(|(_, base)| base.is_none_or(|base| self.done.contains_key(&base)));
        let stage = *ready?.0;
        self.open.remove(&stage);
        self.begun.insert(stage);
        Some(stage)
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.running.values().for_each(|stop| stop());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.schedule.board().running.remove(&self.number);
    }
}

struct Unfinished<'a>(&'a Schedule);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.board().stop();
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Builds stages in `workers` threads; which stages each stage needs stands beside its base.
    fn run(stages: &[(Option<usize>, &[usize])], workers: usize, build: &(dyn Fn(usize) -> Result<(), BuildError> + Sync)) -> Schedule {
        let schedule = Schedule::new();
        schedule.add(stages.iter().enumerate().map(|(stage, (base, _))| (stage, *base)));
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| worker(&schedule, stages, build));
            }
        });
        schedule
    }

    fn worker(schedule: &Schedule, stages: &[(Option<usize>, &[usize])], build: &dyn Fn(usize) -> Result<(), BuildError>) {
        fn one(
            schedule: &Schedule,
            stages: &[(Option<usize>, &[usize])],
            build: &dyn Fn(usize) -> Result<(), BuildError>,
            stage: usize,
        ) -> Result<State, BuildError> {
            for needed in stages[stage].1 {
                let help = |other: usize| one(schedule, stages, build, other);
                schedule.need(*needed, &help).map_err(|_| BuildError::Stopped)?;
            }
            build(stage).map(|()| State::scratch())
        }
        schedule.work(&|stage| one(schedule, stages, build, stage));
    }

    #[test]
    fn every_stage_is_built_once_after_what_it_needs() {
        let stages: &[(Option<usize>, &[usize])] =
            &[(None, &[]), (Some(0), &[]), (None, &[1]), (Some(2), &[0, 1]), (None, &[]), (Some(4), &[3])];
        for workers in 1..5 {
            let order = Mutex::new(Vec::new());
            let schedule = run(stages, workers, &|stage| {
                order.lock().unwrap().push(stage);
                Ok(())
            });
            let order = order.into_inner().unwrap();
            let at = |stage| order.iter().position(|found| *found == stage).unwrap();
            assert_eq!(order.len(), stages.len(), "{order:?}");
            for (stage, (base, needs)) in stages.iter().enumerate() {
                assert!(base.iter().chain(*needs).all(|needed| at(*needed) < at(stage)), "{order:?}");
            }
            assert!(schedule.done(5).is_some() && schedule.failure().is_none());
            assert!(schedule.is_last(5));
        }
    }

    #[test]
    fn stages_that_do_not_need_each_other_are_built_at_the_same_time() {
        let both = std::sync::Barrier::new(2);
        // Neither gets past the barrier alone.
        let schedule = run(&[(None, &[]), (None, &[]), (None, &[0, 1])], 2, &|stage| {
            if stage < 2 {
                both.wait();
            }
            Ok(())
        });
        assert!(schedule.done(2).is_some());
    }

    #[test]
    fn a_failure_stops_the_others_and_is_told() {
        let (begun, wait) = (std::sync::Barrier::new(2), std::sync::mpsc::channel());
        let wait = (wait.0, Mutex::new(wait.1));
        let schedule = Schedule::new();
        schedule.add([(0, None), (1, None), (2, Some(0))]);
        let build = |stage: usize| {
            if stage == 1 {
                begun.wait();
                return Err(BuildError::Syntax(Vec::new()));
            }
            let sender = wait.0.clone();
            let _running = schedule.running(move || sender.send(()).unwrap());
            begun.wait();
            wait.1.lock().unwrap().recv().unwrap();
            Err(BuildError::Stopped)
        };
        thread::scope(|scope| {
            scope.spawn(|| schedule.work(&build));
            schedule.work(&build);
        });
        assert!(schedule.is_stopped());
        assert!(matches!(schedule.failure(), Some(BuildError::Syntax(_))));
    }

    #[test]
    fn a_stage_found_late_is_built_by_whoever_needs_it() {
        let schedule = Schedule::new();
        schedule.add([(2, None)]);
        fn build(schedule: &Schedule, stage: usize) -> Result<State, BuildError> {
            if stage == 2 {
                schedule.add([(1, Some(0)), (0, None)]);
                schedule.need(1, &|other| build(schedule, other)).map_err(|_| BuildError::Stopped)?;
            }
            Ok(State::scratch())
        }
        schedule.work(&|stage| build(&schedule, stage));
        assert!(schedule.done(2).is_some());
    }
}
