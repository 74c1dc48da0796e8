//! Changes of what runs: in place where that can be, else a successor that is ready before its predecessor goes.

use anyhow::{Result, bail};
use std::fs;
use tests::host::{Host, eventually, is_root};

const NETWORK: &str = "kind: Network\nmetadata: {name: front}";
const BACK: &str = "kind: Network\nmetadata: {name: back}";

/// A web server; `more` are further lines of its spec.
fn web(more: &str) -> String {
    format!(
        "kind: Container\nmetadata: {{name: web}}\nspec:\n  image: box\n  command: [httpd, -f, -p, '80', -h, /www]\n  \
         volumes: ['./www:/www:ro']\n  stopGracePeriod: 1s\n{more}"
    )
}

/// A container that stays as it is while others change.
fn bystander() -> String {
    "kind: Container\nmetadata: {name: bystander}\nspec: {image: box, command: [sleep, '1000'], stopGracePeriod: 1s, networks: [front]}"
        .to_owned()
}

fn site(host: &Host, web: &str) -> Result<String> {
    host.files(&[("site/www/index.html", "first\n")])?;
    host.site("site", &[NETWORK, BACK, web, &bystander()])
}

#[test]
fn limits_labels_policy_ports_and_networks_change_on_the_running_process() -> Result<()> {
    if !is_root("limits_labels_policy_ports_and_networks_change_on_the_running_process") {
        return Ok(());
    }
    let host = Host::new()?;
    let mut spec = "  networks: [front]\n".to_owned();
    let directory = site(&host, &web(&spec))?;
    host.agent(&["apply", &directory]).ok()?;
    let pids = (host.pid("web")?, host.pid("bystander")?);
    for (change, says) in [
        ("  resources: {memory: 64Mi}\n", "resources.memory: none → 64Mi"),
        ("  restart: on-failure:3\n", "restart: "),
        ("  ports: ['8080:80']\n", "ports"),
    ] {
        spec.push_str(change);
        host.manifests("site", &[NETWORK, BACK, &web(&spec), &bystander()])?;
        let plan = host.agent(&["plan", &directory]);
        assert!(plan.code == 2 && plan.stdout.contains("~ container/web") && plan.stdout.contains(says), "{plan:?}");
        host.agent(&["apply", &directory]).ok()?;
        assert_eq!((host.pid("web")?, host.pid("bystander")?), pids, "after {change}");
        assert_eq!(host.agent(&["plan", &directory]).code, 0);
    }
    assert_eq!(host.json(&["container", "stats", "web"])?[0]["memoryLimitBytes"], 64 << 20);
    assert_eq!(host.page("127.0.0.1:8080/")?, "first\n");

    let spec = spec.replace("networks: [front]", "networks: [front, back]").replace("8080:80", "8081:80").replace("64Mi", "128Mi");
    let labelled = web(&spec).replace("{name: web}", "{name: web, labels: {tier: front}}");
    host.manifests("site", &[NETWORK, BACK, &labelled, &bystander()])?;
    host.agent(&["apply", &directory]).ok()?;
    assert_eq!((host.pid("web")?, host.pid("bystander")?), pids);
    assert_eq!(host.page("127.0.0.1:8081/")?, "first\n");
    assert!(host.page("127.0.0.1:8080/").is_err());
    let links = host.agent(&["container", "exec", "web", "ip", "-o", "link"]).ok()?;
    assert!(links.contains("eth0") && links.contains("eth1"), "{links}");
    assert_eq!(host.json(&["container", "stats", "web"])?[0]["memoryLimitBytes"], 128 << 20);
    assert_eq!(host.agent(&["plan", &directory]).code, 0);
    Ok(())
}

