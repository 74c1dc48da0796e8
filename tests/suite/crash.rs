//! Ends that nobody planned: the agent killed at any moment, its shims too, the machine switched off, the disk full. What runs
//! runs on, and the next start makes the best of what there is.

use crate::drift::numbers_without_a_gap;
use crate::measure;
use anyhow::{Context as _, Result, ensure};
use runtime::container::Snapshot;
use runtime::container::state::Phase;
use spec::value::{ContainerId, Name};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tests::host::{Host, eventually, is_root};
use tests::sample::{self, COUNTER, PORT, put};
use tests::view::{containers, is_settled, kill, page, printed, running, shim, vital};

/// How often the agent is killed.
const ROUNDS: u32 = 8;
/// The latest moment of a round at which it is killed: an edit takes about as long to become a page.
const ROUND_MS_MAX: u32 = 900;

/// The counter under another name, with another command and restart policy.
fn container(name: &str, command: &str, restart: &str) -> String {
    COUNTER
        .replace("{name: counter}", &format!("{{name: {name}}}"))
        .replace("i=0; while :; do echo $i; i=$((i+1)); /bin/busybox sleep 0.05; done", command)
        .replace("restart: always", &format!("restart: {restart}"))
}

/// Some moment below the limit; told, so that a failure can be understood.
fn moment(limit_ms: u32) -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    Duration::from_millis((nanos / 1_000 % limit_ms).into())
}

#[test]
fn an_agent_killed_at_any_moment_disturbs_nothing() -> Result<()> {
    if !is_root("an_agent_killed_at_any_moment_disturbs_nothing") {
        return Ok(());
    }
    let host = Host::new()?;
    let web: Name = "web".parse()?;
    let site = sample::write(&host, "site")?;
    let path = site.display().to_string();
    host.agent(&["apply", &path]).ok()?;
    let counter = vital(&host, "counter")?;
    for round in 0..ROUNDS {
        put(&site.join("page/index.html"), &format!("page {round}"))?;
        let verb = if round % 2 == 0 { "apply" } else { "watch" };
        let agent = host.spawn_agent(&[verb, &path])?;
        let lived = moment(ROUND_MS_MAX);
        std::thread::sleep(lived);
        drop(agent);
        let told = format!("{verb} killed after {} ms", lived.as_millis());
        ensure!(vital(&host, "counter").context(told.clone())? == counter, "{told}");
        // A web server there is at any moment, old or new.
        let served = eventually("a page without an agent", || page(&host, PORT)).context(told.clone())?;
        ensure!(served == "one" || served.starts_with("page "), "{told}: {served:?}");
        if round % 3 == 0 {
            kill(shim(&host, &counter.id)?)?;
        }
    }
    // Nobody is there but the shims: the restart policy goes on. Of the incarnations the last agent left, one is to stay; another
    // may have been asked to stop, and one may just be starting.
    let webs =
        || -> Result<BTreeMap<ContainerId, Snapshot>> { Ok(containers(&host)?.into_iter().filter(|(id, _)| id.name == web).collect()) };
    let before = webs()?;
    for snapshot in before.values() {
        if let Phase::Running { process, .. } = snapshot.state.phase {
            kill(process.pid)?;
        }
    }
    eventually("a restart without an agent", || {
        let after = webs()?;
        let is_again = |(id, old): (&ContainerId, &Snapshot)| {
            after.get(id).is_some_and(|new| new.state.restarts > old.state.restarts && matches!(new.state.phase, Phase::Running { .. }))
        };
        ensure!(before.iter().any(is_again), "{after:?}");
        Ok(())
    })?;
    // Not even shims: the next agent adopts what runs.
    for id in containers(&host)?.keys() {
        let _ = shim(&host, id).map(kill);
    }
    let watch = host.spawn_agent(&["watch", &path])?;
    eventually("a settled host", || is_settled(&host)).with_context(|| watch.output())?;
    eventually("the last page", || {
        ensure!(page(&host, PORT)? == format!("page {}", ROUNDS - 1));
        Ok(())
    })?;
    eventually("one incarnation of each", || {
        ensure!(containers(&host)?.len() == 2);
        Ok(())
    })?;
    ensure!(vital(&host, "counter")? == counter, "nothing restarted it");
    shim(&host, &counter.id)?;

    let printed = printed(&host, &counter.id)?;
    numbers_without_a_gap(&printed)?;
    ensure!(printed.lines().count() > 20);
    Ok(())
}

