//! Every field has its rule, and differences read as people write the fields.

use super::*;
use spec::desired::{
    Attachment, BuildContextSource, BuildNetwork, Container, DependencyCondition, HealthCheck, Image, ImageKey, ImageSource, LogLimits,
    Network, NetworkMode, Resources, Security, Stop, UpdateOrder, Volume,
};
use spec::value::{ByteSize, Cpus, Name, Signal};
use std::time::Duration;

/// A container with something in every field. A new field has to be named here, and then in the table.
fn full() -> Container {
    let name = |text: &str| text.parse::<Name>().unwrap();
    let second = Duration::from_secs(1);
    Container {
        image: ImageKey::Named(name("app")),
        entrypoint: Some(vec!["/bin/sh".to_owned()]),
        command: Some(vec!["-c".to_owned()]),
        env: [("A".to_owned(), "b".to_owned()), ("F".to_owned(), "c".to_owned())].into(),
        env_from_files: ["F".to_owned()].into(),
        working_dir: Some("/".to_owned()),
        user: Some("web".parse().unwrap()),
        hostname: "web".to_owned(),
        ports: vec!["8080:80".parse().unwrap()],
        mounts: vec![Mount::Volume { name: name("data"), target: "/data".parse().unwrap(), read_only: false }],
        network: NetworkMode::Networks(
            [(name("shop"), Attachment { address: Some([10, 0, 0, 2].into()), aliases: [name("w")].into() })].into(),
        ),
        restart: "always".parse().unwrap(),
        stop: Stop { signal: Some(Signal::TERM), grace: second },
        resources: Resources { memory: Some(ByteSize::from_bytes(1 << 20)), cpus: Some(Cpus::from_milli(500)), pids: Some(10) },
        depends_on: [(name("db"), DependencyCondition::Healthy)].into(),
        healthcheck: Some(HealthCheck {
            test: vec!["true".to_owned()],
            interval: second,
            timeout: second,
            retries: 3,
            start_period: second,
        }),
        labels: [("com.example.team".to_owned(), "b".to_owned())].into(),
        security: Security { capabilities: [].into(), no_new_privileges: true, read_only_root: true, user_namespace: true },
        update: UpdateOrder::StartFirst,
        logs: LogLimits { max_size: ByteSize::from_bytes(1 << 20), max_files: 3 },
        tty: true,
        stdin_open: true,
    }
}

/// Fields of a value that no rule of the table is about.
fn unknown<T: Serialize>(rules: &[Rule], value: &T) -> Vec<String> {
    let known =
        |path: &Vec<String>| rules.iter().any(|rule| rule.canonical.split('.').count() == path.len() && matches(rule.canonical, path));
    fields(rules, value).into_keys().filter(|path| !known(path)).map(|path| path.join(".")).collect()
}

/// Rules of the table that are about no field of these values.
fn idle<T: Serialize>(rules: &'static [Rule], values: &[T]) -> Vec<&'static str> {
    let paths: Vec<Vec<String>> = values.iter().flat_map(|value| fields(rules, value).into_keys()).collect();
    let used = |rule: &&Rule| paths.iter().any(|path| rule.canonical.split('.').count() == path.len() && matches(rule.canonical, path));
    rules.iter().filter(|rule| !used(rule)).map(|rule| rule.canonical).collect()
}

#[test]
fn every_field_of_a_container_has_its_rule_and_every_rule_its_field() {
    let containers = [full(), Container { network: NetworkMode::Host, ..full() }, Container { network: NetworkMode::None, ..full() }];
    for container in &containers {
        assert_eq!(unknown(CONTAINER, container), [""; 0]);
    }
    assert_eq!(idle(CONTAINER, &containers), [""; 0]);
}

#[test]
fn every_field_of_an_image_a_network_and_a_volume_has_its_rule() {
    let content = Digest::of(b"");
    let build = ImageSource::Build {
        context: ".".to_owned(),
        dockerfile: "Dockerfile".to_owned(),
        inline: Some("FROM scratch".to_owned()),
        contexts: [("base".to_owned(), BuildContextSource::Elsewhere { address: "docker-image://debian".to_owned() })].into(),
        args: [("A".to_owned(), "b".to_owned())].into(),
        target: Some("web".to_owned()),
        network: BuildNetwork::Host,
        content,
        bases: [].into(),
    };
    let archive = ImageSource::Archive { path: "base.tar".to_owned(), content };
    let pull = ImageSource::Pull { reference: "nginx".parse().unwrap() };
    let images: Vec<Image> =
        [build, archive, pull].into_iter().map(|source| Image { source, push: ["r.example/a".parse().unwrap()].into() }).collect();
    images.iter().for_each(|image| assert_eq!(unknown(IMAGE, image), [""; 0]));
    assert_eq!(idle(IMAGE, &images), [""; 0]);
    let labels = || [("a".to_owned(), "b".to_owned())].into();
    let network = Network { subnet: "10.0.0.0/24".parse().ok(), gateway: Some([10, 0, 0, 1].into()), internal: true, labels: labels() };
    assert_eq!(unknown(NETWORK, &network), [""; 0]);
    assert_eq!(idle(NETWORK, &[network]), [""; 0]);
    let volume = Volume { labels: labels() };
    assert_eq!(unknown(VOLUME, &volume), [""; 0]);
    assert_eq!(idle(VOLUME, &[volume]), [""; 0]);
}

#[test]
fn a_field_without_a_rule_takes_a_replacement() {
    assert_eq!(describe(CONTAINER, &["future".to_owned(), "knob".to_owned()]), ("future.knob".to_owned(), Effect::Replace));
}

#[test]
fn equal_values_differ_in_nothing() {
    assert_eq!(differences(CONTAINER, &full(), &full()), []);
}

#[test]
fn keys_with_dots_are_one_key() {
    let other = Container { labels: [("com.example.team".to_owned(), "c".to_owned())].into(), ..full() };
    let found = differences(CONTAINER, &full(), &other);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].field.as_str(), found[0].old.as_str(), found[0].effect), ("labels.com.example.team", "b", Effect::Live));
}

#[test]
fn a_mount_is_told_by_its_target() {
    let target = || "/data".parse().unwrap();
    let other =
        Container { mounts: vec![Mount::Tmpfs { target: target(), size: Some(ByteSize::from_bytes(1 << 20)), mode: 0o1777 }], ..full() };
    let found = differences(CONTAINER, &full(), &other);
    let told: Vec<_> = found.iter().map(|one| format!("{}: {} → {}", one.field, one.old, one.new)).collect();
    assert_eq!(told, ["volumes./data: volume data → tmpfs 1Mi, mode 1777"]);
}

#[test]
fn no_command_and_an_empty_one_are_told_apart() {
    let none = Container { command: None, ..full() };
    let empty = Container { command: Some(Vec::new()), ..full() };
    let found = differences(CONTAINER, &none, &empty);
    assert_eq!((found[0].old.as_str(), found[0].new.as_str()), ("none", "[]"));
}
