//! `container-shim exec`: one more process in a running container, with the caller's standard files or terminal, to its end.

use super::bundle::{self, ExecBundle, Terminal};
use super::foreground::{self, FORWARDED, OnSignal};
use super::{CODE_OURS, Problem, chain, complain};
use crate::cgroup::Cgroup;
use crate::console::{self, Signals};
use crate::container::document::read_config;
use crate::container::list::{read_state, running_process};
use crate::places::Places;
use crate::process::{self, ExecRequest, Stdio};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

/// Runs it; the code to exit with: its own, 126 or 127 if it could not be run, [`CODE_OURS`] for trouble of ours.
pub fn exec(path: &Path) -> i32 {
    match try_exec(path) {
        Ok(code) => code,
        Err(Problem(problem)) => {
            complain(&problem);
            CODE_OURS
        }
    }
}

fn try_exec(path: &Path) -> Result<i32, Problem> {
    let ExecBundle { state, run, id, command } = bundle::take(path)?;
    let places = Places { state, run, ..Places::standard() };
    let config = read_config(&places, &id).map_err(Problem::of("read configuration"))?;
    let state = read_state(&places, &id).map_err(Problem::of("read state"))?;
    let target = running_process(&state).ok_or_else(|| Problem(format!("container {id} is not running")))?;
    let cgroup = Cgroup::of_container(&places, &id).map_err(Problem::of("find control groups"))?;
    let signals = Signals::catch(&FORWARDED).map_err(Problem::of("catch signals"))?;
    let mut env = config.process.env.clone();
    env.extend(command.env);
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let request = ExecRequest {
        target,
        cgroup: &cgroup,
        user_namespace: config.user_namespace,
        args: &command.args,
        env: &env,
        working_dir: command.working_dir.as_ref().unwrap_or(&config.process.working_dir),
        user: command.user.as_ref().or(config.process.user.as_ref()),
        capabilities: &config.process.capabilities,
        no_new_privileges: config.process.no_new_privileges,
        seccomp: config.process.seccomp,
        rlimits: &config.process.rlimits,
        stdio: match command.terminal {
            Terminal::None => Stdio::Files { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() },
            Terminal::Allocate => Stdio::Terminal(console::size()),
        },
    };
    match process::exec(&request) {
        Ok(started) => foreground::attend(&started, &signals, OnSignal::Forward, None)
            .map(|status| status.code())
            .map_err(Problem::of("wait for the process")),
        Err(error) => {
            complain(&chain(&error));
            Ok(error.exit_code())
        }
    }
}