#[test]
fn a_start_whose_starter_is_killed_is_waited_for() -> Result<()> {
    if !is_root("a_start_whose_starter_is_killed_is_waited_for") {
        return Ok(());
    }
    let host = Host::new()?;
    host.busybox("image/busybox")?;
    host.files(&[("image/Dockerfile", "FROM scratch\nCOPY busybox /bin/busybox\n")])?;
    host.agent(&["image", "build", "--tag", "tools", &host.path().join("image").display().to_string()]).ok()?;
    host.agent(&["container", "run", "--detach", "--network", "none", "--name", "slow", "tools", "/bin/busybox", "sleep", "1000"]).ok()?;
    host.agent(&["container", "stop", "--time", "0", "slow"]).ok()?;
    // A shim that is slow: it holds its lock, as a starting one does, until it is told to go on.
    let path = |name: &str| host.path().join(name).display().to_string();
    let shim = tests::host::program("container-shim").display().to_string();
    let script = format!(
        "#!/bin/sh\nexec 9>>\"$3/containers/$4/shim.lock\"; flock 9; touch {}; until [ -e {} ]; do sleep 0.01; done\nexec 9>&-; exec {shim} \"$@\"\n",
        path("begun"),
        path("go")
    );
    host.files(&[("slow-shim", &script)])?;
    fs::set_permissions(path("slow-shim"), fs::Permissions::from_mode(0o755))?;
    let mut starter = host.command(tests::host::program("agent"));
    let mut starter = starter.args(["container", "start", "slow"]).env("AGENT_SHIM", path("slow-shim")).spawn()?;
    eventually("the slow shim", || Ok(fs::metadata(path("begun")).map(drop)?))?;
    starter.kill()?;
    starter.wait()?;
    // Longer than a shim waits for the lock of another one.
    let next = host.spawn_agent(&["container", "start", "slow"])?;
    std::thread::sleep(Duration::from_secs(3));
    fs::write(path("go"), "")?;
    let said = next.output_at_end()?;
    let state = host.agent(&["container", "inspect", "slow"]).ok()?;
    ensure!(said.contains("slow") && !said.contains("another shim") && state.contains("\"status\": \"running\""), "{said}{state}");
    host.agent(&["container", "rm", "--force", "slow"]).ok().map(drop)
}

#[test]
fn an_agent_that_starts_again_adopts_and_restarts_nothing() -> Result<()> {
    if !is_root("an_agent_that_starts_again_adopts_and_restarts_nothing") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = sample::write(&host, "site")?;
    let path = site.display().to_string();
    host.agent(&["apply", &path]).ok()?;
    let before = running(&host)?;
    for vital in before.values() {
        kill(shim(&host, &vital.id)?)?;
    }
    host.agent(&["apply", &path]).ok()?;
    ensure!(running(&host)? == before);
    for vital in before.values() {
        shim(&host, &vital.id)?;
    }
    ensure!(host.agent(&["plan", &path]).code == 0);
    Ok(())
}

#[test]
fn no_line_is_lost_or_doubled_when_shims_are_killed() -> Result<()> {
    if !is_root("no_line_is_lost_or_doubled_when_shims_are_killed") {
        return Ok(());
    }
    // Less than a log file holds: none is to be rotated away.
    const LINES: usize = 100_000;
    let host = Host::new()?;
    let site = sample::write(&host, "site")?;
    let burst = format!("i=0; while [ $i -lt {LINES} ]; do echo $i; i=$((i+1)); done; exec /bin/busybox sleep 1000");
    put(&site.join("burst.yaml"), &container("burst", &burst, "always"))?;
    let watch = host.spawn_agent(&["watch", &site.display().to_string()])?;
    let burst = eventually("the burst", || vital(&host, "burst"))?;
    let is_done = || {
        let mut log = fs::File::open(host.places().container(&burst.id).join("logs/current.log"))?;
        log.seek(SeekFrom::Start(log.metadata()?.len().saturating_sub(200)))?;
        let mut end = String::new();
        log.read_to_string(&mut end)?;
        ensure!(end.contains(&format!("\"{}\\n\"", LINES - 1)), "{end}");
        Ok(())
    };
    let (mut killed, deadline) = (0, Instant::now() + Duration::from_secs(60));
    while is_done().is_err() && Instant::now() < deadline {
        // None is there between its end and its successor.
        if let Ok(pid) = shim(&host, &burst.id) {
            kill(pid)?;
            killed += 1;
        }
        std::thread::sleep(moment(50));
    }
    eventually("the last line", is_done).with_context(|| watch.output())?;
    ensure!(vital(&host, "burst")? == burst, "it lived through it all");
    eprintln!("MEASURED shims killed while {LINES} lines were printed: {killed}");
    let printed = printed(&host, &burst.id)?;
    ensure!(printed.lines().count() == LINES);
    numbers_without_a_gap(&printed)
}

