//! RUN in a container of its own.

use crate::site::{Site, control_groups};
use runtime::builder::file::RunNetwork;
use runtime::builder::{CacheMounts, HostNetwork, Secret, SshAgent};
use runtime::image::store::Limits;
use std::fs;
use std::path::PathBuf;

#[test]
fn what_a_command_changes_is_a_layer() {
    let Some(site) = Site::with_busybox() else { return };
    site.file("old", "old");
    let built = site.build("FROM busybox\nCOPY old /d/old\nRUN echo new > /d/new && rm /d/old && mkdir -m 700 /e && chown 5:6 /e");
    assert_eq!(built.below("/d"), ["/d 0755 0:0 d", "/d/new 0644 0:0 f new\n"]);
    assert_eq!(built.below("/e"), ["/e 0700 5:6 d"]);
    let empty = site.build("FROM scratch\nCOPY --from=busybox /bin/busybox /\nRUN [\"/busybox\", \"true\"]");
    assert_eq!(empty.tree.keys().collect::<Vec<_>>(), ["/busybox"], "mount points of the runtime are not left in the image");
    assert_eq!(empty.config.rootfs.diff_ids.len(), 1, "a step that changes nothing makes no layer");
    assert!(empty.config.history[1].empty_layer);
    let nothing = site.build("FROM busybox\nRUN\nRUN --mount=type=tmpfs,target=/m\n");
    assert_eq!(nothing.config.rootfs.diff_ids, site.build("FROM busybox").config.rootfs.diff_ids, "a shell without a command");
}

