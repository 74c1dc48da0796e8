//! What holds for every site on every host: generated in the language of the scenarios, so that a failure reads like one.

use super::super::action::{Action, Cause, Consequence, Plan, Verb};
use super::super::actual::{Actual, ActualContainer, Observed, Owner, SiteId};
use super::super::incarnation::Incarnation;
use super::super::plan;
use super::super::simulate::simulate;
use super::language::{self, Scene};
use super::{check_order, converge, print};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use runtime::container::state::Phase;
use spec::desired::{DependencyCondition, Desired, Kind, Origins};
use spec::value::{ContainerId, Name};
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const NETWORKS: [&str; 3] = ["back", "default", "front"];
const VOLUMES: [&str; 2] = ["data", "logs"];
const IMAGES: [&str; 3] = ["app", "base", "nginx:1"];

fn maybe(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 2 => select(words).prop_map(str::to_owned)]
}

fn owner() -> impl Strategy<Value = String> {
    prop_oneof![14 => Just(""), 1 => Just("hand"), 1 => Just("site=other"), 1 => Just("unreadable")].prop_map(str::to_owned)
}

/// The words of a container both sides have. Dependencies go to later names, so that what was applied is no circle.
fn spec(place: usize) -> impl Strategy<Value = String> {
    let conditions = select(&["started", "healthy", "completed"][..]);
    let depends = (subsequence(NAMES[place + 1..].to_vec(), 0..=(4 - place).min(1)), conditions);
    let networks = (subsequence(NETWORKS.to_vec(), 0..=2), prop_oneof![8 => Just(""), 1 => Just(":172.18.0.9")]);
    let volumes = subsequence(VOLUMES.to_vec(), 0..=1);
    let words = (
        select(&["image=app", "image=nginx:1", "image=base"][..]),
        maybe(&["env.A=1", "env.A=2"]),
        maybe(&["memory=64Mi", "memory=128Mi"]),
        maybe(&["restart=no", "restart=on-failure:3", "restart=unless-stopped"]),
        maybe(&["probe"]),
        maybe(&["update=stop-first"]),
        maybe(&["ports=80:80", "ports=81:80", "ports=80:80,81:81"]),
        maybe(&["label.x=y"]),
    );
    (depends, networks, volumes, words).prop_map(|((depends, condition), (networks, address), volumes, words)| {
        let mut line = format!("{} {} {} {} {} {} {} {}", words.0, words.1, words.2, words.3, words.4, words.5, words.6, words.7);
        if let Some(name) = depends.first() {
            line.push_str(&format!(" depends={name}:{condition}"));
        }
        if !networks.is_empty() {
            let given = |name: &&str| if *name == "back" { format!("{name}{address}") } else { (*name).to_owned() };
            line.push_str(&format!(" networks={}", networks.iter().map(given).collect::<Vec<_>>().join(",")));
        }
        if let Some(name) = volumes.first() {
            line.push_str(&format!(" volumes={name}:/data"));
        }
        line
    })
}

fn life() -> impl Strategy<Value = String> {
    let lives = [
        "",
        "",
        "",
        "healthy",
        "starting",
        "created",
        "created held",
        "created completed",
        "exited=0",
        "exited=1",
        "exited=0 completed",
        "exited=143 requested",
        "exited=0 requested held",
        "exited=255 unseen",
        "restarting",
        "restarting faults=shim",
        "aside",
        "faults=limits",
        "faults=shim,limits",
        "faults=link:back",
        "faults=ports:80:80",
    ];
    select(lives.to_vec()).prop_map(str::to_owned)
}

fn desired() -> impl Strategy<Value = Vec<String>> {
    let image = prop_oneof![Just("image app build=1 bases=base"), Just("image app build=2 bases=base"), Just("image app")];
    let base = prop_oneof![Just("image base"), Just("image base build=1"), Just("image base build=2")];
    let back = select(&["", "subnet=172.18.0.0/16", "subnet=10.9.0.0/24", "internal", "label.a=b"][..]);
    let containers: Vec<_> = (0..NAMES.len()).map(|place| proptest::option::of(spec(place))).collect();
    (image, base, back, containers).prop_map(|(image, base, back, containers)| {
        let mut lines = vec![image.to_owned(), base.to_owned(), format!("network back {back}"), "network front".to_owned()];
        lines.extend(VOLUMES.iter().map(|name| format!("volume {name}")));
        let named = NAMES.iter().zip(containers).filter_map(|(name, words)| Some(format!("container {name} {}", words?)));
        lines.extend(named);
        lines
    })
}

