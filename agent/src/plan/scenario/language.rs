//! The words scenarios are written in: one resource a line, `word=value` for what differs from the plainest.
//!
//! Both sides: `image NAME [build=CONTENT bases=A,B arg.X=Y | pull=REF | archive=CONTENT] [push=REF,REF]`, `network NAME [subnet=
//! gateway= internal label.X=Y]`, `volume NAME [label.X=Y]`, `container NAME [image= networks=N,N:ADDRESS host ports=
//! volumes=V:/T,./P#C:/T env.X= file.X= label.X= memory= cpus= pids= restart= grace= depends=N:CONDITION probe update=stop-first
//! hostname= command= tty stdinOpen]`; any of them `written=TEXT` for a manifest that says so, whatever is filled in.
//! Desired alone: `destroy`, `destroy-volumes`; `external` of networks and volumes. Actual alone: `digest= bases=A:D probed
//! declares=PATH,PATH published=REF,REF outdated=REF` of images; `on=SUBNET fault=TEXT` of networks; the life and faults of containers (see [`life`]); `hand`, `site=OTHER`, `unreadable`;
//! lines `foreign SUBNET`, `firewall broken`.

use super::super::action::Purpose;
use super::super::actual::{
    Actual, ActualContainer, ActualImage, ActualNetwork, ActualVolume, ContainerFault, Firewall, Observed, Owner, SiteId,
};
use super::super::{Policy, Volumes};
use runtime::container::config::Endpoint;
use runtime::container::state::{Exit, ExitCause, Health, Phase, ProcessRef, Timestamp};
use spec::desired::{
    Attachment, BuildNetwork, Container, DependencyCondition, Desired, HealthCheck, Image, ImageKey, ImageSource, Kind, Location,
    LogLimits, Network, NetworkMode, ResourceId, Resources, Security, Stop, UpdateOrder, Volume,
};
use spec::value::{BindSource, ByteSize, ContainerId, Digest, Mount, Name, PortMapping, RestartPolicy, Subnet, duration};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) struct Scene {
    pub(super) desired: Desired,
    pub(super) actual: Actual,
    pub(super) policy: Policy,
}

/// The site all scenarios plan for.
pub(super) fn policy() -> Policy {
    Policy::keep(SiteId("shop".to_owned()))
}

struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn list(&self, key: &str) -> Vec<&'a str> {
        self.value(key).map(|value| value.split(',').collect()).unwrap_or_default()
    }

    fn map(&self, key: &str) -> BTreeMap<String, String> {
        let entry = |word: &&'a str| word.strip_prefix(key)?.strip_prefix('.')?.split_once('=');
        self.0.iter().filter_map(entry).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> Option<T> {
        self.value(key).map(|value| value.parse().unwrap())
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

pub(super) fn key(text: &str) -> ImageKey {
    if text.contains([':', '/']) { ImageKey::Reference(text.parse().unwrap()) } else { ImageKey::Named(name(text)) }
}

fn read_image(of: &str, words: &Words<'_>) -> Image {
    let source = if let Some(content) = words.value("build") {
        let bases = words.list("bases").iter().map(|base| name(base.split(':').next().unwrap())).collect();
        let (context, dockerfile) = (".".to_owned(), "Dockerfile".to_owned());
        let (args, inline, contexts, target) = (words.map("arg"), None, std::collections::BTreeMap::new(), None);
        let (network, content) = (BuildNetwork::Default, digest(content));
        ImageSource::Build { context, dockerfile, inline, contexts, args, target, network, content, bases }
    } else if let Some(reference) = words.value("pull").or(of.contains([':', '/']).then_some(of)) {
        ImageSource::Pull { reference: reference.parse().unwrap() }
    } else {
        ImageSource::Archive { path: "base.tar".to_owned(), content: digest(words.value("archive").unwrap_or("1")) }
    };
    Image { source, push: words.list("push").iter().map(|reference| reference.parse().unwrap()).collect() }
}

fn read_network(words: &Words<'_>) -> Network {
    Network { subnet: words.parse("subnet"), gateway: words.parse("gateway"), internal: words.has("internal"), labels: words.map("label") }
}

fn read_mode(words: &Words<'_>) -> NetworkMode {
    if words.has("host") {
        return NetworkMode::Host;
    }
    let networks = words.list("networks");
    if networks.is_empty() {
        return NetworkMode::None;
    }
    let attachment = |word: &str| {
        let (network, address) = word.split_once(':').map_or((word, None), |(network, address)| (network, Some(address.parse().unwrap())));
        (name(network), Attachment { address, aliases: BTreeSet::new() })
    };
    NetworkMode::Networks(networks.into_iter().map(attachment).collect())
}

fn read_mount(word: &str) -> Mount {
    let (source, target) = word.split_once(":/").unwrap();
    let target = format!("/{target}").parse().unwrap();
    match source.strip_prefix("./").map(|path| path.split_once('#').unwrap()) {
        Some((path, content)) => {
            Mount::Bind { source: BindSource::Site { path: path.to_owned(), content: digest(content) }, target, read_only: true }
        }
        None => Mount::Volume { name: name(source), target, read_only: false },
    }
}

fn read_condition(word: &str) -> (Name, DependencyCondition) {
    let (of, condition) = word.split_once(':').unwrap_or((word, "started"));
    let condition = match condition {
        "started" => DependencyCondition::Started,
        "healthy" => DependencyCondition::Healthy,
        "completed" => DependencyCondition::Completed,
        other => panic!("no condition {other}"),
    };
    (name(of), condition)
}

fn read_container(of: &str, words: &Words<'_>) -> Container {
    let second = Duration::from_secs(1);
    let probe = HealthCheck { test: vec!["true".to_owned()], interval: second, timeout: second, retries: 3, start_period: second };
    let security = Security { capabilities: BTreeSet::new(), no_new_privileges: false, read_only_root: false, user_namespace: false };
    Container {
        image: key(words.value("image").unwrap_or("app")),
        entrypoint: None,
        command: words.value("command").map(|command| command.split(',').map(str::to_owned).collect()),
        env: words.map("env").into_iter().chain(words.map("file")).collect(),
        env_from_files: words.map("file").into_keys().collect(),
        working_dir: None,
        user: None,
        hostname: words.value("hostname").unwrap_or(of).to_owned(),
        ports: words.list("ports").iter().map(|port| port.parse::<PortMapping>().unwrap()).collect(),
        mounts: words.list("volumes").into_iter().map(read_mount).collect(),
        network: read_mode(words),
        restart: words.parse("restart").unwrap_or(RestartPolicy::Always),
        stop: Stop { signal: None, grace: words.value("grace").map_or(second * 10, |grace| duration::parse(grace).unwrap()) },
        resources: Resources { memory: words.parse("memory"), cpus: words.parse("cpus"), pids: words.parse("pids") },
        depends_on: words.list("depends").into_iter().map(read_condition).collect(),
        healthcheck: words.has("probe").then_some(probe),
        labels: words.map("label"),
        security,
        update: if words.value("update") == Some("stop-first") { UpdateOrder::StopFirst } else { UpdateOrder::StartFirst },
        logs: LogLimits { max_size: ByteSize::from_bytes(10 << 20), max_files: 3 },
        tty: words.has("tty"),
        stdin_open: words.has("stdinOpen"),
    }
}

fn owner(words: &Words<'_>) -> Owner {
    match words.value("site") {
        Some(site) => Owner::Site(SiteId(site.to_owned())),
        None if words.has("hand") => Owner::Hand,
        None => Owner::Site(SiteId("shop".to_owned())),
    }
}

fn observed<T>(words: &Words<'_>, present: T) -> Observed<T> {
    if words.has("unreadable") { Observed::Unreadable { why: "input/output error".to_owned() } } else { Observed::Present(present) }
}

/// The life of a container: `healthy`, `starting`, `unhealthy`, `created`, `exited=CODE` (with `requested`, `oom` or `unseen`),
/// `restarting`; it runs without a probe if nothing is said.
fn life(words: &Words<'_>) -> Phase {
    let cause = || match () {
        () if words.has("requested") => ExitCause::Requested,
        () if words.has("oom") => ExitCause::OutOfMemory,
        () if words.has("unseen") => ExitCause::Unknown,
        () => ExitCause::Own,
    };
    let exit = |code| Exit { code, cause: cause(), started: Timestamp(0), finished: Timestamp(0) };
    let running = |health| Phase::Running { process: ProcessRef { pid: 7, start_time: 7 }, since: Timestamp(0), health };
    match () {
        () if words.has("created") => Phase::Created,
        () if words.has("restarting") => Phase::Restarting { exit: exit(1), due: Timestamp(0) },
        () if words.has("healthy") => running(Health::Healthy),
        () if words.has("starting") => running(Health::Starting),
        () if words.has("unhealthy") => running(Health::Unhealthy { failures: 3, output: String::new() }),
        () => words.parse("exited").map_or_else(|| running(Health::Unchecked), |code| Phase::Exited { exit: exit(code) }),
    }
}

fn faults(words: &Words<'_>) -> BTreeSet<ContainerFault> {
    let fault = |word: &str| match word.split_once(':') {
        None if word == "shim" => ContainerFault::Shim,
        None if word == "limits" => ContainerFault::Limits { found: "memory 1Gi".to_owned() },
        Some(("link", network)) => ContainerFault::Link { network: name(network) },
        Some(("ports", port)) => ContainerFault::Ports { missing: vec![port.parse().unwrap()] },
        None | Some(_) => panic!("no fault {word}"),
    };
    words.list("faults").into_iter().map(fault).collect()
}

/// Reads both sides. Images a container of a side names are there on that side without a line of their own.
pub(super) fn scene(desired: &str, actual: &str) -> Scene {
    let mut policy = policy();
    let desired = read_desired(desired, &mut policy);
    Scene { desired, actual: read_actual(actual), policy }
}

fn lines(text: &str) -> impl Iterator<Item = (u32, &str, &str, Words<'_>)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).map(|(number, line)| {
        let mut words = line.split_whitespace();
        let (kind, of) = (words.next().unwrap(), words.next().unwrap_or_default());
        (number, kind, of, Words(words.collect()))
    })
}

