//! What the image says of itself.

use crate::site::Site;
use serde_json::json;

fn said(site: &Site, dockerfile: &str) -> serde_json::Value {
    let mut config = serde_json::to_value(site.build(dockerfile).config.config).expect("configuration");
    if let Some(env) = config["Env"].as_array_mut() {
        env.retain(|variable| !variable.as_str().is_some_and(|text| text.starts_with("PATH=")));
    }
    if config["Env"] == json!([]) {
        config.as_object_mut().map(|object| object.remove("Env"));
    }
    config
}

#[test]
fn instructions_that_only_say_something() {
    let Some(site) = Site::new() else { return };
    let cases = [
        ("ENV A=1 B=\"x y\"", json!({"Env": ["A=1", "B=x y"]})),
        ("ENV A=1\nENV A=2 B=$A", json!({"Env": ["A=2", "B=1"]})),
        ("ENV A one two", json!({"Env": ["A=one two"]})),
        ("ARG X=1\nENV A=$X B=${Y:-d}", json!({"Env": ["A=1", "B=d"]})),
        ("CMD a b", json!({"Cmd": ["/bin/sh", "-c", "a b"]})),
        ("SHELL [\"/bin/bash\", \"-ec\"]\nCMD a", json!({"Shell": ["/bin/bash", "-ec"], "Cmd": ["/bin/bash", "-ec", "a"]})),
        ("CMD\nENTRYPOINT", json!({"Cmd": ["/bin/sh", "-c", ""], "Entrypoint": ["/bin/sh", "-c", ""]})),
        ("ENV A=1\nARG A=2\nENV B=$A", json!({"Env": ["A=1", "B=2"]})),
        ("WORKDIR /a\nWORKDIR $NONE", json!({"WorkingDir": "/a"})),
        ("STOPSIGNAL SIGRTMAX-2", json!({"StopSignal": "SIGRTMAX-2"})),
        ("CMD [\"$A\"]", json!({"Cmd": ["$A"]})),
        ("CMD [\"a\"]\nENTRYPOINT [\"b\"]", json!({"Cmd": ["a"], "Entrypoint": ["b"]})),
        ("USER www:web", json!({"User": "www:web"})),
        ("WORKDIR /a\nWORKDIR b/../c", json!({"WorkingDir": "/a/c"})),
        ("LABEL a=b \"c d\"=\"e f\" g=$H", json!({"Labels": {"a": "b", "c d": "e f", "g": ""}})),
        ("EXPOSE 80 53/udp 90-91", json!({"ExposedPorts": {"53/udp": {}, "80/tcp": {}, "90/tcp": {}, "91/tcp": {}}})),
        ("VOLUME /a /b\nVOLUME [\"/c d\"]", json!({"Volumes": {"/a": {}, "/b": {}, "/c d": {}}})),
        ("STOPSIGNAL SIGINT", json!({"StopSignal": "SIGINT"})),
        ("HEALTHCHECK --interval=5s CMD a b", json!({"Healthcheck": {"Test": ["CMD-SHELL", "a b"], "Interval": 5_000_000_000_i64}})),
        (
            "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=2s --start-interval=500ms --retries=4 CMD [\"p\", \"q\"]",
            json!({"Healthcheck": {"Test": ["CMD", "p", "q"], "Interval": 90_000_000_000_i64, "Timeout": 3_000_000_000_i64,
                "StartPeriod": 2_000_000_000_i64, "StartInterval": 500_000_000_i64, "Retries": 4}}),
        ),
        ("ARG S=15\nSTOPSIGNAL $S", json!({"StopSignal": "15"})),
        ("ARG P=1000\nEXPOSE $P-1001/UDP", json!({"ExposedPorts": {"1000/udp": {}, "1001/udp": {}}})),
        (
            "SHELL [\"/x\"]\nENTRYPOINT a\nHEALTHCHECK CMD b",
            json!({"Shell": ["/x"], "Entrypoint": ["/x", "a"], "Healthcheck": {"Test": ["CMD-SHELL", "b"]}}),
        ),
        ("ENTRYPOINT [\"a\"]\nENTRYPOINT []\nCMD [\"b\"]\nCMD []", json!({})),
        ("HEALTHCHECK NONE", json!({"Healthcheck": {"Test": ["NONE"]}})),
        ("ONBUILD ENV A=1", json!({"OnBuild": ["ENV A=1"]})),
    ];
    for (instructions, expected) in cases {
        let mut expected = expected;
        let members = expected.as_object_mut().expect("an object");
        members.entry("WorkingDir").or_insert_with(|| "/".into());
        assert_eq!(said(&site, &format!("FROM scratch\n{instructions}")), expected, "{instructions}");
    }
}

