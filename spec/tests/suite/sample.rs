//! The site of the design, the short forms against the long ones, and defaults.

use super::site::Case;
use spec::Resolved;
use spec::desired::{Container, ImageKey, ImageSource, Kind, ResourceId, UpdateOrder};
use spec::diagnostic::{Style, render_all};

fn resolve(text: &str) -> Resolved {
    Case::new(text).load().unwrap_or_else(|problems| panic!("{}", render_all(&problems, Style::Plain)))
}

/// A site of one container with these fields.
fn container(fields: &str) -> Container {
    let site = resolve(&format!("apiVersion: agent/v1\nkind: Container\nmetadata: {{name: web}}\nspec: {{image: nginx, {fields}}}\n"));
    site.desired.containers.into_values().next().expect("there is one")
}

#[test]
fn the_sample_loads() {
    let site = resolve(include_str!("../valid/sample.yaml"));
    assert_eq!(render_all(&site.warnings, Style::Plain), "");
    let names = |text: &[&str]| text.iter().map(|name| name.parse().expect("a name")).collect::<Vec<spec::value::Name>>();
    assert_eq!(site.desired.containers.keys().cloned().collect::<Vec<_>>(), names(&["db", "web"]));
    assert_eq!(site.desired.networks.keys().cloned().collect::<Vec<_>>(), names(&["shop"]));
    assert_eq!(site.desired.volumes.keys().cloned().collect::<Vec<_>>(), names(&["shop-data"]));
    let images: Vec<String> = site.desired.images.keys().map(ToString::to_string).collect();
    assert_eq!(images, ["shop-web", "docker.io/library/redis:8"]);
}

#[test]
fn every_short_form_has_a_long_one() {
    let (short, long) = (resolve(include_str!("../valid/short.yaml")), resolve(include_str!("../valid/long.yaml")));
    assert_eq!(serde_json::to_value(&short.desired.containers).ok(), serde_json::to_value(&long.desired.containers).ok());
    assert_eq!(short.desired.images, long.desired.images);
    assert_eq!(short.desired.digest(), long.desired.digest());
}

#[test]
fn scalars_stay_as_written() {
    let web = resolve(include_str!("../valid/short.yaml")).desired.containers.pop_last().expect("web").1;
    let env: Vec<String> = web.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(env, ["DEBUG=on", "EMPTY=", "FROM_FILE=yes", "LOG=info", "VERSION=1.10"]);
    let web = container("env: {A: 0755, B: 1_000, C: 22:22, D: 1e3, E: yes, F: 0x1F, G: 2026-01-01, H: true, I: \"~\"}");
    let env: Vec<&str> = web.env.values().map(String::as_str).collect();
    assert_eq!(env, ["0755", "1_000", "22:22", "1e3", "yes", "0x1F", "2026-01-01", "true", "~"]);
}

#[test]
fn the_old_one_goes_first_where_both_would_be_in_the_way() {
    let order = |fields: &str| container(fields).update;
    assert_eq!(order(""), UpdateOrder::StartFirst);
    assert_eq!(order("ports: [\"80:80\"], tmpfs: /run, volumes: [\"/srv:/srv:ro\"]"), UpdateOrder::StartFirst);
    assert_eq!(order("volumes: [\"/srv:/srv\"]"), UpdateOrder::StopFirst);
    assert_eq!(order("networkMode: host"), UpdateOrder::StopFirst);
    assert_eq!(order("networkMode: host, update: start-first"), UpdateOrder::StartFirst);
    assert_eq!(order("update: stop-first"), UpdateOrder::StopFirst);
}

#[test]
fn capabilities_follow_dockers_rules() {
    let count = |fields: &str| container(fields).security.capabilities.len();
    assert_eq!(count(""), 14);
    assert_eq!(count("capabilities: {drop: [ALL]}"), 0);
    assert_eq!(count("capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}"), 1);
    assert_eq!(count("capabilities: {add: [ALL]}"), 41);
    assert_eq!(count("capabilities: {add: [ALL], drop: [SYS_ADMIN]}"), 40);
    assert_eq!(count("capabilities: {add: [CAP_SYS_TIME], drop: [chown]}"), 14);
}

#[test]
fn health_tests_come_in_composes_forms() {
    let test = |test: &str| container(&format!("healthcheck: {{test: {test}}}")).healthcheck.expect("a check").test;
    assert_eq!(test("[CMD, true, \"a b\"]"), ["true", "a b"]);
    assert_eq!(test("[CMD-SHELL, \"a | b\"]"), ["/bin/sh", "-c", "a | b"]);
    assert_eq!(test("a | b"), ["/bin/sh", "-c", "a | b"]);
    assert_eq!(test("[NONE]"), [""; 0]);
    assert_eq!(container("healthcheck: {disable: true}").healthcheck.expect("off").test, [""; 0]);
    assert_eq!(container("").healthcheck, None);
}

