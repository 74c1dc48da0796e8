//! The suite: one binary, a file per feature. What needs root says so and is skipped without it.

mod access;
mod apply;
mod build;
mod contexts;
mod copy;
mod crash;
mod drift;
mod examples;
mod faults;
mod fuzz;
mod git;
mod interactive;
mod lint;
mod real;
mod registry;
mod serve;
mod store;
mod terminal;
mod tidy;
mod transient;
mod update;
mod validate;
mod verbs;
mod watch;
mod words;

/// Tells how long something took, for who runs the suite with --nocapture. A number, never a verdict: machines differ.
fn measure(what: &str, since: std::time::Instant) {
    eprintln!("MEASURED {what}: {} ms", since.elapsed().as_millis());
}