#[test]
fn after_a_boot_everything_comes_back_that_should() -> Result<()> {
    if !is_root("after_a_boot_everything_comes_back_that_should") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = sample::write(&host, "site")?;
    let forever = "exec /bin/busybox sleep 1000";
    for (name, command, restart) in [
        ("lasting", forever, "unless-stopped"),
        ("held", forever, "unless-stopped"),
        ("stopped", forever, "always"),
        ("job", "echo ran >> /data/ran", "no"),
        ("retried", "echo ran >> /data/retried", "on-failure:3"),
    ] {
        put(&site.join(format!("{name}.yaml")), &container(name, command, restart))?;
    }
    let path = site.display().to_string();
    host.agent(&["apply", &path]).ok()?;
    host.agent(&["container", "stop", "held", "stopped"]).ok()?;
    let is_done = |name: &str| {
        let found = containers(&host)?.into_iter().find(|(id, _)| id.name.as_str() == name).context("a job")?.1;
        ensure!(matches!(found.state.phase, Phase::Exited { .. } | Phase::Created), "{found:?}");
        Ok(())
    };
    eventually("a finished job", || is_done("job"))?;
    eventually("a finished retried job", || is_done("retried"))?;
    switch_off(&host)?;
    ensure!(page(&host, PORT).is_err() && running(&host)?.is_empty());

    let booted = Instant::now();
    let watch = host.spawn_agent(&["watch", &path])?;
    eventually("a settled host", || is_settled(&host)).with_context(|| watch.output())?;
    measure("boot to a settled host, five containers", booted);
    ensure!(page(&host, PORT)? == "one");
    let names: Vec<String> = running(&host)?.into_keys().collect();
    ensure!(names == ["counter", "lasting", "stopped", "web"], "{names:?}\n{}", watch.output());
    for name in ["job", "retried"] {
        is_done(name)?;
    }
    let data = host.places().volume_data(&"data".parse()?);
    ensure!(fs::read_to_string(data.join("ran"))? == "ran\n" && fs::read_to_string(data.join("retried"))? == "ran\n");
    ensure!(host.agent(&["plan", &path]).code == 0, "nothing is left to do");
    Ok(())
}

/// Leaves what a machine that is switched off leaves: the disk.
fn switch_off(host: &Host) -> Result<()> {
    let (run, instance) = (host.places().run, host.places().instance());
    for (id, snapshot) in containers(host)? {
        // Those that ended have none.
        let _ = shim(host, &id).map(kill);
        if let Phase::Running { process, .. } = snapshot.state.phase {
            kill(process.pid)?;
        }
        let _ =
            Command::new("umount").stderr(Stdio::null()).args(["-l", "-q"]).arg(host.places().container_run(&id).join("netns")).status();
    }
    fs::remove_dir_all(run)?;
    let links: serde_json::Value = serde_json::from_str(&host.run("ip", &["-json", "link"]).ok()?)?;
    for link in links.as_array().into_iter().flatten().filter(|link| link["ifname"] != "lo") {
        // The other end of one that went is gone already.
        host.run("ip", &["link", "del", link["ifname"].as_str().unwrap_or_default()]);
    }
    host.run("nft", &["flush", "ruleset"]).ok()?;
    eventually("no control group", || {
        let groups = control_groups(&instance);
        groups.iter().rev().for_each(|group| drop(fs::remove_dir(group)));
        ensure!(control_groups(&instance).is_empty(), "{groups:?}");
        Ok(())
    })
}

/// The instance's groups in every hierarchy, those of containers after their parent.
fn control_groups(instance: &str) -> Vec<PathBuf> {
    let directories = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
    };
    let root = PathBuf::from("/sys/fs/cgroup");
    let parents = directories(&root).into_iter().chain([root]).map(|hierarchy| hierarchy.join(instance));
    parents.filter(|parent| parent.is_dir()).flat_map(|parent| [vec![parent.clone()], directories(&parent)].concat()).collect()
}

