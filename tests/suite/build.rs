//! `agent image build` as people use it: what it says, what it is given, what it leaves behind.

use anyhow::{Result, ensure};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use tests::host::{Host, eventually, is_root, program};
use tests::sample;

/// Builds a Dockerfile over the context that has a static busybox.
fn dockerfile(text: &str) -> String {
    format!("FROM scratch AS box\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nFROM box\n{text}")
}

/// A host with a context; the path of the context.
fn host() -> Result<(Host, String)> {
    let host = Host::new()?;
    host.busybox("context/busybox")?;
    let context = host.path().join("context").display().to_string();
    Ok((host, context))
}

#[test]
fn a_failing_step_is_shown_with_its_lines_and_its_log() -> Result<()> {
    if !is_root("a_failing_step_is_shown_with_its_lines_and_its_log") {
        return Ok(());
    }
    let (host, context) = host()?;
    fs::write(host.path().join("context/Dockerfile"), dockerfile("RUN echo fine\nRUN echo so far && \\\n    exit 9\n"))?;
    let failed = host.agent(&["image", "build", &context]);
    assert_eq!(failed.code, 1);
    for expected in [
        "[stage-1 3/3] RUN echo so far",
        " so far\n",
        ">>>     exit 9",
        "exit code 9",
        "DONE",
        "ERROR after",
        "all that the build said is in ",
    ] {
        assert!(failed.stderr.contains(expected), "{expected}: {failed:?}");
    }
    let log = failed.stderr.split("all that the build said is in ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let log = fs::read_to_string(log)?;
    assert!(log.contains("[box 3/3] RUN") && log.contains(" so far\n"), "{log}");
    let quiet = host.agent(&["image", "build", "-q", "--target", "box", &context]).ok()?;
    assert!(quiet.starts_with("sha256:") && quiet.lines().count() == 1, "{quiet}");
    let again = host.agent(&["image", "build", "--target", "box", "--iidfile", &format!("{context}/../id"), &context]);
    assert!(again.stderr.contains("#3 CACHED") && !again.stderr.contains("#3 DONE"), "{again:?}");
    assert_eq!(fs::read_to_string(host.path().join("id"))?, quiet.trim());
    let other = host.agent(&["image", "build", "--platform", "plan9/z80", &context]);
    assert!(other.code == 1 && other.stderr.contains("not for plan9/z80: there is no emulation"), "{other:?}");
    Ok(())
}

#[test]
fn secrets_and_caches_by_hand() -> Result<()> {
    if !is_root("secrets_and_caches_by_hand") {
        return Ok(());
    }
    let (host, context) = host()?;
    let text = "RUN --mount=type=secret,id=token,required --mount=type=cache,target=/cache,id=work \
                cat /run/secrets/token && busybox sha256sum < /run/secrets/token > /sum && echo x > /cache/x\n";
    fs::write(host.path().join("context/Dockerfile"), dockerfile(text))?;
    fs::write(host.path().join("token"), "hush-hush")?;
    let secret = format!("id=token,src={}", host.path().join("token").display());
    let refused = host.agent(&["image", "build", &context]);
    assert!(refused.code == 1 && refused.stderr.contains("secret \"token\" is required and was not given: see --secret"), "{refused:?}");
    let built = host.agent(&["image", "build", "--secret", &secret, "-t", "box", &context]);
    assert!(built.code == 0 && built.stderr.contains(" ***") && !built.stderr.contains("hush-hush"), "{built:?}");
    let listed = host.agent(&["image", "cache", "ls"]).ok()?;
    assert!(listed.lines().nth(1).is_some_and(|line| line.starts_with("work ")), "{listed}");
    assert_eq!(host.agent(&["image", "cache", "prune", "--unused-for", "1h"]).ok()?, "");
    assert_eq!(host.agent(&["image", "cache", "rm", "work"]).ok()?, "work\n");
    assert_eq!(host.agent(&["image", "cache", "ls"]).ok()?.lines().count(), 1);
    Ok(())
}

#[test]
fn a_cache_left_in_a_directory_serves_another_host() -> Result<()> {
    if !is_root("a_cache_left_in_a_directory_serves_another_host") {
        return Ok(());
    }
    let ((here, context), (there, other)) = (host()?, host()?);
    for host in [&here, &there] {
        fs::write(host.path().join("context/Dockerfile"), dockerfile("RUN echo once > /once\n"))?;
    }
    let cache = here.path().join("cache").display().to_string();
    let first = here.agent(&["image", "build", "-q", "--cache-to", &format!("type=local,dest={cache},mode=max"), &context]).ok()?;
    let built = there.agent(&["image", "build", "--cache-from", &format!("type=local,src={cache}"), &other]);
    assert_eq!(built.stdout, first);
    assert_eq!(built.stderr.matches(" CACHED").count(), 3, "{built:?}");
    let missing = there.agent(&["image", "build", "--cache-from", "type=local,src=/no/such", &other]);
    assert!(missing.code == 0 && missing.stderr.contains("no cache from type=local,src=/no/such"), "{missing:?}");
    Ok(())
}

#[test]
fn the_network_of_a_step_is_nobodys_drift_and_gone_with_its_build() -> Result<()> {
    if !is_root("the_network_of_a_step_is_nobodys_drift_and_gone_with_its_build") {
        return Ok(());
    }
    let (host, context) = host()?;
    let site = sample::write(&host, "site")?.display().to_string();
    host.agent(&["apply", &site]).ok()?;
    let links = || host.run("ip", &["-br", "link"]).ok();
    let tables = || host.run("nft", &["list", "tables"]).ok();
    let (links_before, tables_before) = (links()?, tables()?);
    fs::write(host.path().join("context/slow"), dockerfile("RUN echo begun; sleep 1000\n"))?;
    let slow = host.spawn_agent(&["image", "build", "-f", "slow", &context])?;
    eventually("the command runs", || {
        ensure!(slow.output().contains(" begun\n"), "{}", slow.output());
        Ok(())
    })?;
    ensure!(links()?.contains("hab-0") && tables()?.contains("table ip agent-build-"), "{}{}", links()?, tables()?);
    ensure!(host.agent(&["plan", &site]).code == 0, "a build is no reason to repair anything");
    // Another build beside it, with a server of the host to be reached.
    fs::write(host.path().join("context/page"), "served")?;
    let _server = host.spawn("/bin/busybox", &["httpd", "-f", "-p", "8090", "-h", &context])?;
    let asks = "RUN gateway=$(ip route | sed -n 's/default via //;s/ dev.*//p' | head -n 1); ip addr | grep -o 'inet 198[0-9.]*'; \
                until wget -q -O- http://$gateway:8090/page; do sleep 0.1; done\n";
    fs::write(host.path().join("context/Dockerfile"), dockerfile(asks))?;
    let beside = host.agent(&["image", "build", &context]);
    ensure!(beside.code == 0 && beside.stderr.contains("inet 198.18.0.6") && beside.stderr.contains(" served"), "{beside:?}");
    slow.signal("KILL")?;
    eventually("the kernel takes it away", || {
        ensure!((links()?, tables()?) == (links_before.clone(), tables_before.clone()), "{}{}", links()?, tables()?);
        Ok(())
    })?;
    ensure!(host.agent(&["plan", &site]).code == 0);
    let refused = host.agent(&["image", "build", "--ssh", &format!("default={context}/page"), &context]);
    refused.err_with("it is no private key as ssh-keygen writes it")?;
    Ok(())
}

/// Both are process 1 of their namespace: what is named after a process would be the same.
#[test]
fn builds_in_two_process_namespaces_do_not_meet() -> Result<()> {
    if !is_root("builds_in_two_process_namespaces_do_not_meet") {
        return Ok(());
    }
    let (host, context) = host()?;
    // Both have a step at the same time, and the one's ends while the other's goes on, with its processes and its network.
    let step = |command: &str| format!("RUN --mount=type=cache,target=/c {command}\n");
    let until = |file: &str| format!("for i in $(seq 1200); do [ -e /c/{file} ] && break; sleep 0.05; done; [ -e /c/{file} ]");
    let one = step(&format!("touch /c/one; {}", until("two"))) + &step("touch /c/ended; echo one done");
    let two = step(&format!("touch /c/two; {} && {} && ip route | grep default && echo two done", until("one"), until("ended")));
    for (name, text) in [("one", one), ("two", two)] {
        fs::write(host.path().join("context").join(name), dockerfile(&text))?;
    }
    let agent = program("agent").display().to_string();
    let build = |file: &str| {
        format!("unshare --pid --fork --mount-proc {agent} image build --no-cache -f {file} {context} >{context}/../{file}.log 2>&1")
    };
    let both = format!("({}) & first=$!; ({}); second=$?; wait $first && exit $second", build("one"), build("two"));
    let ran = host.run("sh", &["-c", &both]);
    let logs = ["one", "two"].map(|name| fs::read_to_string(host.path().join(format!("{name}.log"))).unwrap_or_default());
    ensure!(ran.code == 0 && logs[0].contains(" one done") && logs[1].contains(" two done"), "{ran:?}\n{}\n{}", logs[0], logs[1]);
    ensure!(!host.run("nft", &["list", "tables"]).ok()?.contains("agent-build"), "a table is left");
    Ok(())
}

#[test]
fn a_result_goes_where_output_says() -> Result<()> {
    if !is_root("a_result_goes_where_output_says") {
        return Ok(());
    }
    let (host, context) = host()?;
    fs::write(host.path().join("context/Dockerfile"), "FROM scratch\nCOPY --chown=3:4 --chmod=640 Dockerfile /d/f\nLABEL a=b\n")?;
    let path = |name: &str| host.path().join(name).display().to_string();
    let build = |arguments: &[&str]| host.agent(&[&["image", "build", "-q", &context], arguments].concat());
    let id = build(&["-o", &path("files"), "-t", "one", "-t", "two:2"]).ok()?;
    let file = fs::metadata(path("files/d/f"))?;
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o640, 0), "the files are the caller's");
    fs::write(path("files/mine"), "mine")?;
    build(&["-o", &format!("type=local,dest={}", path("files"))]).ok()?;
    assert!(host.path().join("files/mine").exists(), "what was there stays");
    build(&["-o", &format!("type=tar,dest={}", path("tar"))]).ok()?;
    let listed = host.run("tar", &["--numeric-owner", "-tvf", &path("tar")]).ok()?;
    assert!(listed.lines().any(|line| line.starts_with("-rw-r----- 3/4") && line.ends_with(" d/f")), "{listed}");
    assert_eq!(build(&["-o", "-"]).ok()?.as_bytes(), fs::read(path("tar"))?, "nothing but the archive");
    let (oci, docker, layout) = (path("oci"), path("docker"), path("layout"));
    let outputs = [format!("type=oci,dest={oci}"), format!("type=docker,dest={docker}"), format!("type=oci,tar=false,dest={layout}")];
    build(&["-t", "three", "-o", &outputs[0], "-o", &outputs[1], "-o", &outputs[2], "--metadata-file", &path("metadata")]).ok()?;
    for archive in [&oci, &docker, &layout] {
        assert_eq!(host.agent(&["image", "import", archive]).ok()?, id, "{archive}");
    }
    assert!(host.run("tar", &["-xOf", &docker, "manifest.json"]).ok()?.contains("\"three:latest\""));
    assert!(fs::read_to_string(path("metadata"))?.contains(id.trim()));
    let inspect = |name: &str| host.agent(&["image", "inspect", name]).ok();
    assert_eq!(inspect("one")?, inspect("two:2")?);
    build(&["-o", "type=zip,dest=x"]).err_with("there is no type \"zip\"")?;
    build(&["--push"]).err_with("--tag registry.example/shop/web:1")
}
