//! `container-shim run`: one process from a configuration, with the caller's own standard files, to its end. For build steps.
//! It ends with its caller, and with all that it started; where that has a network of its own, it is its name server until then.

use super::bundle::{self, RunBundle};
use super::dns::RESOLV_CONF;
use super::dns::responder::Responder;
use super::foreground::{self, FORWARDED, OnSignal};
use super::{CODE_OURS, Problem, chain, complain};
use crate::cgroup::Cgroup;
use crate::console::Signals;
use crate::places::Places;
use crate::process::{self, StartRequest, Stdio};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

/// Runs it; the code to exit with: its own, 126 to 128 if it could not be started, [`CODE_OURS`] for trouble of ours.
pub fn run(path: &Path) -> i32 {
    match try_run(path) {
        Ok(code) => code,
        Err(Problem(problem)) => {
            complain(&problem);
            CODE_OURS
        }
    }
}

fn try_run(path: &Path) -> Result<i32, Problem> {
    let bundle: RunBundle = bundle::take(path)?;
    let places = Places { state: bundle.state.clone(), ..Places::standard() };
    let cgroup = Cgroup::named(&places, &bundle.control_group).map_err(Problem::of("find control groups"))?;
    let signals = Signals::catch(&FORWARDED).map_err(Problem::of("catch signals"))?;
    // A builder that is killed does not want the result any more; whoever starts us waits for us in the same thread.
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(Problem::of("follow the builder"))?;
    let names = bundle.network_namespace.as_deref().map(|namespace| Responder::outward(namespace, RESOLV_CONF.into()));
    let mut names = names.transpose().map_err(Problem::of("open name server in the network namespace"))?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let request = StartRequest {
        config: &bundle.config,
        directory: &bundle.directory,
        cgroup: &cgroup,
        network_namespace: bundle.network_namespace.as_deref(),
        stdio: Stdio::Files { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() },
    };
    let result = match process::start(&request) {
        Ok(started) => {
            let status = foreground::attend(&started, &signals, OnSignal::End(&cgroup), names.as_mut());
            status.map(|status| status.code()).map_err(Problem::of("wait for the process"))
        }
        Err(error) => {
            complain(&chain(&error));
            Ok(error.exit_code())
        }
    };
    // Whatever came of it, nothing of it stays.
    cgroup.kill_all().and_then(|()| cgroup.remove()).map_err(Problem::of("remove control group"))?;
    result
}
