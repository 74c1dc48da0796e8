//! A large site: from nothing to running, looked at when there is nothing to do (what every cycle of a watch costs), and away again.

use crate::ground::Ground;
use crate::measure::{Series, timed};
use crate::options::Options;
use crate::peers::{Network, agent};
use crate::table::{self, Unit};
use anyhow::Result;

/// `agent apply`, `plan` and `destroy` of many containers on a bridge: the whole commands, from their start to their exit.
pub fn measure(ground: &Ground, options: &Options) -> Result<()> {
    let count = options.unchanged();
    let agent = agent::Agent::new(ground, "plan")?;
    let measured = of_a_crowd(&agent, count, options.rounds());
    agent.destroy()?;
    let [applied, planned, destroyed] = measured?;
    table::print(&format!("apply a site of {count} new containers"), Unit::Milliseconds, &[applied]);
    table::print(&format!("plan with {count} unchanged running containers"), Unit::Milliseconds, &[planned]);
    table::print(&format!("destroy a site of {count} running containers"), Unit::Milliseconds, &[destroyed]);
    Ok(())
}

fn of_a_crowd(agent: &agent::Agent, count: usize, rounds: usize) -> Result<[Series; 3]> {
    let [mut applied, mut planned, mut destroyed] = ["agent apply", "agent plan", "agent destroy"].map(Series::new);
    applied.add(timed(|| agent.start_crowd(count, Network::Bridge))?);
    for round in 0..=rounds {
        let time = timed(|| agent.plan_unchanged())?;
        if round > 0 {
            planned.add(time);
        }
    }
    destroyed.add(timed(|| agent.remove_crowd())?);
    Ok([applied, planned, destroyed])
}