#[test]
fn what_cannot_change_in_place_replaces_that_container_alone() -> Result<()> {
    if !is_root("what_cannot_change_in_place_replaces_that_container_alone") {
        return Ok(());
    }
    let host = Host::new()?;
    let ports = "  ports: ['8080:80']\n  networks: [front]\n";
    let directory = site(&host, &web(ports))?;
    host.agent(&["apply", &directory]).ok()?;
    let bystander_pid = host.pid("bystander")?;
    let mut generation = 1;
    let mut changed = |what: &str, cause: &str| -> Result<()> {
        let plan = host.agent(&["plan", &directory]);
        assert!(plan.code == 2 && plan.stdout.contains(cause), "{what}: {plan:?}");
        host.agent(&["apply", &directory]).ok()?;
        generation += 1;
        assert_eq!(host.container_ids()?, ["bystander@1".to_owned(), format!("web@{generation}")], "{what}");
        assert_eq!(host.pid("bystander")?, bystander_pid, "{what}");
        assert_eq!(host.agent(&["plan", &directory]).code, 0, "{what}");
        Ok(())
    };
    let with_environment = format!("{ports}  env: {{GREETING: hello}}\n");
    host.manifests("site", &[NETWORK, BACK, &web(&with_environment), &bystander()])?;
    changed("environment", "env.GREETING: none → hello  (site.yaml:")?;

    let with_command = web(&with_environment).replace("[httpd, -f,", "[httpd, -f, -v,");
    host.manifests("site", &[NETWORK, BACK, &with_command, &bystander()])?;
    changed("command", "command: ")?;

    host.files(&[("site/www/index.html", "second\n")])?;
    changed("content", "volumes")?;
    assert_eq!(host.page("127.0.0.1:8080/")?, "second\n");
    // Only what is mounted is kept of the site's files.
    assert_eq!(fs::read_dir(host.places().state.join("content"))?.count(), 1);
    Ok(())
}

#[test]
fn a_changed_build_context_replaces_the_containers_of_that_image() -> Result<()> {
    if !is_root("a_changed_build_context_replaces_the_containers_of_that_image") {
        return Ok(());
    }
    let host = Host::new()?;
    let image = "kind: Image\nmetadata: {name: pages}\nspec: {build: {context: ./pages}}";
    let pages = "kind: Container\nmetadata: {name: web}\nspec: {image: pages, command: [cat, /page], restart: 'no', networks: [front]}";
    host.busybox("site/pages/busybox")?;
    let dockerfile = format!("{}COPY page /page\n", tests::questions::DOCKERFILE);
    host.files(&[("site/pages/Dockerfile", &dockerfile), ("site/pages/page", "first\n")])?;
    let directory = host.site("site", &[NETWORK, image, pages, &bystander()])?;
    host.agent(&["apply", &directory]).ok()?;
    let logged = |text: &str| {
        eventually(text, || match host.logs("web")? {
            logs if logs == text => Ok(()),
            logs => bail!("{logs}"),
        })
    };
    logged("first\n")?;
    let pid = host.pid("bystander")?;
    host.files(&[("site/pages/page", "second\n")])?;
    host.agent(&["apply", &directory]).ok()?;
    logged("second\n")?;
    assert_eq!((host.pid("bystander")?, host.container_ids()?), (pid, vec!["bystander@1".to_owned(), "web@2".to_owned()]));
    assert_eq!(host.agent(&["plan", &directory]).code, 0);
    Ok(())
}

