//! What runs on a host, seen without the agent: container states, processes, pages, logs.

use crate::host::Host;
use anyhow::{Context as _, Result, bail, ensure};
use runtime::container::state::Phase;
use runtime::container::{self, Snapshot};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use spec::value::ContainerId;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

/// Longest waits for a connection and for an answer of a web server of ours; whoever wants to be patient tries again. The first is
/// less than the second after which TCP asks again: a server is seen as soon as it is there.
const CONNECT_TIME: Duration = Duration::from_millis(300);
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// A container that runs, by what must not change as long as nothing happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vital {
    /// Which incarnation.
    pub id: ContainerId,
    /// Its first process.
    pub pid: i32,
    /// How often its policy has restarted it.
    pub restarts: u32,
}

/// Every container that can be read.
pub fn containers(host: &Host) -> Result<BTreeMap<ContainerId, Snapshot>> {
    let found = container::list(&host.places())?;
    Ok(found.into_iter().filter_map(|(id, snapshot)| Some((id, snapshot.ok()?))).collect())
}

/// Whether the watch has brought the host to where it should be, and has nothing to do.
pub fn is_settled(host: &Host) -> Result<()> {
    let status = agent::daemon::Status::read(&host.places().run)?.context("no watch has begun")?;
    let cycle = status.cycle.context("no cycle has ended")?;
    ensure!(cycle.result == "settled" && Some(&cycle.revision) == status.revision.as_ref(), "{cycle:?}");
    Ok(())
}

/// The containers that run, by name.
pub fn running(host: &Host) -> Result<BTreeMap<String, Vital>> {
    let alive = containers(host)?.into_iter().filter_map(|(id, snapshot)| match snapshot.state.phase {
        Phase::Running { process, .. } => Some((id.name.to_string(), Vital { id, pid: process.pid, restarts: snapshot.state.restarts })),
        Phase::Created | Phase::Restarting { .. } | Phase::Exited { .. } => None,
    });
    Ok(alive.collect())
}

/// A container that runs.
pub fn vital(host: &Host, name: &str) -> Result<Vital> {
    running(host)?.remove(name).with_context(|| format!("{name} does not run"))
}

/// The shim of a container, if it lives.
pub fn shim(host: &Host, id: &ContainerId) -> Result<i32> {
    let snapshot = container::inspect(&host.places(), id)?;
    match snapshot.state.shim {
        Some(shim) if snapshot.shim_alive => Ok(shim.pid),
        Some(_) | None => bail!("{id} has no shim"),
    }
}

/// Runs something on a thread in the host's network namespace. A socket opened there stays there.
pub fn within<T: Send>(host: &Host, run: impl FnOnce() -> T + Send) -> Result<T> {
    let namespace = File::open(host.namespace())?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(run())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What a web server answers at `http://127.0.0.1:<port>/` on the host.
pub fn page(host: &Host, port: u16) -> Result<String> {
    within(host, || get(SocketAddr::from(([127, 0, 0, 1], port))))?
}

fn get(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIME).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("{address} answers {answer:?}"),
    }
}

/// All a container has printed to its standard output, its old log files too.
pub fn printed(host: &Host, id: &ContainerId) -> Result<String> {
    let directory = host.places().container(id).join("logs");
    let mut text = String::new();
    for age in (1..10).rev().map(|age| format!("current.log.{age}")).chain(["current.log".to_owned()]) {
        let Ok(lines) = fs::read_to_string(directory.join(age)) else { continue };
        for line in lines.lines() {
            let record: serde_json::Value = serde_json::from_str(line).with_context(|| format!("log record {line:?}"))?;
            text.push_str(record["log"].as_str().context("a record has a text")?);
        }
    }
    Ok(text)
}

/// Ends a process that the test knows by its number.
pub fn kill(pid: i32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).context("a process has a number above 0")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}
