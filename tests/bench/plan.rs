//! A large site: from nothing to running, looked at when there is nothing to do (what every cycle of a watch costs), and away again.

use crate::ground::Ground;
use crate::measure::{Series, timed};
use crate::options::Options;
use crate::peers::{Network, agent};
use crate::table::{self, Unit};
use anyhow::Result;
use std::time::Duration;

/// How long the kernel is left to itself before a second look: it goes on freeing what a thousand starts used, writes back what was
/// written, and lets a thousand new links introduce themselves (IPv6: RFC 4862 and 3810 repeat for some seconds).
const REST: Duration = Duration::from_secs(30);

/// `agent apply`, `plan` and `destroy` of many containers on a bridge: the whole commands, from their start to their exit.
pub fn measure(ground: &Ground, options: &Options) -> Result<()> {
    let count = options.unchanged();
    let agent = agent::Agent::new(ground, "plan")?;
    let measured = of_a_crowd(&agent, count, options.rounds());
    agent.destroy()?;
    let [applied, planned, rested, destroyed] = measured?;
    table::print(&format!("apply a site of {count} new containers"), Unit::Milliseconds, &[applied]);
    table::print(&format!("plan with {count} unchanged running containers, just started"), Unit::Milliseconds, &[planned]);
    table::print(&format!("plan with {count} unchanged running containers, {} s later", REST.as_secs()), Unit::Milliseconds, &[rested]);
    table::print(&format!("destroy a site of {count} running containers"), Unit::Milliseconds, &[destroyed]);
    Ok(())
}

fn of_a_crowd(agent: &agent::Agent, count: usize, rounds: usize) -> Result<[Series; 4]> {
    let [mut applied, mut planned, mut rested, mut destroyed] =
        ["agent apply", "agent plan", "agent plan", "agent destroy"].map(Series::new);
    applied.add(timed(|| agent.start_crowd(count, Network::Bridge))?);
    look(agent, rounds, &mut planned)?;
    std::thread::sleep(REST);
    look(agent, rounds, &mut rested)?;
    destroyed.add(timed(|| agent.remove_crowd())?);
    Ok([applied, planned, rested, destroyed])
}

/// So many looks, after one that finds everything cold.
fn look(agent: &agent::Agent, rounds: usize, series: &mut Series) -> Result<()> {
    agent.plan_unchanged()?;
    for _ in 0..rounds {
        series.add(timed(|| agent.plan_unchanged())?);
    }
    Ok(())
}
