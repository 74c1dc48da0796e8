//! Carries out a plan and decides nothing: steps run as soon as those they come after have succeeded, several at a time;
//! a failed one takes down only what depends on it. There is no undo: the next cycle plans again from what is then there.

use crate::host::{Host, HostError, Outcome, Report};
use crate::plan::action::{Plan, Step};
use crate::progress::{Lines, Progress};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Steps carried out at the same time: waits for health and pulls overlap, and a small host is not flooded with starts.
pub const STEPS_AT_ONCE: usize = 8;

/// What is told while a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step begins.
    Started,
    /// Something happened within a step.
    Progress(&'a Progress<'a>),
    /// The same as a line, where it is one: build output, layers of a pull.
    Line(&'a str),
    /// A step is over.
    Finished {
        /// How long it took.
        took: Duration,
        /// The reason if it failed.
        error: Option<&'a HostError>,
    },
}

/// Where progress goes: the step's place in the plan, and what happened. Called from several threads.
pub type Watcher<'a> = &'a (dyn Fn(usize, &Step, Event<'_>) + Sync);

/// Carries out the plan. `called_off` is looked at before each step; what has begun is finished.
pub fn apply(plan: &Plan, host: &dyn Host, steps_at_once: usize, called_off: &AtomicBool, watcher: Watcher<'_>) -> Report {
    let mut schedule = Schedule::new(plan);
    let (finished, results) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut running = 0;
        loop {
            if called_off.load(Ordering::Relaxed) {
                schedule.skip_waiting();
            }
            while running < steps_at_once {
                let Some(index) = schedule.next_ready() else { break };
                let finished = finished.clone();
                running += 1;
                scope.spawn(move || {
                    let result = perform(&plan.steps[index], index, host, watcher);
                    // The receiver lives until every step has been heard of.
                    let _ = finished.send((index, result));
                });
            }
            if running == 0 {
                break;
            }
            let (index, result) = results.recv().expect("a running step holds a sender and always sends");
            running -= 1;
            schedule.finish(index, result);
        }
    });
    Report { outcomes: schedule.outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Skipped)).collect() }
}

fn perform(step: &Step, index: usize, host: &dyn Host, watcher: Watcher<'_>) -> Result<(), HostError> {
    let began = Instant::now();
    watcher(index, step, Event::Started);
    let lines = Lines::default();
    let result = host.perform(&step.action, &|progress| {
        watcher(index, step, Event::Progress(progress));
        lines.tell(progress, &|line| watcher(index, step, Event::Line(line)));
    });
    watcher(index, step, Event::Finished { took: began.elapsed(), error: result.as_ref().err() });
    result
}

/// Which steps may run: those whose predecessors are done, lowest place first.
struct Schedule<'a> {
    plan: &'a Plan,
    outcomes: Vec<Option<Outcome>>,
    begun: Vec<bool>,
    /// Steps before this place have all begun or ended.
    first_waiting: usize,
}

impl<'a> Schedule<'a> {
    fn new(plan: &'a Plan) -> Self {
        let outcomes = plan.steps.iter().map(|_| None).collect();
        Self { plan, outcomes, begun: vec![false; plan.steps.len()], first_waiting: 0 }
    }

    /// The next step that may run; steps behind a failed one are skipped on the way.
    fn next_ready(&mut self) -> Option<usize> {
        for (index, step) in self.plan.steps.iter().enumerate().skip(self.first_waiting) {
            if self.begun[index] || self.outcomes[index].is_some() {
                self.first_waiting += usize::from(index == self.first_waiting);
                continue;
            }
            let predecessors = || step.after.iter().map(|place| &self.outcomes[*place]);
            if predecessors().any(|outcome| matches!(outcome, Some(Outcome::Failed(_) | Outcome::Skipped))) {
                self.outcomes[index] = Some(Outcome::Skipped);
            } else if predecessors().all(|outcome| matches!(outcome, Some(Outcome::Done))) {
                self.begun[index] = true;
                return Some(index);
            }
        }
        None
    }

    fn skip_waiting(&mut self) {
        for (begun, outcome) in self.begun.iter().zip(&mut self.outcomes) {
            if !begun {
                outcome.get_or_insert(Outcome::Skipped);
            }
        }
    }

    fn finish(&mut self, index: usize, result: Result<(), HostError>) {
        self.outcomes[index] = Some(match result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(error),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::action::Action;
    use crate::plan::actual::Actual;
    use crate::progress::Tell;
    use spec::desired::{Desired, Kind, ResourceId};
    use std::sync::Mutex;

    /// Remembers what it was asked and fails at the volumes it is told to fail at.
    struct Recorder {
        fails_at: &'static str,
        asked: Mutex<Vec<String>>,
    }

    impl Host for Recorder {
        fn observe(&self, _: &Desired) -> Result<Actual, HostError> {
            Ok(Actual::default())
        }

        fn announce(&self, _: &Plan) -> Result<(), HostError> {
            Ok(())
        }

        fn settle(&self, _: &Plan, _: &Report) -> Result<(), HostError> {
            Ok(())
        }

        fn perform(&self, action: &Action, _: &Tell<'_>) -> Result<(), HostError> {
            let Action::RemoveVolume { name } = action else { panic!("only volumes here") };
            self.asked.lock().unwrap().push(name.to_string());
            if name.as_str() == self.fails_at { Err(HostError::new("remove", "busy")) } else { Ok(()) }
        }
    }

    fn step(name: &str, after: &[usize]) -> Step {
        let resource = ResourceId { kind: Kind::Volume, name: name.to_owned() };
        Step { action: Action::RemoveVolume { name: name.parse().unwrap() }, resource, after: after.to_vec() }
    }

    fn run(steps: Vec<Step>, fails_at: &'static str) -> (Vec<String>, Report) {
        let host = Recorder { fails_at, asked: Mutex::default() };
        let plan = Plan { steps, ..Plan::default() };
        let report = apply(&plan, &host, STEPS_AT_ONCE, &AtomicBool::new(false), &|_, _, _| ());
        (host.asked.into_inner().unwrap(), report)
    }

    #[test]
    fn steps_wait_for_those_they_come_after() {
        let (asked, report) = run(vec![step("c", &[]), step("b", &[0]), step("a", &[1])], "");
        assert_eq!(asked, ["c", "b", "a"]);
        assert!(report.succeeded());
    }

    #[test]
    fn a_failure_takes_down_only_what_depends_on_it() {
        let (mut asked, report) = run(vec![step("a", &[]), step("b", &[0]), step("c", &[1]), step("d", &[])], "a");
        asked.sort();
        assert_eq!(asked, ["a", "d"]);
        assert!(matches!(report.outcomes[..], [Outcome::Failed(_), Outcome::Skipped, Outcome::Skipped, Outcome::Done]));
        assert_eq!(report.failures().next().unwrap().1.chain(), "remove: busy");
    }

    #[test]
    fn a_plan_called_off_starts_nothing_more() {
        let host = Recorder { fails_at: "", asked: Mutex::default() };
        let plan = Plan { steps: vec![step("a", &[]), step("b", &[])], ..Plan::default() };
        let report = apply(&plan, &host, 1, &AtomicBool::new(true), &|_, _, _| ());
        assert!(host.asked.into_inner().unwrap().is_empty());
        assert!(!report.succeeded());
    }
}