#[test]
fn a_command_is_replaced_or_kept() {
    assert_eq!(container("").command, None);
    assert_eq!(container("command: []").command, Some(vec![]));
    assert_eq!(container("args: [a, 1]").command, Some(vec!["a".to_owned(), "1".to_owned()]));
    assert_eq!(container("command: a b, args: c").command, Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
    assert_eq!(container("entrypoint: \"\"").entrypoint, Some(vec![]));
}

#[test]
fn an_empty_field_is_an_absent_one() {
    let digest = |text: &str| resolve(&format!("apiVersion: agent/v1\nkind: Container\nmetadata: {{name: web}}\n{text}")).desired.digest();
    let fields = "ports:\n  env:\n  volumes: ~\n  resources: null\n  healthcheck:\n  networks:\n";
    assert_eq!(digest(&format!("spec:\n  image: nginx\n  {fields}")), digest("spec: {image: nginx}\n"));
}

#[test]
fn bases_are_the_images_of_the_site() {
    let image =
        |name: &str, source: &str| format!("---\napiVersion: agent/v1\nkind: Image\nmetadata: {{name: {name}}}\nspec: {{{source}}}\n");
    let files = "#### web/Dockerfile\nFROM base\nFROM debian:12\nFROM scratch\n";
    let site = resolve(&format!("{}{}{files}", image("base", "pull: debian"), image("web", "build: ./web")));
    let source = &site.desired.images[&ImageKey::Named("web".parse().expect("a name"))].source;
    let ImageSource::Build { bases, context, dockerfile, .. } = source else { panic!("{source:?}") };
    assert_eq!(bases.iter().map(ToString::to_string).collect::<Vec<_>>(), ["base"]);
    assert_eq!((context.as_str(), dockerfile.as_str()), ("web", "Dockerfile"));
}

#[test]
fn content_of_a_site_is_part_of_the_identity_where_it_is_read_only() {
    let site = |text: &str| {
        let manifest = "apiVersion: agent/v1\nkind: Container\nmetadata: {name: web}\n";
        resolve(&format!("{manifest}spec: {{image: nginx, volumes: [\"./conf:/etc/x:ro\"]}}\n#### conf/a\n{text}\n")).desired.digest()
    };
    assert_eq!(site("a"), site("a"));
    assert_ne!(site("a"), site("b"));
}

#[test]
fn every_field_knows_where_it_was_written() {
    let site = resolve(include_str!("../valid/short.yaml"));
    let resource = |kind, name: &str| ResourceId { kind, name: name.to_owned() };
    let find = |kind, name, field| site.desired.origins.find(&resource(kind, name), field).map(|at| (at.line, at.column)).expect("written");
    let web = |field| find(Kind::Container, "web", field);
    assert_eq!(web(""), (17, 12));
    assert_eq!(web("image"), (19, 3));
    assert_eq!(web("env.LOG"), (22, 9));
    assert_eq!(web("env.DEBUG"), (22, 35));
    assert_eq!(web("env.FROM_FILE"), (22, 3));
    assert_eq!(web("ports"), (25, 3));
    assert_eq!(web("volumes./etc/shop"), (26, 40));
    assert_eq!(web("mounts./run"), (27, 3));
    assert_eq!(web("networks.shop"), (28, 14));
    assert_eq!(web("network"), (28, 3));
    assert_eq!(web("restart"), (29, 3));
    assert_eq!(web("stop.signal"), (30, 3));
    assert_eq!(web("healthcheck.test"), (32, 17));
    assert_eq!(web("labels.app"), (33, 12));
    // What was not written is shown at the resource.
    assert_eq!(web("logs.maxSize"), (17, 12));
    assert_eq!(find(Kind::Image, "shop-web", "source.build"), (4, 8));
    assert_eq!(find(Kind::Network, "shop", "labels.tier"), (8, 33));
}

#[test]
fn a_near_name_is_a_doubt_not_an_error() {
    let image = "apiVersion: agent/v1\nkind: Image\nmetadata: {name: shop-web}\nspec: {pull: nginx}\n";
    let web = |name: &str| format!("{image}---\napiVersion: agent/v1\nkind: Container\nmetadata: {{name: web}}\nspec: {{image: {name}}}\n");
    assert_eq!(resolve(&web("shop_web")).warnings.len(), 1);
    assert_eq!(resolve(&web("redis")).warnings.len(), 0);
    assert_eq!(resolve(&web("docker.io/library/shop_web")).warnings.len(), 0);
}

#[test]
fn what_is_written_is_told_apart_from_what_is_filled_in() {
    let manifest = |spec: &str| format!("apiVersion: agent/v1\nkind: Container\nmetadata: {{name: web}}\nspec: {{image: nginx, {spec}}}\n");
    let written = |text: &str| {
        let site = resolve(text).desired;
        site.written[&ResourceId { kind: Kind::Container, name: "web".to_owned() }]
    };
    let plain = written(&manifest("env: {A: b, C: d}, restart: always"));
    let reordered = "kind: Container\nmetadata:\n  name: web\nspec:\n  restart: \"always\" # said\n  env:\n    C: d\n    A: b\n  image: nginx\napiVersion: agent/v1\n";
    assert_eq!(plain, written(reordered), "neither order nor formatting counts");
    assert_ne!(plain, written(&manifest("env: {A: b, C: d}, restart: always, stopGracePeriod: 10s")), "a default that is written does");
    let env_file = |text: &str| written(&format!("{}#### a.env\n{text}\n", manifest("envFiles: a.env")));
    assert_ne!(env_file("A=b"), env_file("A=c"), "what a file beside it says does");
    let image = "apiVersion: agent/v1\nkind: Image\nmetadata: {name: nginx}\nspec: {pull: nginx}\n---\n";
    assert_ne!(written(&manifest("")), written(&format!("{image}{}", manifest(""))), "whether the image is one of the site does");
}
