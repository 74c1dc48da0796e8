//! Checks of Dockerfiles: by themselves, and beside a build.

use anyhow::{Result, ensure};
use tests::host::{Host, is_root};
use tests::questions::lines_of_json;

#[test]
fn what_builds_but_is_not_meant_is_told_with_its_place() -> Result<()> {
    if !is_root("lint") {
        return Ok(());
    }
    let host = Host::new()?;
    let dockerfile = "FROM scratch as base\nENV P=$PAHT:/x\nLABEL a=b\nCMD run it\n";
    let web = host.files(&[("web/Dockerfile", dockerfile), ("web/.dockerignore", "x\n"), ("good/Dockerfile", "FROM scratch\n")])?;
    let web = web.to_str().expect("a text");
    let told = host.agent(&["image", "lint", web]);
    ensure!(told.code == 1, "{told:?}");
    for expected in [
        "Dockerfile:1:14",
        "FromAsCasing",
        "Dockerfile:2:7",
        "did you mean $PATH?",
        "^^^^^",
        "Dockerfile:4:1",
        "write CMD [\"run\", \"it\"]",
    ] {
        ensure!(told.stdout.contains(expected), "{expected} is missing in\n{}", told.stdout);
    }
    ensure!(told.stderr.contains("3 warnings"), "{}", told.stderr);
    let lines = lines_of_json(&host.agent(&["image", "lint", "--json", &format!("{web}/Dockerfile")]).stdout)?;
    ensure!(lines.len() == 3 && lines[1]["rule"] == "UndefinedVar" && lines[1]["diagnostic"]["place"]["column"] == 7, "{lines:?}");
    ensure!(!host.places().state.exists(), "a check leaves nothing behind");

    let good = web.replace("/web", "/good");
    ensure!(host.agent(&["image", "lint", &good]).code == 0);
    let built = host.agent(&["image", "build", web]);
    ensure!(built.code == 0 && built.stderr.contains("3 warnings, see agent image lint"), "{built:?}");
    host.files(&[("web/Dockerfile", &format!("# check=error=true\n{dockerfile}"))])?;
    let refused = host.agent(&["image", "build", web]);
    ensure!(refused.code == 1 && refused.stderr.contains("FromAsCasing") && refused.stderr.contains("Dockerfile:2:14"), "{refused:?}");
    host.files(&[("web/Dockerfile", &format!("# check=error=true;skip=all\n{dockerfile}"))])?;
    ensure!(host.agent(&["image", "build", web]).code == 0);
    Ok(())
}
