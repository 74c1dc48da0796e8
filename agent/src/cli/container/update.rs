//! `agent container update`.

use super::find::find;
use crate::cli::{Failure, Outcome, Session, exit};
use crate::linux::Applied;
use crate::plan::actual::Owner;
use anyhow::anyhow;
use clap::Args;
use runtime::container::{self, Snapshot};
use runtime::engine::Keep;
use spec::desired::Container;
use spec::value::{ByteSize, ContainerId, Cpus, RestartPolicy};

/// Change limits and the restart policy of containers that were run by hand, at once.
///
/// What belongs to a site is changed in its manifest: agent apply changes it while it runs, too.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Memory limit, such as 256Mi
    #[arg(short, long)]
    memory: Option<ByteSize>,
    /// Processor limit, such as 0.5
    #[arg(long)]
    cpus: Option<Cpus>,
    /// Limit of processes
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pids_limit: Option<u32>,
    /// no, always, unless-stopped or on-failure[:n]
    #[arg(long)]
    restart: Option<RestartPolicy>,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

pub(super) fn run(args: &UpdateArgs, session: &Session) -> Outcome {
    let engine = session.engine()?;
    for id in find(&engine, &args.containers)? {
        let snapshot = container::inspect(engine.places(), &id)?;
        refuse_if_of_site(&id, &snapshot)?;
        let mut updatable = snapshot.config.updatable;
        let limits = &mut updatable.resources;
        limits.memory = args.memory.or(limits.memory);
        limits.cpus = args.cpus.or(limits.cpus);
        limits.pids = args.pids_limit.or(limits.pids);
        updatable.restart = args.restart.unwrap_or(updatable.restart);
        container::update(engine.places(), &id, &updatable)?;
        session.render.answer("id", &id);
    }
    Ok(exit::DONE)
}

/// What belongs to a site is as its manifest says.
pub(crate) fn refuse_if_of_site(id: &ContainerId, snapshot: &Snapshot) -> Result<(), Failure> {
    match Applied::<Container>::read(&Keep::of(&snapshot.annotations).annotations) {
        Ok(Applied { owner: Owner::Site(site), .. }) if !site.is_of_run() => {
            let hint = Some("change its manifest and apply that: it goes on running".to_owned());
            Err(Failure::Error { error: anyhow!("container {id} belongs to the site {site}"), hint })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
