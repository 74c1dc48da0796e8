//! Containers started for real, on this kernel, as root. Each case runs in a process of its own with one thread.
//!
//! `cargo test -p runtime --test process [part of a name]`; `process --measure` prints what a start costs instead.

#![allow(clippy::unwrap_used)]

mod cases_cgroup;
mod cases_exec;
mod cases_files;
mod cases_security;
mod cases_user;
mod measure;
mod scene;

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

type Case = (&'static str, fn());

fn cases() -> Vec<Case> {
    [cases_files::CASES, cases_security::CASES, cases_user::CASES, cases_cgroup::CASES, cases_exec::CASES].concat()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--case", name] => {
            let (_, case) = cases().into_iter().find(|(known, _)| known == name).expect("a case of that name");
            case();
            ExitCode::SUCCESS
        }
        ["--measure"] => {
            measure::measure();
            ExitCode::SUCCESS
        }
        ["--list", ..] => {
            cases().iter().for_each(|(name, _)| println!("{name}: test"));
            ExitCode::SUCCESS
        }
        others => run_all(others.iter().find(|arg| !arg.starts_with('-')).copied()),
    }
}

fn run_all(filter: Option<&str>) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: all cases of starting processes, because this is not root");
        return ExitCode::SUCCESS;
    }
    let itself = std::env::current_exe().expect("a test knows its own path");
    let mut failed = Vec::new();
    for (name, _) in cases().into_iter().filter(|(name, _)| filter.is_none_or(|part| name.contains(part))) {
        let begun = Instant::now();
        let output = Command::new(&itself).args(["--case", name]).stdin(Stdio::null()).output().expect("a test can run itself");
        let word = if output.status.success() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", begun.elapsed().as_millis());
        if !output.status.success() {
            failed.push(name);
            println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
    }
    println!("test result: {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
