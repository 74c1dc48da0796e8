//! `agent system info`.

use crate::cli::render::{paint, style};
use crate::cli::{Outcome, Session, exit};
use clap::Args;

/// Show what the kernel offers, and what is missing.
#[derive(Debug, Args)]
pub(in crate::cli) struct InfoArgs {}

pub(super) fn run(session: &Session) -> Outcome {
    let release = rustix::system::uname();
    let layout = runtime::cgroup::Layout::detect().map(|layout| if layout.is_unified() { "v2" } else { "v1" });
    let missing: Vec<String> =
        runtime::network::missing_features().iter().map(|(feature, why)| format!("{feature}: {}", crate::host::chain(why))).collect();
    let report = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": release.release().to_string_lossy(),
        "architecture": release.machine().to_string_lossy(),
        "cgroup": layout.as_ref().map_or_else(|why| format!("unusable: {}", crate::host::chain(why)), |it| (*it).to_owned()),
        "missing": missing,
        "instance": session.places.instance(),
        "stateDir": session.places.state,
        "runDir": session.places.run,
        "configDir": session.places.config,
    });
    if session.render.json {
        session.render.json_line(&report);
        return Ok(exit::DONE);
    }
    for (label, field) in [
        ("version", "version"),
        ("kernel", "kernel"),
        ("architecture", "architecture"),
        ("cgroup", "cgroup"),
        ("instance", "instance"),
        ("state", "stateDir"),
        ("run", "runDir"),
        ("config", "configDir"),
    ] {
        session.render.line(format_args!("{label:<14}{}", report[field].as_str().unwrap_or_default()));
    }
    match missing.as_slice() {
        [] => session.render.line(format_args!("{:<14}{}", "features", paint(style::GOOD, "all there"))),
        missing => missing.iter().for_each(|it| session.render.line(format_args!("{:<14}{}", "missing", paint(style::BAD, it)))),
    }
    Ok(exit::DONE)
}