#[test]
fn commands_see_their_surroundings() {
    let Some(mut site) = Site::with_busybox() else { return };
    site.request.args =
        [("GIVEN", "g"), ("UNDECLARED", "u"), ("http_proxy", "proxy.invalid")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let text = "FROM busybox\nARG GIVEN\nARG DEFAULT=d\nENV E=e DEFAULT=env\nWORKDIR /w\nUSER www\n\
                RUN echo \"$GIVEN $DEFAULT $E [$UNDECLARED] $http_proxy $PWD\"; id -u; id -g; pwd";
    let built = site.build(text);
    let lines: Vec<_> = built.events.iter().filter_map(|event| event.strip_prefix("3> ")).collect();
    assert_eq!(lines, ["g env e [] proxy.invalid /w", "33", "34", "/w"]);
    assert_eq!(built.below("/w"), ["/w 0755 0:0 d"]);
    assert!(!format!("{:?}", built.config).contains("proxy.invalid"));
}

#[test]
fn heredocs_are_run() {
    let Some(site) = Site::with_busybox() else { return };
    let built = site.build(
        "FROM busybox\nENV A=1\nRUN <<EOF\necho $A > /a\necho two >> /a\nEOF\nRUN cat <<X <<-Y > /b\n$A\nX\n\ty\n\tY\n\
         RUN <<S\n#!/bin/sh\necho $0 > /c\nS\nCOPY <<'raw' <<cooked /d/\n$A\nraw\n$A\ncooked",
    );
    assert_eq!(built.below("/a"), ["/a 0644 0:0 f 1\ntwo\n"]);
    assert_eq!(built.below("/b"), ["/b 0644 0:0 f y\n"]);
    assert_eq!(built.below("/c"), ["/c 0644 0:0 f /dev/pipes/S\n"]);
    assert_eq!(built.below("/d"), ["/d 0755 0:0 d", "/d/cooked 0644 0:0 f 1\n", "/d/raw 0644 0:0 f $A\n"]);
}

#[test]
fn mounts_are_seen_and_not_kept() {
    let Some(site) = Site::with_busybox() else { return };
    site.file("src/a", "a").file("src/hidden", "h").file(".dockerignore", "src/hidden\n");
    let run =
        |options: &str, command: &str| format!("FROM busybox AS base\nRUN echo s > /s\nFROM busybox\nRUN --mount={options} {command}");
    let cases = [
        ("target=/m,source=src", "ls -A /m && cat /m/a > /out && ! touch /m/x", "a"),
        ("type=bind,target=/m/f,source=src/a", "cat /m/f > /out", "a"),
        ("target=/m,from=base,rw", "touch /m/x && cat /m/s > /out", "s\n"),
        ("type=tmpfs,target=/m", "cd /m && echo exit 3 > f && chmod +x f; ./f; echo $? > /out", "3\n"),
        ("type=tmpfs,target=/m,size=64k", "dd if=/dev/zero of=/m/x bs=1k count=100 2> /dev/null; stat -c %s /m/x > /out", "65536\n"),
        ("type=tmpfs,target=/m,ro", "! touch /m/x && echo ok > /out", "ok\n"),
        ("target=/m,source=src,Z --mount=type=tmpfs,target=/m", "ls /m > /out; echo last > /m/x; cat /m/x >> /out", "last\n"),
        ("type=tmpfs,target=/m/t --mount=target=/m,from=base,rw", "cat /m/s > /m/t/s && ls /m/t > /out", "s\n"),
        ("type=cache,target=/m,id=c,mode=0700,uid=5", "stat -c '%a %u' /m > /out; echo kept > /m/x", "700 5\n"),
        ("type=cache,target=/n,id=c,sharing=locked", "cat /n/x > /out", "kept\n"),
        ("type=cache,target=/n,id=c,ro", "! touch /n/y && cat /n/x > /out", "kept\n"),
        ("type=cache,target=/m,from=base,source=/etc", "test -s /m/passwd && echo ok > /out", "ok\n"),
        ("type=cache,target=/n,id=c", "cat /n/x > /out", "kept\n"),
        ("type=secret,id=s", "test ! -e /run/secrets && echo none > /out", "none\n"),
        ("type=secret,id=s,env=S", "echo \"${S-unset}\" > /out", "\n"),
    ];
    for (options, command, expected) in cases {
        let built = site.build(&run(options, command));
        assert_eq!(built.below("/out"), [format!("/out 0644 0:0 f {expected}")], "{options}");
        assert!(built.below("/m").iter().all(|line| line.ends_with(" d") || line.ends_with(" f ")), "{options}: {:?}", built.below("/m"));
    }
    // The place for a mount goes with it, also one that a link leads to.
    let linked = site.build("FROM busybox\nRUN mkdir /to && ln -s /to /from\nRUN --mount=type=tmpfs,target=/from/m ls /to > /out");
    assert_eq!((linked.below("/out"), linked.below("/to")), (vec!["/out 0644 0:0 f m\n".to_owned()], vec!["/to 0755 0:0 d".to_owned()]));
    // What a command does is no matter of which cache it has; but one that goes without a secret is not one that must have it.
    site.build(&run("type=cache,target=/m,id=one", "true"));
    assert_eq!(site.build(&run("type=cache,target=/m,id=two", "true")).cached(), 1);
    site.build(&run("type=secret,id=none", "true"));
    let refused = site.refusal(&run("type=secret,id=none,required", "true"));
    assert!(refused.contains("secret \"none\" is required and was not given"), "{refused}");
    let text = run("target=/m,source=src", "cat /m/a > /out");
    site.build(&text);
    assert_eq!(site.build(&text).cached(), 1);
    site.file("src/a", "b");
    assert_eq!(site.build(&text).below("/out"), ["/out 0644 0:0 f b"]);
    let refused = site.refusal(&run("type=cache,target=/m,mod=1", "true"));
    assert!(refused.ends_with("--mount=type=cache,target=/m,mod=1: there is no option \"mod\""), "{refused}");
}

#[test]
fn what_is_bound_is_there_itself_and_what_is_written_there_goes() {
    let Some(site) = Site::with_busybox() else { return };
    site.file("src/a", "a").file("src/deep/seen", "s").file("src/deep/hidden", "h").file("src/gone/x", "x").file("lib/b", "b");
    site.file(".dockerignore", "src/deep/hidden\nsrc/gone\n*.sock\nDockerfile\n").mode("src/deep", 0o750);
    std::os::unix::net::UnixListener::bind(site.path("lib/listening")).expect("a socket");
    let out = |text: &str| {
        site.build(&format!("FROM busybox AS base\nRUN mkdir /t && echo t > /t/f && ln -s /t /l\nFROM busybox\n{text}")).below("/out")
    };
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(site.path("lib/b")).expect("b"));
    assert_eq!(out("RUN --mount=target=/m,source=lib stat -c %i /m/b > /out"), [format!("/out 0644 0:0 f {inode}\n")]);
    assert_eq!(out("RUN --mount=target=/m/f,source=lib/b stat -c %i /m/f > /out"), [format!("/out 0644 0:0 f {inode}\n")]);
    let listed = "RUN --mount=target=/m,source=src cd /m && find . | sort | tr '\\n' ' ' > /out && stat -c ' %a' deep >> /out";
    assert_eq!(out(listed), ["/out 0644 0:0 f . ./a ./deep ./deep/seen  750\n"]);
    let whole = "USER www\nRUN --mount=target=/m ls /m /m/lib | tr '\\n' ' '";
    let built = site.build(&format!("FROM busybox\n{whole}"));
    assert!(
        built.events.iter().any(|event| event.ends_with("> /m: lib src  /m/lib: b ")),
        "no socket, and all may look: {:?}",
        built.events
    );
    let written = "RUN --mount=target=/m,source=src,rw echo new > /m/a; rm /m/deep/seen; ls /m/deep > /out; cat /m/a >> /out";
    assert_eq!(out(written), ["/out 0644 0:0 f new\n"]);
    assert_eq!(out("RUN --mount=target=/m,source=lib/b,rw echo new > /m && cat /m > /out"), ["/out 0644 0:0 f new\n"]);
    assert_eq!(fs::read_to_string(site.path("src/a")).expect("a") + &fs::read_to_string(site.path("lib/b")).expect("b"), "ab");
    assert_eq!(out("RUN --mount=from=base,source=l/f,target=/m cat /m > /out"), ["/out 0644 0:0 f t\n"]);
    assert_eq!(out("RUN --mount=from=base,source=/l,target=/m,rw rm /m/f && ls /m > /out"), ["/out 0644 0:0 f "]);
    // Of another user than root it is a copy that shows root.
    std::os::unix::fs::chown(site.path("lib/b"), Some(7), Some(8)).expect("chown");
    assert_eq!(out("RUN --mount=target=/m,source=lib stat -c %u:%g /m/b > /out"), ["/out 0644 0:0 f 0:0\n"]);
    let absent = site.refusal("FROM busybox\nRUN --mount=target=/m,source=src/gone true");
    assert!(absent.contains("\"src/gone\" is not in the build context: it is hidden by .dockerignore"), "{absent}");
    let absent = site.refusal("FROM busybox\nRUN --mount=target=/m,from=busybox,source=/none true");
    assert!(absent.contains("\"/none\" is not in image busybox"), "{absent}");
}