fn actual() -> impl Strategy<Value = Vec<String>> {
    let images = select(&["", "", "build=1 bases=base:d1", "build=2 bases=base:d1", "digest=d2"][..]);
    let images = proptest::collection::vec((proptest::option::of(images), owner()), IMAGES.len());
    let networks = select(&["", "", "fault=down", "label.a=b"][..]);
    let networks = proptest::collection::vec((proptest::option::of(networks), owner()), NETWORKS.len());
    let volumes = proptest::collection::vec(proptest::option::of(owner()), VOLUMES.len());
    let containers: Vec<_> = (0..NAMES.len()).map(|place| proptest::collection::vec((spec(place), life(), owner()), 0..=2)).collect();
    let rest = (maybe(&["foreign 172.19.0.0/16"]), maybe(&["firewall broken"]));
    (images, networks, volumes, containers, rest).prop_map(|(images, networks, volumes, containers, rest)| {
        let mut lines = vec![rest.0, rest.1];
        for (name, (words, owner)) in IMAGES.iter().zip(images) {
            // Only `app` is ever built: a base that stands on itself is no host.
            let words = words.map(|words| if *name == "app" { words } else { "" });
            lines.extend(words.map(|words| format!("image {name} {words} {owner}")));
        }
        for (name, (words, owner)) in NETWORKS.iter().zip(networks) {
            lines.extend(words.map(|words| format!("network {name} {words} {owner}")));
        }
        for (name, owner) in VOLUMES.iter().zip(volumes) {
            lines.extend(owner.map(|owner| format!("volume {name} {owner}")));
        }
        for (name, incarnations) in NAMES.iter().zip(containers) {
            for (generation, (spec, life, owner)) in (1..).zip(incarnations) {
                lines.push(format!("container {name}@{generation} {spec} {life} {owner}"));
            }
        }
        lines
    })
}

fn scene(desired: &[String], actual: &[String]) -> Scene {
    language::scene(&desired.join("\n"), &actual.join("\n"))
}

fn ours() -> Owner {
    Owner::Site(SiteId("shop".to_owned()))
}

/// All that is not the site's, without faults: a bridge or table that is mended serves whoever is on it.
fn others(actual: &Actual) -> String {
    let is_other = |owner: &Owner| *owner != ours();
    let mut shown: Vec<String> = Vec::new();
    for (key, image) in &actual.images {
        match image {
            Observed::Present(image) if !is_other(&image.owner) => {}
            Observed::Present(_) | Observed::Unreadable { .. } => shown.push(format!("{key} {image:?}")),
        }
    }
    for (name, volume) in &actual.volumes {
        match volume {
            Observed::Present(volume) if !is_other(&volume.owner) => {}
            Observed::Present(_) | Observed::Unreadable { .. } => shown.push(format!("{name} {volume:?}")),
        }
    }
    for (name, network) in &actual.networks {
        match network {
            Observed::Present(network) if !is_other(&network.owner) => {}
            Observed::Present(network) => shown.push(format!("{name} {} {} {:?}", network.subnet, network.gateway, network.applied)),
            Observed::Unreadable { .. } => shown.push(format!("{name} {network:?}")),
        }
    }
    for (id, container) in &actual.containers {
        match container {
            Observed::Present(container) if !is_other(&container.owner) => {}
            Observed::Present(other) => {
                shown.push(format!("{id} {:?} {:?} {:?} {}", other.applied, other.endpoints, other.phase, other.serving))
            }
            Observed::Unreadable { .. } => shown.push(format!("{id} {container:?}")),
        }
    }
    // The host-wide network is made on demand.
    shown.retain(|one| !one.starts_with("default "));
    shown.join("\n")
}

fn our_containers(actual: &Actual) -> BTreeMap<&Name, Vec<(&ContainerId, &ActualContainer)>> {
    let mut found: BTreeMap<&Name, Vec<_>> = BTreeMap::new();
    for (id, observed) in &actual.containers {
        if let Observed::Present(container) = observed
            && container.owner == ours()
        {
            found.entry(&id.name).or_default().push((id, container));
        }
    }
    found
}

/// Every step a step comes after, directly or not.
fn ancestors(plan: &Plan, place: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = plan.steps[place].after.clone();
    while let Some(place) = open.pop() {
        if found.insert(place) {
            open.extend(&plan.steps[place].after);
        }
    }
    found
}

fn place_of(plan: &Plan, wanted: impl Fn(&Action) -> bool) -> Option<usize> {
    plan.steps.iter().position(|step| wanted(&step.action))
}

fn serves(actual: &Actual, name: &Name) -> bool {
    actual.containers.iter().any(|(id, observed)| match observed {
        Observed::Present(state) => id.name == *name && Incarnation { id, state }.serves(),
        Observed::Unreadable { .. } => false,
    })
}