fn read_desired(text: &str, policy: &mut Policy) -> Desired {
    let mut desired = Desired::default();
    for (line, kind, of, words) in lines(text) {
        let kind = match kind {
            "destroy" => {
                policy.purpose = Purpose::Destroy;
                continue;
            }
            "destroy-volumes" => {
                (policy.volumes, policy.purpose) = (Volumes::Remove, Purpose::Destroy);
                continue;
            }
            "image" => {
                desired.images.insert(key(of), read_image(of, &words));
                Kind::Image
            }
            "network" if words.has("external") => {
                desired.external.insert(ResourceId { kind: Kind::Network, name: of.to_owned() });
                continue;
            }
            "volume" if words.has("external") => {
                desired.external.insert(ResourceId { kind: Kind::Volume, name: of.to_owned() });
                continue;
            }
            "network" => {
                desired.networks.insert(name(of), read_network(&words));
                Kind::Network
            }
            "volume" => {
                desired.volumes.insert(name(of), Volume { labels: words.map("label") });
                Kind::Volume
            }
            "container" => {
                let container = read_container(of, &words);
                let missing = read_image(&container.image.to_string(), &Words(Vec::new()));
                desired.images.entry(container.image.clone()).or_insert(missing);
                desired.containers.insert(name(of), container);
                Kind::Container
            }
            other => panic!("no desired {other}"),
        };
        let location = Location { file: "site.yaml".into(), line, column: 1 };
        let resource = ResourceId { kind, name: of.to_owned() };
        desired.origins.insert(resource.clone(), "", location);
        if let Some(text) = words.value("written") {
            desired.written.insert(resource, digest(text));
        }
    }
    desired
}