#[test]
fn no_request_fails_while_a_container_is_replaced() -> Result<()> {
    if !is_root("no_request_fails_while_a_container_is_replaced") {
        return Ok(());
    }
    let host = Host::new()?;
    let spec = |version: u32| {
        web(&format!(
            "  ports: ['8080:80']\n  networks: [front]\n  env: {{VERSION: '{version}'}}\n  \
             healthcheck: {{test: [CMD, wget, -qO-, 'http://127.0.0.1/'], interval: 100ms, startPeriod: 60s}}\n"
        ))
    };
    let directory = site(&host, &spec(1))?;
    host.agent(&["apply", &directory]).ok()?;
    let visitor = host.visitor("127.0.0.1:8080/")?;
    for version in 2..=4 {
        host.manifests("site", &[NETWORK, BACK, &spec(version), &bystander()])?;
        host.agent(&["apply", &directory]).ok()?;
    }
    let (answers, failed) = visitor.end()?;
    assert!(answers > 50, "only {answers} answers");
    assert!(failed.is_empty(), "{} of {answers} requests failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    assert!(host.container_ids()?.contains(&"web@4".to_owned()));
    Ok(())
}

#[test]
fn a_writer_of_a_volume_is_stopped_before_its_successor_starts() -> Result<()> {
    if !is_root("a_writer_of_a_volume_is_stopped_before_its_successor_starts") {
        return Ok(());
    }
    let host = Host::new()?;
    let volume = "kind: Volume\nmetadata: {name: data}";
    let writer = |version: u32| {
        format!(
            "kind: Container\nmetadata: {{name: writer}}\nspec:\n  image: box\n  volumes: ['data:/data']\n  env: {{VERSION: '{version}'}}\n  \
             command: [sh, -c, 'echo begin $VERSION >>/data/lines; trap \"echo end $VERSION >>/data/lines; exit\" TERM; while :; do sleep 0.1; done']"
        )
    };
    let directory = host.site("site", &[volume, &writer(1)])?;
    let file = host.places().volume_data(&"data".parse()?).join("lines");
    let written = |text: &str| {
        eventually(text, || match fs::read_to_string(&file)? {
            lines if lines == text => Ok(()),
            lines => bail!("{lines}"),
        })
    };
    host.agent(&["apply", &directory]).ok()?;
    written("begin 1\n")?;
    host.manifests("site", &[volume, &writer(2)])?;
    let plan = host.agent(&["plan", &directory]);
    assert!(plan.stdout.contains("the old one goes first"), "{plan:?}");
    host.agent(&["apply", &directory]).ok()?;
    written("begin 1\nend 1\nbegin 2\n")?;
    Ok(())
}

#[test]
fn an_update_that_cannot_work_leaves_the_old_one_serving() -> Result<()> {
    if !is_root("an_update_that_cannot_work_leaves_the_old_one_serving") {
        return Ok(());
    }
    let host = Host::new()?;
    let good = web("  ports: ['8080:80']\n  networks: [front]\n");
    let directory = site(&host, &good)?;
    host.agent(&["apply", &directory]).ok()?;
    let pid = host.pid("web")?;
    let ends = good.replace("[httpd, -f, -p, '80', -h, /www]", "[sh, -c, 'echo no such shop; exit 7']");
    let missing = good.replace("[httpd, -f, -p, '80', -h, /www]", "[no-such-program]");
    let sick = format!("{good}  healthcheck: {{test: [CMD, sh, -c, 'echo it hurts; exit 1'], interval: 100ms, retries: 2}}\n");
    for (broken, reason) in [(&ends, "it ended with exit code 7"), (&missing, "no-such-program"), (&sick, "it hurts")] {
        host.manifests("site", &[NETWORK, BACK, broken, &bystander()])?;
        let apply = host.agent(&["apply", &directory]);
        assert_eq!(apply.code, 1, "{apply:?}");
        assert!(apply.stderr.contains(reason), "{reason}: {apply:?}");
        assert_eq!((host.page("127.0.0.1:8080/")?.as_str(), host.pid("web")?), ("first\n", pid), "{reason}");
        assert_eq!(host.agent(&["plan", &directory]).code, 2, "{reason}");
    }
    // Back to what runs: whatever the failed updates left goes, and nothing that runs is touched.
    host.manifests("site", &[NETWORK, BACK, &good, &bystander()])?;
    host.agent(&["apply", &directory]).ok()?;
    assert_eq!((host.container_ids()?, host.pid("web")?), (vec!["bystander@1".to_owned(), "web@1".to_owned()], pid));
    assert_eq!(host.agent(&["plan", &directory]).code, 0);
    Ok(())
}