#[test]
fn what_is_bound_counts_by_what_it_holds() {
    let Some(site) = Site::with_busybox() else { return };
    let text = |other: &str, own: &str| {
        format!(
            "FROM busybox AS base\nRUN mkdir /part && echo {own} > /part/f && echo {other} > /other\n\
             FROM busybox\nRUN --mount=from=base,source=/part,target=/m cat /m/f > /out"
        )
    };
    let first = site.build(&text("1", "a"));
    let other = site.build(&text("2", "a"));
    assert_eq!((other.cached(), &other.id), (1, &first.id), "the part is the same, whatever is beside it");
    assert_eq!(site.build(&text("2", "a")).cached(), 2);
    assert_eq!(site.build(&text("2", "b")).below("/out"), ["/out 0644 0:0 f b\n"]);
    // What changes while it is used is not what it was when it was looked at: it is not remembered under that.
    let live = "FROM busybox\nRUN --mount=target=/m,source=. cat /m/live > /out; touch /read; until grep -q 2 /m/live; do sleep 0.02; done";
    for _ in 0..2 {
        site.file("live", "1");
        let changed = std::thread::scope(|scope| {
            let building = scope.spawn(|| site.build(live));
            while !is_written(&site, "read") {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            site.file("live", "2");
            building.join().expect("a build")
        });
        assert_eq!((changed.below("/out"), changed.cached()), (vec!["/out 0644 0:0 f 1".to_owned()], 0));
    }
}

/// Whether a command that runs has written this at its root.
fn is_written(site: &Site, name: &str) -> bool {
    let scratch = fs::read_dir(site.root().join("state/images/scratch"));
    scratch.is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.path().join("upper").join(name).exists())))
}