fn read_actual(text: &str) -> Actual {
    let mut actual = Actual::default();
    for (_, kind, of, words) in lines(text) {
        match kind {
            "foreign" => drop(actual.foreign_subnets.insert(of.parse().unwrap())),
            "firewall" => actual.firewall = Firewall::Broken,
            "image" => drop(actual.images.insert(key(of), observed(&words, present_image(of, &words)))),
            "network" => {
                let next = u8::try_from(18 + actual.networks.len()).unwrap();
                let network = present_network(&words, Subnet::new(Ipv4Addr::new(172, next, 0, 0), 16).unwrap());
                actual.networks.insert(name(of), observed(&words, network));
            }
            "volume" => {
                let volume = ActualVolume {
                    applied: Volume { labels: words.map("label") },
                    written: words.value("written").map(digest),
                    owner: owner(&words),
                };
                actual.volumes.insert(name(of), observed(&words, volume));
            }
            "container" => {
                let id: ContainerId = of.parse().unwrap();
                let container = present_container(&id, &words, &mut actual);
                actual.containers.insert(id, observed(&words, container));
            }
            other => panic!("no actual {other}"),
        }
    }
    actual
}

fn present_image(of: &str, words: &Words<'_>) -> ActualImage {
    let base =
        |word: &str| word.split_once(':').map_or_else(|| (name(word), digest("d1")), |(base, content)| (name(base), digest(content)));
    let at = |key: &str, image: &str| words.list(key).iter().map(|name| (name.parse().unwrap(), digest(image))).collect::<Vec<_>>();
    let id = words.value("digest").unwrap_or("d1");
    ActualImage {
        digest: digest(id),
        published: at("published", id).into_iter().chain(at("outdated", "another")).collect(),
        applied: read_image(of, words),
        written: words.value("written").map(digest),
        bases: words.list("bases").into_iter().map(base).collect(),
        owner: owner(words),
        has_healthcheck: words.has("probed"),
        volumes: words.list("declares").into_iter().map(str::to_owned).collect(),
    }
}

fn present_network(words: &Words<'_>, next: Subnet) -> ActualNetwork {
    let applied = read_network(words);
    let subnet = words.parse("on").or(applied.subnet).unwrap_or(next);
    let gateway = applied.gateway.unwrap_or(subnet.first_host());
    let faults = words.list("fault").iter().map(|fault| fault.replace('-', " ")).collect();
    ActualNetwork { applied, written: words.value("written").map(digest), subnet, gateway, owner: owner(words), faults }
}

fn present_container(id: &ContainerId, words: &Words<'_>, actual: &mut Actual) -> ActualContainer {
    let applied = read_container(id.name.as_str(), words);
    let of = applied.image.to_string();
    let image = actual.images.entry(applied.image.clone()).or_insert_with(|| Observed::Present(present_image(&of, &Words(Vec::new()))));
    let known = match image {
        Observed::Present(image) => image.digest,
        Observed::Unreadable { .. } => digest("d1"),
    };
    let given: BTreeMap<&str, Ipv4Addr> = words
        .list("at")
        .into_iter()
        .map(|word| word.split_once(':').unwrap())
        .map(|(network, at)| (network, at.parse().unwrap()))
        .collect();
    let mut endpoints = Vec::new();
    if let NetworkMode::Networks(networks) = &applied.network {
        for (network, attachment) in networks {
            let subnet = match actual.networks.get(network) {
                Some(Observed::Present(network)) => network.subnet,
                Some(Observed::Unreadable { .. }) | None => Subnet::new(Ipv4Addr::new(172, 18, 0, 0), 16).unwrap(),
            };
            let taken: BTreeSet<Ipv4Addr> = actual
                .containers
                .values()
                .filter_map(|other| match other {
                    Observed::Present(other) => Some(other.endpoints.iter().map(|endpoint| endpoint.address)),
                    Observed::Unreadable { .. } => None,
                })
                .flatten()
                .collect();
            let free = subnet.hosts().skip(1).find(|address| !taken.contains(address)).unwrap();
            let address = given.get(network.as_str()).copied().or(attachment.address).unwrap_or(free);
            endpoints.push(Endpoint { network: network.clone(), address, aliases: BTreeSet::new() });
        }
    }
    ActualContainer {
        applied: Box::new(applied),
        written: words.value("written").map(digest),
        image: words.value("digest").map_or(known, digest),
        endpoints,
        owner: owner(words),
        phase: life(words),
        stopped_by_user: words.has("held"),
        completed: words.has("completed"),
        serving: !words.has("aside") && !words.has("created"),
        faults: faults(words),
    }
}
