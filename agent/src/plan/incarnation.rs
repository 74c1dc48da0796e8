//! The incarnations of one container: which one counts, which are left over, and how the one that counts is doing.
//!
//! More than one of a name exists only while one replaces the other, or where that was interrupted.

use super::actual::{ActualContainer, ContainerFault, Observed, Owner};
use runtime::container::state::{Exit, ExitCause, Health, Phase};
use spec::desired::{Container, DependencyCondition};
use spec::value::{ContainerId, RestartPolicy};

/// One incarnation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incarnation<'a> {
    pub(super) id: &'a ContainerId,
    pub(super) state: &'a ActualContainer,
}

/// The incarnations of one name by what they are to the plan.
#[derive(Debug)]
pub(super) struct Roles<'a> {
    /// The one that counts.
    pub(super) current: Incarnation<'a>,
    /// Whether the current one was stopped by a user and nothing else of this name runs: nothing is done to any of them.
    pub(super) held: bool,
    /// All others, oldest first.
    pub(super) others: Vec<Incarnation<'a>>,
}

/// How an incarnation is doing, seen from its restart policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs, or its shim is about to start it again.
    Up,
    /// It does not run and should: why not.
    Down(String),
    /// It ended by itself with 0, and that is all that was wanted of it.
    Done,
    /// It ended otherwise and its policy leaves it there: how.
    Failed(String),
}

/// Why none of a name's incarnations can be planned for.
pub(super) enum Hands {
    /// One of them could not be read.
    Unreadable { id: ContainerId, why: String },
    /// One of them is someone else's.
    Foreign { owner: Owner },
}

impl<'a> Incarnation<'a> {
    /// Whether there is a process, or a shim that will start one.
    pub(super) fn is_alive(&self) -> bool {
        match self.state.phase {
            Phase::Running { .. } => true,
            Phase::Restarting { .. } => !self.state.faults.contains(&ContainerFault::Shim),
            Phase::Created | Phase::Exited { .. } => false,
        }
    }

    /// Whether its ports and name lead to a process.
    pub(super) fn serves(&self) -> bool {
        self.state.serving && self.is_alive()
    }

    /// Whether a user stopped it and that still counts: `always` starts at boot whatever a user said before it.
    fn is_held(&self) -> bool {
        let since_boot = self.state.phase != Phase::Created;
        self.state.stopped_by_user && !self.is_alive() && (since_boot || self.state.applied.restart != RestartPolicy::Always)
    }

    /// Whether it can still become what runs: it was not started in vain, and nobody stopped it.
    pub(super) fn is_hopeful(&self) -> bool {
        !self.state.stopped_by_user && (self.is_alive() || self.state.phase == Phase::Created)
    }

    /// How it is doing under this policy.
    pub(super) fn life(&self, restart: RestartPolicy) -> Life {
        match &self.state.phase {
            Phase::Running { .. } => Life::Up,
            Phase::Restarting { .. } if self.is_alive() => Life::Up,
            Phase::Restarting { .. } => Life::Down("its shim is gone while it waited to be started again".to_owned()),
            Phase::Created if self.state.completed && !starts_always(restart) => Life::Done,
            Phase::Created => Life::Down("it was not started since it was made or the host booted".to_owned()),
            Phase::Exited { exit } => after_exit(exit, restart),
        }
    }

    /// Whether someone waiting for this condition may go on now; `None` if it may still come about.
    pub(super) fn satisfies(&self, condition: DependencyCondition) -> Option<Result<(), String>> {
        let life = self.life(self.state.applied.restart);
        match (condition, life) {
            (DependencyCondition::Started, Life::Up | Life::Done) | (DependencyCondition::Completed, Life::Done) => Some(Ok(())),
            (DependencyCondition::Healthy, Life::Up) => match &self.state.phase {
                Phase::Running { health: Health::Healthy | Health::Unchecked, .. } => Some(Ok(())),
                Phase::Running { health: Health::Starting | Health::Unhealthy { .. }, .. } => None,
                Phase::Created | Phase::Restarting { .. } | Phase::Exited { .. } => None,
            },
            (DependencyCondition::Completed, Life::Up) => None,
            (DependencyCondition::Healthy, Life::Done) => Some(Err("which has ended".to_owned())),
            (_, Life::Failed(how)) => Some(Err(format!("which {how}"))),
            (_, Life::Down(_)) => Some(Err("which does not run".to_owned())),
        }
    }
}