#[test]
fn a_failing_command_is_shown_with_its_place_and_last_lines() {
    let Some(site) = Site::with_busybox() else { return };
    let refused = site.refusal("FROM busybox\nRUN echo before && \\\n    echo last >&2 && exit 3");
    let expected = ":2:1: RUN echo before &&     echo last >&2 && exit 3\n   1 |     FROM busybox\n   2 | >>> RUN echo before && \\\n\
                    \x20  3 | >>>     echo last >&2 && exit 3\n: the command ended with exit code 3: /bin/sh -c echo before &&     echo last >&2 && exit 3\n    before\n    last";
    assert!(refused.ends_with(expected), "{refused}");
    let refused = site.refusal("FROM busybox\nRUN [\"/no/such\"]");
    assert!(refused.contains("the command ended with exit code 127") && refused.contains("/no/such"), "{refused}");
}

#[test]
fn nothing_is_left_behind() {
    let Some(site) = Site::with_busybox() else { return };
    // Of this site alone: others build beside it.
    let root = site.root().display().to_string();
    let mounts = || -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        table.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect()
    };
    let before = mounts();
    site.build("FROM busybox\nRUN true\nRUN sleep 100 & echo > /x");
    site.refusal("FROM busybox\nRUN false");
    assert_eq!(mounts(), before);
    let scratch = site.root().join("state/images/scratch");
    assert_eq!(fs::read_dir(scratch).expect("scratch").count(), 0);
    let instance = site.request.places.instance();
    let children =
        |group: &PathBuf| fs::read_dir(group).expect("group").filter(|entry| entry.as_ref().is_ok_and(|e| e.path().is_dir())).count();
    assert_eq!(control_groups(&instance).iter().map(children).sum::<usize>(), 0);
    drop(site);
    assert_eq!(control_groups(&instance), Vec::<PathBuf>::new());
}

