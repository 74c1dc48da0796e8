//! Whether a container may run now: what it depends on must have come far enough, in the form that is desired now.

use super::incarnation::Incarnation;
use super::verdict::{Hindrance, Next, Verdict, Wait};
use spec::desired::{Container, DependencyCondition};
use spec::value::Name;
use std::collections::BTreeMap;

/// What is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Something new: its dependencies must be what they should be.
    New,
    /// What was there before: its dependencies must do what they did, whatever becomes of them.
    Again,
}

/// What is waited for before the container runs.
pub(super) fn waits(container: &Container, run: Run, verdicts: &BTreeMap<&Name, Verdict<'_>>) -> Result<Vec<Wait>, Hindrance> {
    let mut found = Vec::new();
    let mut deferred = false;
    for (name, condition) in &container.depends_on {
        let blocked = |why: &str| Err(Hindrance::Blocked(format!("it waits for container/{name}, which {why}")));
        let Some(dependency) = verdicts.get(name) else { return blocked("is not there") };
        let now: Option<&Incarnation<'_>> = dependency.now.as_ref();
        if run == Run::Again && now.and_then(|now| now.satisfies(*condition)) == Some(Ok(())) {
            continue;
        }
        match (&dependency.next, now) {
            (Next::Never(why), _) => return blocked(why),
            (Next::Later, _) => deferred = true,
            (Next::Starts { id, readiness }, _) => {
                let until = match condition {
                    DependencyCondition::Completed => DependencyCondition::Completed,
                    DependencyCondition::Started => DependencyCondition::Started,
                    DependencyCondition::Healthy => *readiness,
                };
                found.push(Wait { name: name.clone(), id: id.clone(), until });
            }
            (Next::Same, None) => return blocked("is not there"),
            (Next::Same, Some(now)) => match now.satisfies(*condition) {
                Some(Ok(())) => {}
                Some(Err(why)) => return Err(Hindrance::Blocked(format!("it waits for container/{name}, {why}"))),
                None => found.push(Wait { name: name.clone(), id: now.id.clone(), until: *condition }),
            },
        }
    }
    if deferred { Err(Hindrance::Deferred) } else { Ok(found) }
}