#[test]
fn a_watch_with_nothing_to_do_writes_nothing_and_says_nothing() -> Result<()> {
    if !is_root("a_watch_with_nothing_to_do_writes_nothing_and_says_nothing") {
        return Ok(());
    }
    let host = Host::new()?;
    let site = sample::write(&host, "site")?;
    fs::remove_file(site.join("counter.yaml"))?;
    for number in 0..3 {
        let name = format!("idle-{number}");
        put(&site.join(format!("{name}.yaml")), &container(&name, "exec /bin/busybox sleep 1000", "always"))?;
    }
    let watch = host.spawn_agent(&["watch", "--drift-interval", "200ms", &site.display().to_string()])?;
    eventually("a settled host", || is_settled(&host)).with_context(|| watch.output())?;
    // The hints of its own last changes are followed too.
    let look = || (written(&host.places().state), written(&host.places().run), watch.output());
    let before = eventually("quiet", || {
        let before = look();
        std::thread::sleep(Duration::from_millis(500));
        ensure!(before == look());
        Ok(before)
    })?;
    let cycles_before = processor_time(watch.pid())?;
    std::thread::sleep(Duration::from_secs(3));
    let after = look();
    ensure!(processor_time(watch.pid())? > cycles_before, "it did look");
    let changed: Vec<_> = [(&before.0, &after.0), (&before.1, &after.1)]
        .iter()
        .flat_map(|(before, after)| {
            after.iter().filter(|(path, state)| before.get(*path) != Some(state)).map(|(path, _)| path.display().to_string())
        })
        .collect();
    ensure!(before == after, "changed: {changed:?}, said: {}", &after.2[before.2.len()..]);
    Ok(())
}

/// Every file and directory below a root, by size, inode and the times of its last change.
fn written(root: &Path) -> BTreeMap<PathBuf, (u64, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        found.insert(path, (metadata.len(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
    }
    found
}

/// Clock ticks a process has used: fields 14 and 15 of proc_pid_stat(5).
fn processor_time(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// A small disk for the agent's state. Empty and unmounted when dropped.
struct SmallDisk<'a> {
    host: &'a Host,
}

impl<'a> SmallDisk<'a> {
    fn mount(host: &'a Host, size: &str) -> Result<Self> {
        let state = host.places().state;
        fs::create_dir(&state)?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&state).status()?;
        ensure!(mounted.success(), "mount a tmpfs");
        Ok(Self { host })
    }

    /// Writes until there is no room for a single block.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.host.places().state.join("ballast");
        let mut file = fs::File::create(&path)?;
        let full = std::io::copy(&mut std::io::repeat(1), &mut file);
        ensure!(full.is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull));
        Ok(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let state = self.host.places().state;
        let _ = fs::remove_file(state.join("ballast"));
        // It cannot remove the mount point, and says so.
        self.host.agent(&["system", "reset", "--force"]);
        let _ = Command::new("umount").arg(&state).status();
        let _ = fs::remove_dir(&state);
    }
}

#[test]
fn a_full_disk_is_named_and_what_runs_runs_on() -> Result<()> {
    if !is_root("a_full_disk_is_named_and_what_runs_runs_on") {
        return Ok(());
    }
    let host = Host::new()?;
    let disk = SmallDisk::mount(&host, "32m")?;
    let site = sample::write(&host, "site")?;
    let path = site.display().to_string();
    host.agent(&["apply", &path]).ok()?;
    let before = running(&host)?;

    let ballast = disk.fill()?;
    put(&site.join("page/index.html"), "two")?;
    let failed = host.agent(&["apply", &path]);
    ensure!(failed.code == 1, "{failed:?}");
    ensure!(format!("{}{}", failed.stdout, failed.stderr).contains("No space left on device"), "{failed:?}");
    ensure!(running(&host)? == before && page(&host, PORT)? == "one", "they run on");
    // Liveness needs no disk.
    kill(before["counter"].pid)?;
    eventually("a restart on a full disk", || {
        ensure!(vital(&host, "counter")?.restarts == 1);
        Ok(())
    })?;
    host.agent(&["container", "ps"]).ok()?;
    host.agent(&["status"]).ok()?;

    fs::remove_file(ballast)?;
    host.agent(&["apply", &path]).ok()?;
    ensure!(page(&host, PORT)? == "two" && vital(&host, "counter")?.restarts == 1);
    ensure!(host.agent(&["plan", &path]).code == 0, "nothing is left to do");
    Ok(())
}
