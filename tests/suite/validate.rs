//! Manifests that are wrong: every problem with its place and a remedy, and nothing changes.

use anyhow::Result;
use std::fs;
use tests::host::{Host, is_root};

const BROKEN: &str = "\
apiVersion: agent/v1
kind: Container
metadata: {name: web}
spec:
  image: web:1
  comand: [httpd]
  ports: ['8080:http']
  dependsOn: {databse: healthy}
---
apiVersion: agent/v1
kind: Container
metadata: {name: database}
spec: {image: db:1, resources: {memory: lots}}
";

#[test]
fn every_problem_is_told_in_one_pass() -> Result<()> {
    if !is_root("every_problem_is_told_in_one_pass") {
        return Ok(());
    }
    let host = Host::new()?;
    let site =
        host.files(&[("site/web.yaml", BROKEN), ("site/more/data.yml", "apiVersion: agent/v1\nkind: Volum\nmetadata: {name: data}\n")])?;
    let site = site.to_str().expect("a text");
    let ran = host.agent(&["validate", site]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    for expected in
        ["web.yaml:6:3", "write `command`", "web.yaml:7:", "web.yaml:13:", "more/data.yml:2:", "write Volume", "nothing was changed"]
    {
        assert!(ran.stderr.contains(expected), "{expected} is missing in\n{}", ran.stderr);
    }
    let lines = tests::questions::lines_of_json(&host.agent(&["validate", "--json", site]).stdout)?;
    assert!(lines.len() >= 4 && lines.iter().all(|line| line["type"] == "diagnostic"), "{lines:?}");
    Ok(())
}

#[test]
fn a_broken_site_changes_nothing() -> Result<()> {
    if !is_root("a_broken_site_changes_nothing") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = host.files(&[("site/web.yaml", BROKEN)])?;
    let site = site.to_str().expect("a text");
    for command in [&["plan", site][..], &["apply", site], &["destroy", "--yes", site]] {
        let ran = host.agent(command);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(!host.places().state.join("containers").exists(), "{command:?}");
    }
    // A site that ran goes on running when its manifests break.
    let good = "kind: Container\nmetadata: {name: web}\nspec: {image: box, command: [sleep, '1000'], stopGracePeriod: 1s}";
    let directory = host.site("other", &[good])?;
    host.agent(&["apply", &directory]).ok()?;
    let pid = host.pid("web")?;
    fs::write(host.path().join("other/broken.yaml"), BROKEN)?;
    assert_eq!(host.agent(&["apply", &directory]).code, 1);
    assert_eq!(host.pid("web")?, pid);
    // Neither an empty directory nor a missing one is a wish to remove everything.
    fs::create_dir(host.path().join("empty"))?;
    for name in ["empty", "missing"] {
        let ran = host.agent(&["apply", host.path().join(name).to_str().expect("a text")]);
        assert_eq!(ran.code, 1, "{ran:?}");
    }
    assert_eq!(host.pid("web")?, pid);
    Ok(())
}

#[test]
fn a_wrong_command_line_is_no_plan_with_changes() {
    let program = tests::host::program("agent");
    let run =
        |arguments: &[&str]| std::process::Command::new(&program).args(arguments).output().map(tests::host::Ran::from).expect("agent runs");
    assert_eq!(run(&["aply"]).code, 2);
    assert!(run(&["aply"]).stderr.contains("'apply'"));
    assert_eq!(run(&["--version"]).code, 0);
    assert_eq!(run(&["--help"]).code, 0);
}
