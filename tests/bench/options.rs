//! The command line.

use std::fmt;

const USAGE: &str = "\
usage: cargo run --release -p tests --bin bench -- [--quick] [--rounds N] [--only NAME]… [--peer NAME]…

  --quick        few rounds, few containers: whether it works, not how fast
  --rounds N     rounds of the short measurements (default 20); long ones take a quarter
  --only NAME    only this measurement: run, start, memory, plan, pull, push, build
  --peer NAME    only the agent and this peer: crun, runc, podman, docker, buildkit, buildah, skopeo";

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measurement {
    /// A command to its end.
    Run,
    /// Many containers up, and down again.
    Start,
    /// Memory of what stays.
    Memory,
    /// A large site: applied, planned without changes, destroyed.
    Plan,
    /// Images from a registry.
    Pull,
    /// Images to a registry.
    Push,
    /// Images from Dockerfiles.
    Build,
}

/// What to measure, how often, against whom.
#[derive(Debug)]
pub struct Options {
    quick: bool,
    rounds: Option<usize>,
    only: Vec<Measurement>,
    peers: Vec<String>,
}

/// The command line is wrong, or help was asked for.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { to.write_str(USAGE) } else { write!(to, "{}\n\n{USAGE}", self.0) }
    }
}

impl Options {
    /// Reads the arguments after the program's name.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Usage> {
        let mut options = Self { quick: false, rounds: None, only: Vec::new(), peers: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| Usage(format!("{argument} needs a value")));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--rounds" => {
                    let text = value()?;
                    let rounds = text.parse().ok().filter(|rounds| *rounds > 0);
                    options.rounds = Some(rounds.ok_or_else(|| Usage(format!("--rounds {text}: not a number above 0")))?);
                }
                "--only" => options.only.push(Measurement::named(&value()?)?),
                "--peer" => options.peers.push(value()?),
                "--help" | "-h" => return Err(Usage(String::new())),
                other => return Err(Usage(format!("unknown argument {other}"))),
            }
        }
        Ok(options)
    }

    /// Whether this is to be measured.
    pub fn wants(&self, measurement: Measurement) -> bool {
        self.only.is_empty() || self.only.contains(&measurement)
    }

    /// Whether this peer takes part.
    pub fn admits(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|name| name == peer)
    }

    /// Rounds of what takes less than a second.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 20 })
    }

    /// Rounds of what takes longer.
    pub fn long_rounds(&self) -> usize {
        self.rounds().div_ceil(4)
    }

    /// Containers that are started together.
    pub fn crowd(&self) -> usize {
        if self.quick { 10 } else { 50 }
    }

    /// Containers of a large site.
    pub fn unchanged(&self) -> usize {
        if self.quick { 100 } else { 1000 }
    }
}

impl Measurement {
    fn named(name: &str) -> Result<Self, Usage> {
        match name {
            "run" => Ok(Self::Run),
            "start" => Ok(Self::Start),
            "memory" => Ok(Self::Memory),
            "plan" => Ok(Self::Plan),
            "pull" => Ok(Self::Pull),
            "push" => Ok(Self::Push),
            "build" => Ok(Self::Build),
            other => Err(Usage(format!("--only {other}: there are run, start, memory, plan, pull, push and build"))),
        }
    }
}