fn run(desired: &Desired, actual: &Actual, plan: &Plan, is_done: impl Fn(usize) -> bool) -> Actual {
    let steps = plan.steps.iter().enumerate().filter(|(place, _)| is_done(*place));
    steps.fold(actual.clone(), |actual, (_, step)| simulate(actual, &step.action, desired, &SiteId("shop".to_owned())))
}

fn no_duplicates(scene: &Scene, end: &Actual) -> Result<(), TestCaseError> {
    let rest = plan(&scene.desired, end, &scene.policy);
    let excused: BTreeSet<&str> = rest
        .blocked
        .iter()
        .map(|blocked| &blocked.resource)
        .chain(rest.notes.iter().map(|note| &note.resource))
        .filter(|resource| resource.kind == Kind::Container)
        .map(|resource| resource.name.as_str())
        .collect();
    for (name, incarnations) in our_containers(end) {
        if !excused.contains(name.as_str()) {
            prop_assert_eq!(incarnations.len(), 1, "{} of {}", incarnations.len(), name);
            prop_assert!(scene.desired.containers.contains_key(name), "{name} is left over");
        }
    }
    Ok(())
}

/// `PROPTEST_CASES` or as many as a test run takes without notice.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn apply_then_plan_is_empty(desired in desired(), actual in actual()) {
        let scene = scene(&desired, &actual);
        let end = converge(&scene.desired, scene.actual.clone(), &scene.policy);
        no_duplicates(&scene, &end)?;
    }

    #[test]
    fn nothing_unowned_is_touched(desired in desired(), actual in actual()) {
        let scene = scene(&desired, &actual);
        let end = converge(&scene.desired, scene.actual.clone(), &scene.policy);
        prop_assert_eq!(others(&scene.actual), others(&end));
    }

    #[test]
    fn destroy_leaves_nothing_of_the_site_but_volumes(actual in actual()) {
        let scene = scene(&[], &actual);
        let end = converge(&scene.desired, scene.actual.clone(), &scene.policy);
        prop_assert!(our_containers(&end).is_empty());
        prop_assert_eq!(scene.actual.volumes, end.volumes);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(desired in desired().prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())), actual in actual()) {
        let (mut one, mut other) = (scene(&desired.0, &actual), scene(&desired.1, &actual));
        one.desired.origins = Origins::default();
        other.desired.origins = Origins::default();
        prop_assert_eq!(plan(&one.desired, &one.actual, &one.policy), plan(&other.desired, &other.actual, &other.policy));
    }

    #[test]
    fn steps_come_after_earlier_ones_and_every_change_has_a_cause(desired in desired(), actual in actual()) {
        let scene = scene(&desired, &actual);
        let plan = plan(&scene.desired, &scene.actual, &scene.policy);
        check_order(&plan);
        prop_assert!(plan.changes.iter().all(|change| !change.causes.is_empty()), "{}", print(&plan));
        let changed: BTreeSet<_> = plan.changes.iter().map(|change| &change.resource).collect();
        let explained = |step: &&super::super::action::Step| changed.contains(&step.resource) || matches!(step.action, Action::AwaitContainer { .. });
        prop_assert!(plan.steps.iter().all(|step| explained(&step)), "{}", print(&plan));
        prop_assert!(plan.provisional || plan.changes.is_empty() == plan.steps.is_empty(), "{}", print(&plan));
    }

    #[test]
    fn dependencies_are_first_on_the_way_up(desired in desired(), actual in actual()) {
        let scene = scene(&desired, &actual);
        let plan = plan(&scene.desired, &scene.actual, &scene.policy);
        for (place, step) in plan.steps.iter().enumerate() {
            let Action::StartContainer { id, .. } = &step.action else { continue };
            // One that is kept going as it was applied waits for what it waited for then.
            let updated = place_of(&plan, |action| matches!(action, Action::UpdateContainer { id: other, .. } if other == id)).is_some();
            let container = match scene.actual.containers.get(id) {
                Some(Observed::Present(present)) if !updated => Some(&*present.applied),
                Some(Observed::Present(_) | Observed::Unreadable { .. }) | None => scene.desired.containers.get(&id.name),
            };
            let Some(container) = container else { continue };
            for dependency in container.depends_on.keys().filter(|dependency| !serves(&scene.actual, dependency)) {
                let started = place_of(&plan, |action| matches!(action, Action::StartContainer { id, .. } if id.name == *dependency));
                let Some(started) = started else { continue };
                let finished = scene.actual.containers.iter().any(|(id, one)| {
                    id.name == *dependency && matches!(one, Observed::Present(one) if one.completed || !matches!(one.phase, Phase::Created))
                });
                prop_assert!(finished || ancestors(&plan, place).contains(&started), "{}", print(&plan));
            }
        }
    }

    #[test]
    fn dependencies_are_last_on_the_way_down(actual in actual()) {
        let scene = scene(&[], &actual);
        let plan = plan(&scene.desired, &scene.actual, &scene.policy);
        for (place, step) in plan.steps.iter().enumerate() {
            let Action::RemoveContainer { id } = &step.action else { continue };
            for (dependent, other) in &scene.actual.containers {
                let Observed::Present(other) = other else { continue };
                if other.owner == ours() && other.applied.depends_on.contains_key(&id.name) {
                    let gone = place_of(&plan, |action| *action == Action::RemoveContainer { id: dependent.clone() });
                    prop_assert!(gone.is_some_and(|gone| ancestors(&plan, place).contains(&gone)), "{}", print(&plan));
                }
            }
        }
    }

    #[test]
    fn removals_come_after_the_whole_new_set(desired in desired(), actual in actual()) {
        let scene = scene(&desired, &actual);
        let plan = plan(&scene.desired, &scene.actual, &scene.policy);
        let removed: BTreeSet<_> = plan.changes.iter().filter(|change| change.verb == Verb::Remove).map(|change| &change.resource).collect();
        let awaited: Vec<usize> = (0..plan.steps.len()).filter(|place| matches!(plan.steps[*place].action, Action::StartContainer { .. })).collect();
        let moved = plan.changes.iter().any(|change| change.resource.kind == Kind::Network && change.verb == Verb::Replace);
        for (place, step) in plan.steps.iter().enumerate().filter(|(_, step)| removed.contains(&step.resource) && !moved) {
            // A port of it may be wanted before: then it is stopped early; an address: then it is removed early, and that is said.
            let gives_way = plan.changes.iter().any(|change| {
                change.resource == step.resource && change.causes.iter().any(|cause| matches!(cause, Cause::Follows { .. }))
            });
            if !matches!(step.action, Action::StopContainer { .. }) && !gives_way {
                let before = ancestors(&plan, place);
                prop_assert!(awaited.iter().all(|place| before.contains(place)), "{}", print(&plan));
            }
        }
    }

    #[test]
    fn a_replacement_without_downtime_has_none(desired in desired(), actual in actual()) {
        let scene = scene(&desired, &actual);
        let plan = plan(&scene.desired, &scene.actual, &scene.policy);
        let calm = |change: &&super::super::action::Change| change.resource.kind == Kind::Container
            && !matches!(change.consequence, Consequence::Downtime | Consequence::Restart);
        let names: Vec<Name> = plan.changes.iter().filter(calm).map(|change| change.resource.name.parse().unwrap()).collect();
        let ends = |name: &Name| place_of(&plan, |action| matches!(action, Action::AwaitContainer { id, until: DependencyCondition::Completed } if id.name == *name)).is_some();
        let names: Vec<&Name> = names.iter().filter(|name| serves(&scene.actual, name) && !ends(name)).collect();
        let mut now = scene.actual.clone();
        for step in &plan.steps {
            now = simulate(now, &step.action, &scene.desired, &scene.policy.site);
            for name in &names {
                prop_assert!(serves(&now, name), "{name} does not serve after {:?}\n{}", step.action, print(&plan));
            }
        }
    }

    #[test]
    fn whatever_fails_or_is_cut_off_the_next_plans_converge_with_nothing_left_over(desired in desired(), actual in actual()) {
        let scene = scene(&desired, &actual);
        let first = plan(&scene.desired, &scene.actual, &scene.policy);
        for failed in 0..first.steps.len() {
            // Killed: nothing from that step on is done. Failed: whatever does not come after it still is.
            let killed = run(&scene.desired, &scene.actual, &first, |place| place < failed);
            let partial = run(&scene.desired, &scene.actual, &first, |place| place != failed && !ancestors(&first, place).contains(&failed));
            for cut in [killed, partial] {
                let end = converge(&scene.desired, cut, &scene.policy);
                no_duplicates(&scene, &end)?;
            }
        }
    }

    #[test]
    fn no_two_containers_that_were_given_addresses_share_one(desired in desired(), actual in actual()) {
        let scene = scene(&desired, &actual);
        let plan = plan(&scene.desired, &scene.actual, &scene.policy);
        let end = run(&scene.desired, &scene.actual, &plan, |_| true);
        for step in &plan.steps {
            let Action::CreateContainer { id, endpoints, .. } = &step.action else { continue };
            for (other, observed) in &end.containers {
                let Observed::Present(other_state) = observed else { continue };
                let shared = other_state.endpoints.iter().find(|endpoint| {
                    endpoints.iter().any(|own| own.network == endpoint.network && own.address == endpoint.address)
                });
                // One that was stopped for its address and is removed by a later plan may still have it on record.
                let alive = Incarnation { id: other, state: other_state }.is_alive();
                prop_assert!(other == id || shared.is_none() || !alive, "{id} and {other}\n{}", print(&plan));
            }
        }
    }
}
