//! `exec`: one more process in a running container; and `run`, one process without a container, for build steps.

use super::error::ContainerError;
use super::list::{inspect, running_process};
use super::start::shim_executable;
use crate::places::Places;
use crate::shim::bundle::{self, ExecBundle, ExecCommand, RunBundle};
use spec::value::ContainerId;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs it with this input and the caller's standard output and error, or its terminal, to its end; its exit code, 128 + signal if one ended it.
/// 126 and 127: it could not be run, as said on standard error.
///
/// Errors: [`ContainerError::NotRunning`].
pub fn exec(places: &Places, id: &ContainerId, command: &ExecCommand, input: Stdio) -> Result<i32, ContainerError> {
    let mut program = exec_command(places, id, command)?;
    let path = shim_executable();
    let status = program.stdin(input).status().map_err(|source| ContainerError::ShimUnusable { path, source })?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// The same as a command that is not yet spawned, for a caller that has files of its own. To be spawned once, or its bundle stays.
pub fn exec_command(places: &Places, id: &ContainerId, command: &ExecCommand) -> Result<Command, ContainerError> {
    let snapshot = inspect(places, id)?;
    if running_process(&snapshot.state).is_none() {
        return Err(ContainerError::NotRunning { id: id.clone() });
    }
    let bundle = ExecBundle { state: places.state.clone(), run: places.run.clone(), id: id.clone(), command: command.clone() };
    let path = bundle::write(&places.container_run(id), &bundle)?;
    let mut program = Command::new(shim_executable());
    program.arg("exec").arg(path).env_clear();
    Ok(program)
}

/// One process from a configuration to its end, with the files the caller gives the command: its exit code is the process's own,
/// 126 to 128 if it could not be started, 125 for trouble of ours, the latter said on standard error. Nothing is left of it but
/// what it wrote to `<bundle.directory>/upper`. The bundle waits in `passing`, a directory of the caller's, until it is spawned.
pub fn run_command(passing: &Path, bundle: &RunBundle) -> Result<Command, ContainerError> {
    let path = bundle::write(passing, bundle)?;
    let mut program = Command::new(shim_executable());
    program.arg("run").arg(path).env_clear();
    Ok(program)
}