#[test]
fn secrets_are_seen_and_leave_no_trace() {
    let Some(mut site) = Site::with_busybox() else { return };
    let give = |site: &mut Site, text: &str| {
        site.request.given.secrets.insert("s".to_owned(), Secret::new(text.into()).expect("short"));
    };
    give(&mut site, "hunter22");
    let text = "FROM busybox\nUSER www\n\
        RUN --mount=type=secret,id=s,uid=33,env=S --mount=type=secret,id=s,target=/x/y,mode=0444,required \
        echo \"got $S\"; stat -c '%a %u %s' /x/y; mkdir /tmp/made 2>/dev/null; test \"$S\" = \"$(cat /x/y)\"";
    let built = site.build(text);
    let lines: Vec<_> = built.events.iter().filter_map(|event| event.strip_prefix("2> ")).collect();
    assert_eq!(lines, ["got ***", "444 0 8"]);
    assert!(built.below("/x").is_empty() && built.below("/run").is_empty(), "{:?}", built.tree.keys());
    assert!(!format!("{:?}", built.config).contains("hunter22"));
    let mut search = std::process::Command::new("grep");
    let found = search.args(["-rl", "hunter22"]).arg(site.root()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");

    give(&mut site, "another value");
    assert_eq!(site.build(text).cached(), 1, "the value is no part of the key");
    site.request.given.secrets.clear();
    let refused = site.refusal(&text.replace("env=S", "env=T"));
    assert!(refused.ends_with("secret \"s\" is required and was not given: see --secret of the build"), "{refused}");
}

#[test]
fn an_ssh_agent_can_be_reached() {
    let Some(mut site) = Site::with_busybox() else { return };
    let socket = site.root().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("socket");
    site.request.given.agents.insert("default".to_owned(), SshAgent::Socket(socket));
    let text = "FROM busybox\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\" && echo $SSH_AUTH_SOCK > /out";
    let built = site.build(text);
    assert_eq!(built.below("/out"), ["/out 0644 0:0 f /run/buildkit/ssh_agent.0\n"]);
    assert!(built.below("/run").is_empty());
    let looks = |options: &str| {
        let built = site.build(&format!("FROM busybox\nRUN --mount=type=ssh{options} stat -c '%a %u:%g' $SSH_AUTH_SOCK > /out"));
        built.below("/out")[0].clone()
    };
    assert_eq!(looks(""), "/out 0644 0:0 f 600 0:0\n");
    assert_eq!(looks(",uid=33,gid=34,mode=0660"), "/out 0644 0:0 f 660 33:34\n");
    drop(listener);
    let refused = site.refusal("FROM busybox\nRUN --mount=type=ssh,id=other,required true");
    assert!(refused.ends_with("ssh agent \"other\" is required and was not given: see --ssh of the build"), "{refused}");
}

#[test]
fn a_cache_can_begin_with_something() {
    let Some(site) = Site::with_busybox() else { return };
    let text = "FROM busybox AS base\nRUN mkdir /d && echo first > /d/f\nFROM busybox\n\
        RUN --mount=type=cache,target=/c,from=base,source=/d cat /c/f > /one && echo second > /c/f\n\
        RUN --mount=type=cache,target=/c,from=base,source=/d cat /c/f > /two";
    let built = site.build(text);
    assert_eq!(
        (built.below("/one"), built.below("/two")),
        (vec!["/one 0644 0:0 f first\n".to_owned()], vec!["/two 0644 0:0 f second\n".to_owned()])
    );
    let mounts = CacheMounts::of(&site.store);
    let ids: Vec<_> = mounts.list().expect("list").into_iter().map(|mount| mount.id).collect();
    assert_eq!(ids, ["/c"]);
}

#[test]
fn caches_are_shared_as_they_say() {
    let Some(site) = Site::with_busybox() else { return };
    // Two commands that are sure to run at the same time: each waits for the other.
    let both = |name: &str, command: &str| {
        let options = format!("id={name},sharing={name}");
        let stage = |own: &str, other: &str| {
            let meet = format!("touch /meet/{own}-{name}; until test -e /meet/{other}-{name}; do sleep 0.01; done");
            let mounts = format!("--mount=type=cache,target=/meet,id=meet --mount=type=cache,target=/c,{options}");
            format!("FROM busybox AS {own}\nRUN {mounts} {}\n", command.replace("MEET", &meet).replace("OWN", own))
        };
        let text =
            stage("left", "right") + &stage("right", "left") + "FROM busybox\nCOPY --from=left /out /left\nCOPY --from=right /out /right";
        let built = site.build(&text);
        ["/left", "/right"].map(|path| built.below(path)[0].rsplit("f ").next().unwrap_or_default().trim_end().replace('\n', " "))
    };
    let seen = "touch /c/OWN; MEET; ls /c > /out";
    assert_eq!(both("shared", seen), ["left right", "left right"]);
    assert_eq!(both("private", seen), ["left", "right"]);
    let alone = "mkdir /c/here && sleep 0.1 && rmdir /c/here && echo alone > /out";
    assert_eq!(both("locked", alone), ["alone", "alone"]);
    let places =
        site.build("FROM busybox\nRUN mkdir /d\nRUN --mount=type=cache,target=/new/deep/c --mount=type=tmpfs,target=/d/t touch /d/own");
    assert_eq!(places.below("/new"), [""; 0], "what was made only to mount on is not left");
    assert_eq!(places.below("/d"), ["/d 0755 0:0 d", "/d/own 0644 0:0 f "]);
}

#[test]
fn a_command_may_be_without_a_network() {
    let Some(mut site) = Site::with_busybox() else { return };
    let links = |text: &str| format!("FROM busybox\nRUN {text}ls /sys/class/net | tr '\\n' ' ' > /links");
    let of = |site: &Site, text: &str| site.build(&links(text)).below("/links");
    assert_eq!(of(&site, "--network=none "), ["/links 0644 0:0 f lo "]);
    site.request.network = RunNetwork::None;
    assert_eq!(of(&site, ""), ["/links 0644 0:0 f lo "]);
    let refused = site.refusal(&links("--network=host "));
    assert!(refused.contains("--network=host is not allowed: build with --allow network.host"), "{refused}");
    site.request.host_network = HostNetwork::Allow;
    assert_eq!(of(&site, "--network=host "), ["/links 0644 0:0 f lo "]);
    site.request.network = RunNetwork::Default;
    assert_eq!(of(&site, ""), ["/links 0644 0:0 f eth0 lo "]);
    let names =
        site.build("FROM busybox\nRUN nslookup nowhere 2>&1 | grep -o -m 1 SERVFAIL; hostname; ping -c 1 -q $(hostname) | head -n 1");
    let said: Vec<_> = names.events.iter().filter_map(|event| event.strip_prefix("2> ")).collect();
    assert_eq!(said, ["SERVFAIL", "buildkitsandbox", "PING buildkitsandbox (127.0.1.1): 56 data bytes"]);
    for (flag, expected) in [("--security=insecure", "--security=insecure is not allowed"), ("--device=x", "--device is not supported")] {
        let refused = site.refusal(&format!("FROM busybox\nRUN {flag} true"));
        assert!(refused.contains(expected), "{refused}");
    }
}

/// What BuildKit's own test of this asks for (testUserAdditionalGids).
#[test]
fn a_user_has_the_groups_that_list_it_and_its_own() {
    let Some(site) = Site::with_busybox() else { return };
    let accounts = "COPY <<passwd <<group /etc/\nroot:x:0:0:root:/:/bin/sh\ndaemon:x:1:1:d:/:/bin/false\npasswd\n\
                    root:x:0:\ndaemon:x:1:\nwheel:x:10:root\ngroup";
    let users = ["", "USER root", "USER 0:0", "USER 1234", "USER 1234:1234", "USER daemon"];
    let steps = users.map(|user| format!("{user}\nRUN grep Groups: /proc/self/status")).join("\n");
    let built = site.build(&format!("FROM busybox\n{accounts}\n{steps}"));
    let groups: Vec<_> = built.events.iter().filter_map(|event| Some(event.split_once("> Groups:")?.1.trim())).collect();
    assert_eq!(groups, ["0 10", "0 10", "0", "0", "1234", "1"]);
}

#[test]
fn a_command_that_fills_the_disk_is_ended_while_it_runs() {
    let Some(mut site) = Site::with_busybox() else { return };
    let budget = site.store.usage().expect("usage").total() + (32 << 20);
    site.store = site.store.clone().with_limits(Limits { budget: Some(budget), floor: None });
    // It would never end by itself.
    let refused = site.refusal("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1048576 count=64 2>/dev/null; sleep 100000");
    assert!(refused.contains(":2:1: RUN") && refused.contains("no room: 32.") && refused.contains("of its budget of"), "{refused}");
    assert!(site.store.usage().expect("usage").total() < budget, "what it wrote is gone");
    site.build("FROM busybox\nRUN dd if=/dev/zero of=/small bs=1048576 count=8 2>/dev/null");
}
