//! Scenarios as text: a site, a host, and the plan that follows. One file a theme, one scenario a rule.
//!
//! ```text
//! == what the rule says
//! desired:
//!   container web memory=512Mi
//! actual:
//!   container web@1 memory=256Mi
//! plan:
//!   (the printed plan, then its steps)
//! ```
//!
//! After each one the plan is carried out in simulation, and the plan after that must have no steps.
//! `PLAN_BLESS=1 cargo test -p agent scenario` writes the plans as they are now; read the difference before you commit it.

mod language;
mod property;
mod scale;

use super::action::{Action, Plan, Traffic};
use super::actual::Actual;
use super::simulate::simulate;
use super::{Policy, plan};
use language::Scene;
use spec::desired::{DependencyCondition, Desired};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Plans in a row until nothing is left to do: images, networks that wait, and one for what only shows then.
const ROUNDS_MAX: usize = 5;

struct Scenario {
    name: String,
    desired: String,
    actual: String,
    expected: String,
}

fn read(text: &str) -> Vec<Scenario> {
    let mut found = Vec::new();
    for block in text.split("\n== ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a name and a body");
        let (desired, rest) = rest.split_once("actual:\n").expect("a section `actual`");
        let (actual, expected) = rest.split_once("plan:\n").expect("a section `plan`");
        let desired = desired.strip_prefix("desired:\n").expect("a section `desired`");
        let expected = expected.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        found.push(Scenario {
            name: name.to_owned(),
            desired: desired.to_owned(),
            actual: actual.to_owned(),
            expected: expected.trim_end().to_owned(),
        });
    }
    found
}

fn print(plan: &Plan) -> String {
    let mut text = plan.to_string();
    for (place, step) in plan.steps.iter().enumerate() {
        let after = step.after.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let after = if after.is_empty() { String::new() } else { format!("  after {after}") };
        writeln!(text, "{place}: {}{after}", say(&step.action)).unwrap();
    }
    text.trim_end().to_owned()
}

fn say(action: &Action) -> String {
    match action {
        Action::ObtainImage { key, .. } => format!("obtain image {key}"),
        Action::PushImage { key, references, .. } => {
            format!("push image {key} as {}", references.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        }
        Action::ForgetImage { key } => format!("forget image {key}"),
        Action::CreateNetwork { name, subnet, gateway, .. } => format!("create network {name} {subnet} gateway {gateway}"),
        Action::UpdateNetwork { name, .. } => format!("update network {name}"),
        Action::RepairNetwork { name } => format!("repair network {name}"),
        Action::RemoveNetwork { name } => format!("remove network {name}"),
        Action::CreateVolume { name, .. } => format!("create volume {name}"),
        Action::UpdateVolume { name, .. } => format!("update volume {name}"),
        Action::RemoveVolume { name } => format!("remove volume {name}"),
        Action::CreateContainer { id, endpoints, .. } => format!("create {id}{}", places(endpoints)),
        Action::StartContainer { id, traffic: Traffic::Now } => format!("start {id}"),
        Action::StartContainer { id, traffic: Traffic::AfterSwitch } => format!("start {id} aside"),
        Action::AwaitContainer { id, until } => format!(
            "await {id} {}",
            match until {
                DependencyCondition::Started => "started",
                DependencyCondition::Healthy => "healthy",
                DependencyCondition::Completed => "completed",
            }
        ),
        Action::SwitchTraffic { from: Some(from), to } => format!("switch traffic from {from} to {to}"),
        Action::SwitchTraffic { from: None, to } => format!("switch traffic to {to}"),
        Action::UpdateContainer { id, endpoints, .. } => format!("update {id}{}", places(endpoints)),
        Action::RepairContainer { id, fault } => {
            let name = format!("{fault:?}");
            let kind = name.split([' ', '{']).next().unwrap_or_default().to_lowercase();
            format!("repair {id} {kind}")
        }
        Action::StopContainer { id } => format!("stop {id}"),
        Action::RemoveContainer { id } => format!("remove {id}"),
        Action::RepairFirewall => "repair firewall".to_owned(),
    }
}

fn places(endpoints: &[runtime::container::config::Endpoint]) -> String {
    endpoints.iter().map(|endpoint| format!(" {}:{}", endpoint.network, endpoint.address)).collect()
}

/// Carries plans out until one has no steps; panics if that does not come about.
fn converge(desired: &Desired, mut actual: Actual, policy: &Policy) -> Actual {
    for _ in 0..ROUNDS_MAX {
        let next = plan(desired, &actual, policy);
        if next.steps.is_empty() {
            return actual;
        }
        for step in &next.steps {
            actual = simulate(actual, &step.action, desired, &policy.site);
        }
    }
    let next = plan(desired, &actual, policy);
    assert!(next.steps.is_empty(), "does not settle:\n{}", print(&next));
    actual
}

fn theme(file: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src/plan/scenario", file].iter().collect();
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, _) = text.split_once("\n== ").expect("a scenario");
    let mut blessed = head.to_owned();
    let mut wrong = String::new();
    for scenario in read(&text) {
        let Scene { desired, actual, policy } = language::scene(&scenario.desired, &scenario.actual);
        let plan = plan(&desired, &actual, &policy);
        check_order(&plan);
        let printed = print(&plan);
        if printed != scenario.expected {
            write!(wrong, "\n== {}\nexpected:\n{}\n\nis:\n{printed}\n", scenario.name, scenario.expected).unwrap();
        }
        let indented: String = printed.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect();
        write!(blessed, "\n== {}\ndesired:\n{}actual:\n{}plan:\n{indented}", scenario.name, scenario.desired, scenario.actual).unwrap();
        converge(&desired, actual, &policy);
    }
    if std::env::var_os("PLAN_BLESS").is_some() {
        std::fs::write(&path, blessed).unwrap();
    } else {
        assert!(wrong.is_empty(), "{file}: {wrong}");
    }
}

/// `after` names earlier steps only: no circle is possible.
fn check_order(plan: &Plan) {
    for (place, step) in plan.steps.iter().enumerate() {
        assert!(step.after.iter().all(|before| *before < place), "step {place} comes after a later one:\n{}", print(plan));
    }
}

macro_rules! themes {
    ($($name:ident),*) => { $(#[test] fn $name() { theme(concat!(stringify!($name), ".txt")); })* };
}
themes!(creation, in_place, replacement, images, networks, order, liveness, leftovers, ownership, removal);

#[test]
fn lines_of_json_have_no_secrets_either() {
    let scene = language::scene(
        "image app build=1 arg.NPM_TOKEN=hunter2\ncontainer web image=nginx:1 env.DB_PASSWORD=hunter2 env.URL=a://b:hunter2@c file.DSN=hunter2",
        "container web@1 image=nginx:1 env.DB_PASSWORD=hunter1 file.DSN=hunter1",
    );
    let lines = super::text::json_lines(&plan(&scene.desired, &scene.actual, &scene.policy));
    assert!(lines.contains("createContainer") && lines.contains("obtainImage"), "{lines}");
    assert!(!lines.contains("hunter"), "{lines}");
}
