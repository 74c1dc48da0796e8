//! A plan that finds nothing to do: what every cycle of a watch costs.

use crate::ground::Ground;
use crate::measure::{Series, timed};
use crate::options::Options;
use crate::peers::{Network, agent};
use crate::table::{self, Unit};
use anyhow::Result;

/// `agent plan` with many running, unchanged containers: the whole command, from its start to its exit.
pub fn measure(ground: &Ground, options: &Options) -> Result<()> {
    let count = options.unchanged();
    let agent = agent::Agent::new(ground, "plan")?;
    agent.start_crowd(count, Network::Bridge)?;
    let mut times = Series::new("agent plan");
    let measured: Result<()> = (0..=options.rounds()).try_for_each(|round| {
        let time = timed(|| agent.plan_unchanged())?;
        if round > 0 {
            times.add(time);
        }
        Ok(())
    });
    agent.destroy()?;
    measured?;
    table::print(&format!("plan with {count} unchanged running containers"), Unit::Milliseconds, &[times]);
    Ok(())
}
