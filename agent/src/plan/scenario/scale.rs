//! A plan of a large host that is as it should be: it must cost next to nothing, for it is made at every look.
//!
//! `cargo test --release -p agent a_thousand_unchanged -- --ignored --nocapture` says what it costs.

use super::language;
use crate::plan::plan;
use std::time::Instant;

fn lines(count: usize, side: impl Fn(usize) -> String) -> String {
    (0..count).map(|number| side(number) + "\n").collect()
}

/// A site of so many containers with a chain of dependencies, ports, limits, and networks of 250 each.
fn scene(count: usize) -> language::Scene {
    let words = |number: usize| {
        let depends = if number.is_multiple_of(10) { String::new() } else { format!("depends=c{:04}:healthy", number - 1) };
        format!(
            "networks=n{} ports={}:80 memory=64Mi env.A=b env.B=c label.x=y volumes=v{number}:/data {depends}",
            number / 250,
            10_000 + number
        )
    };
    let networks = |on: bool| {
        lines(
            count.div_ceil(250),
            |number| if on { format!("network n{number} on=10.{number}.0.0/16") } else { format!("network n{number}") },
        )
    };
    let volumes = lines(count, |number| format!("volume v{number}"));
    let desired = networks(false) + &volumes + &lines(count, |number| format!("container c{number:04} {}", words(number)));
    let at = |number: usize| format!("at=n{}:10.{}.{}.{}", number / 250, number / 250, number / 250, number % 250 + 2);
    let actual = networks(true) + &volumes + &lines(count, |number| format!("container c{number:04}@1 {} {}", words(number), at(number)));
    language::scene(&desired, &actual)
}

#[test]
fn a_large_host_that_is_as_it_should_be_has_nothing_to_do() {
    let scene = scene(60);
    assert_eq!(plan(&scene.desired, &scene.actual, &scene.policy), super::Plan::default());
}

#[test]
#[ignore = "measures"]
fn a_thousand_unchanged_containers_take_no_time() {
    for count in [1_000, 4_000] {
        let scene = scene(count);
        let fastest = (0..20).map(|_| {
            let began = Instant::now();
            assert_eq!(plan(&scene.desired, &scene.actual, &scene.policy).steps.len(), 0);
            began.elapsed()
        });
        println!("{count} unchanged containers: {:?}", fastest.min().unwrap());
        let nothing = super::Actual { images: scene.actual.images.clone(), ..super::Actual::default() };
        let began = Instant::now();
        let steps = plan(&scene.desired, &nothing, &scene.policy).steps.len();
        println!("{count} new containers: {:?} for {steps} steps", began.elapsed());
    }
}