fn starts_always(restart: RestartPolicy) -> bool {
    match restart {
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
    }
}

fn after_exit(exit: &Exit, restart: RestartPolicy) -> Life {
    let how = match &exit.cause {
        // A user's stop is a hold and never gets here: it was stopped for a change that did not come to its end.
        ExitCause::Requested => return Life::Down("a change that stopped it was interrupted".to_owned()),
        ExitCause::Own => format!("ended with exit code {}", exit.code),
        ExitCause::OutOfMemory => "was killed for want of memory".to_owned(),
        ExitCause::StartFailed { reason } => format!("could not be started: {reason}"),
        ExitCause::Unknown => "ended and nobody saw how".to_owned(),
    };
    let was_seen = exit.cause != ExitCause::Unknown;
    match restart {
        RestartPolicy::Always | RestartPolicy::UnlessStopped => Life::Down(format!("it {how} and nothing starts it again")),
        RestartPolicy::No | RestartPolicy::OnFailure { .. } if exit.code == 0 && was_seen => Life::Done,
        RestartPolicy::No => Life::Failed(format!("{how}, and its restart policy is no")),
        RestartPolicy::OnFailure { max_retries: Some(most) } if was_seen => {
            Life::Failed(format!("{how}, and its restart policy allows {most} restarts in a row"))
        }
        RestartPolicy::OnFailure { .. } => Life::Down(format!("it {how} and nothing starts it again")),
    }
}

/// All incarnations of a name if every one is ours and readable; `Ok(None)` if there is none.
pub(super) fn ours<'a>(
    incarnations: &[(&'a ContainerId, &'a Observed<ActualContainer>)],
    owner: &Owner,
) -> Result<Vec<Incarnation<'a>>, Hands> {
    let mut found = Vec::with_capacity(incarnations.len());
    for (id, observed) in incarnations {
        match observed {
            Observed::Unreadable { why } => return Err(Hands::Unreadable { id: (*id).clone(), why: why.clone() }),
            Observed::Present(state) if state.owner != *owner => {
                return Err(Hands::Foreign { owner: state.owner.clone() });
            }
            Observed::Present(state) => found.push(Incarnation { id, state }),
        }
    }
    Ok(found)
}

impl<'a> Roles<'a> {
    /// Tells the incarnations apart: the one that serves counts; where none does, the newest that is as desired, else the
    /// newest that runs, else the newest. `None` if there are none.
    pub(super) fn assign(incarnations: &[Incarnation<'a>], is_desired: impl Fn(&Incarnation<'a>) -> bool) -> Option<Self> {
        let newest = |wanted: &dyn Fn(&Incarnation<'a>) -> bool| incarnations.iter().rposition(wanted);
        let anything_runs = incarnations.iter().any(Incarnation::is_alive);
        let held = if anything_runs { None } else { newest(&Incarnation::is_held) };
        let place = held
            .or_else(|| newest(&Incarnation::serves))
            .or_else(|| newest(&|one| is_desired(one) && one.is_hopeful()))
            .or_else(|| newest(&Incarnation::is_alive))
            .or_else(|| newest(&is_desired))
            .or_else(|| incarnations.len().checked_sub(1))?;
        let others = incarnations.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, one)| *one).collect();
        Some(Self { current: *incarnations.get(place)?, held: held.is_some(), others })
    }
}

/// How far a container must come before it counts as there: its probe decides, if it has one.
pub(super) fn readiness(container: &Container, image_is_probed: bool) -> DependencyCondition {
    let probed = match &container.healthcheck {
        Some(probe) => !probe.test.is_empty(),
        None => image_is_probed,
    };
    if probed { DependencyCondition::Healthy } else { DependencyCondition::Started }
}