#[test]
fn stages_and_bases() {
    let Some(mut site) = Site::new() else { return };
    let base =
        site.build("FROM scratch\nENV A=1\nCMD [\"a\"]\nONBUILD ENV B=2\nONBUILD ARG C=3\nONBUILD COPY f /from-trigger\nMAINTAINER me");
    site.request.bases.insert("base".to_owned(), base.id);
    site.file("f", "f");
    let built = site.build("FROM base\nENV D=$C\nENTRYPOINT [\"b\"]");
    assert_eq!(built.config.config.env[1..], ["A=1", "B=2", "D=3"]);
    assert_eq!((&built.config.config.cmd, &built.config.config.on_build), (&None, &Vec::new()));
    assert_eq!(built.config.author.as_deref(), Some("me"));
    assert_eq!(built.below("/from-trigger"), ["/from-trigger 0644 0:0 f f"]);
    let text =
        "ARG V=global\nFROM scratch AS one\nARG V\nENV A=$V\nARG W=w\nFROM one\nENV B=$W C=$V\nFROM scratch AS unused\nCOPY missing /";
    site.request.target = Some("1".to_owned());
    assert_eq!(site.build(text).config.config.env[1..], ["A=global", "B=w", "C=global"]);
    site.request.args.insert("V".to_owned(), "given".to_owned());
    assert_eq!(site.build(text).config.config.env[1..], ["A=given", "B=w", "C=given"]);
}

#[test]
fn history_reads_as_buildkits() {
    let Some(mut site) = Site::with_busybox() else { return };
    site.file("f", "f");
    site.request.args.insert("A".to_owned(), "given".to_owned());
    let built = site.build(
        "FROM busybox AS one\nARG A=1 B=\"x y\" C\nENV E=$A F=\"a b\"\nRUN echo hi > /hi && \\\n  echo ho > /ho\nCOPY --chown=1:2 <<x f /d/\n1\nx\n\
         ADD f /\nWORKDIR w\nWORKDIR /\nLABEL x=\"y z\" q=r\nEXPOSE 90/udp 80\nVOLUME /v /w\nSTOPSIGNAL SIGTERM\nUSER 0\n\
         HEALTHCHECK --interval=90s --retries=3 CMD true\nSHELL [\"/bin/sh\", \"-ec\"]\nENTRYPOINT [\"a\", \"b c\"]\nCMD echo \"hi\"\n\
         ONBUILD RUN x\nMAINTAINER me\nENV B=env\nARG D=4\nRUN [\"true\"]",
    );
    let base = built.config.history.len() - 20;
    let lines: Vec<_> = built.config.history[base..]
        .iter()
        .map(|line| (line.created_by.as_deref().unwrap_or_default(), if line.empty_layer { "says" } else { "layer" }))
        .collect();
    let expected = [
        ("ARG A=given B=x y C", "says"),
        ("ENV E=given F=a b", "says"),
        ("RUN |3 A=given B=x y C= /bin/sh -c echo hi > /hi &&   echo ho > /ho # buildkit", "layer"),
        ("COPY --chown=1:2 f <<x /d/ # buildkit", "layer"),
        ("ADD f / # buildkit", "layer"),
        ("WORKDIR /w", "layer"),
        ("WORKDIR /", "says"),
        ("LABEL x=y z q=r", "says"),
        ("EXPOSE [80/tcp 90/udp]", "says"),
        ("VOLUME [/v /w]", "says"),
        ("STOPSIGNAL SIGTERM", "says"),
        ("USER 0", "says"),
        (r#"HEALTHCHECK &{["CMD-SHELL" "true"] "1m30s" "0s" "0s" "0s" '\x03'}"#, "says"),
        ("SHELL [/bin/sh -ec]", "says"),
        (r#"ENTRYPOINT ["a" "b c"]"#, "says"),
        (r#"CMD ["/bin/sh" "-ec" "echo \"hi\""]"#, "says"),
        ("MAINTAINER me", "says"),
        ("ENV B=env", "says"),
        ("ARG D=4", "says"),
        ("RUN |4 A=given B=env C= D=4 true # buildkit", "says"),
    ];
    assert_eq!(lines, expected);
    assert!(built.config.history[base..].iter().all(|line| line.comment.as_deref() == Some("buildkit.dockerfile.v0")));
    assert_eq!(built.config.created.as_deref(), Some("1980-01-02T00:00:00Z"));
}

#[test]
fn labels_of_the_request_win() {
    let Some(mut site) = Site::new() else { return };
    site.request.labels = [("a", "1"), ("b", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let built = site.build("FROM scratch\nLABEL a=0 c=3");
    let labels: Vec<_> = built.config.config.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["a=1", "b=2", "c=3"]);
}

#[test]
fn triggers_of_a_stage_run_in_the_stage_built_on_it() {
    let Some(site) = Site::with_busybox() else { return };
    let built = site.build(
        "FROM busybox AS lib\nRUN echo lib > /lib-file\nFROM busybox AS base\nONBUILD COPY --from=lib /lib-file /copied\n\
         ONBUILD RUN --mount=from=lib,target=/m cat /m/lib-file > /ran\nONBUILD RUN <<EOF\necho here > /heredoc\nEOF\nFROM base\nRUN cat /ran",
    );
    for path in ["/copied", "/ran"] {
        assert_eq!(built.below(path), [format!("{path} 0644 0:0 f lib\n")]);
    }
    assert_eq!(built.below("/heredoc"), ["/heredoc 0644 0:0 f here\n"]);
    assert!(built.config.config.on_build.is_empty());
}

#[test]
fn what_is_written_below_a_volume_stays() {
    let Some(site) = Site::with_busybox() else { return };
    let built = site.build("FROM busybox\nVOLUME /v\nRUN mkdir -p /v && echo kept > /v/f");
    assert_eq!(built.below("/v/f"), ["/v/f 0644 0:0 f kept\n"]);
}

#[test]
fn proxies_are_seen_and_nothing_depends_on_them() {
    let Some(mut site) = Site::with_busybox() else { return };
    let text = "FROM busybox\nRUN echo $https_proxy:$HTTPS_PROXY:$OTHER > /proxies";
    let give = |site: &mut Site, value: &str| {
        let names = ["https_proxy", "HTTPS_PROXY", "OTHER"];
        site.request.args = names.map(|name| (name.to_owned(), value.to_owned())).into();
    };
    give(&mut site, "one.invalid");
    let built = site.build(text);
    assert_eq!(built.below("/proxies"), ["/proxies 0644 0:0 f one.invalid:one.invalid:\n"]);
    assert!(!serde_json::to_string(&built.config).expect("JSON").contains("one.invalid"));
    give(&mut site, "two.invalid");
    assert_eq!(site.build(text).cached(), 1);
    let declared = text.replace("\nRUN", "\nARG https_proxy\nRUN");
    let first = site.build(&declared).below("/proxies");
    give(&mut site, "three.invalid");
    assert_ne!(site.build(&declared).below("/proxies"), first, "one that is declared counts");
}
