//! What each value accepts and refuses, and that each reads back what it prints.

use super::*;
use proptest::prelude::*;
use std::fmt::{Debug, Display};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

/// The value's printed form, or `! problem` with the hint in brackets.
fn shown<T: FromStr<Err = ValueError> + Display>(text: &str) -> String {
    match text.parse::<T>() {
        Ok(value) => value.to_string(),
        Err(ValueError { problem, hint: Some(hint) }) => format!("! {problem} [{hint}]"),
        Err(ValueError { problem, hint: None }) => format!("! {problem}"),
    }
}

/// Every pair of a text and what is made of it.
#[track_caller]
fn cases<T: FromStr<Err = ValueError> + Display>(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(shown::<T>(text), *expected, "{text:?}");
    }
}

#[track_caller]
fn refused<T: FromStr<Err = ValueError> + Debug>(texts: &[&str]) {
    for text in texts {
        let parsed = text.parse::<T>();
        assert!(parsed.is_err(), "{text:?} is {parsed:?}");
    }
}

#[test]
fn names() {
    cases::<Name>(&[
        ("web", "web"),
        ("a", "a"),
        ("shop-web_2.x", "shop-web_2.x"),
        ("", "! a name is empty"),
        ("Web", "! \"Web\" is not a name: use a-z, 0-9, '-', '_' and '.', with a letter or digit at both ends [write web]"),
        ("my app", "! \"my app\" is not a name: use a-z, 0-9, '-', '_' and '.', with a letter or digit at both ends [write my-app]"),
        ("-web", "! \"-web\" is not a name: use a-z, 0-9, '-', '_' and '.', with a letter or digit at both ends"),
    ]);
    refused::<Name>(&["web-", "a/", "ä", "web\n", ".", "..", "a:", "A:"]);
    assert!("a".repeat(63).parse::<Name>().is_ok());
    refused::<Name>(&[&"a".repeat(64)]);
}

#[test]
fn container_ids() {
    cases::<ContainerId>(&[("web@1", "web@1"), ("a.b-c@4294967295", "a.b-c@4294967295")]);
    refused::<ContainerId>(&["web", "web@", "@1", "web@0", "web@+1", "web@-1", "web@4294967296", "we@b@1"]);
}

#[test]
fn sizes() {
    cases::<ByteSize>(&[
        ("0", "0"),
        ("1", "1"),
        ("1024", "1Ki"),
        ("256m", "256Mi"),
        ("256 MB", "256Mi"),
        ("1.5GiB", "1536Mi"),
        (".5k", "512"),
        ("2T", "2Ti"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "! \"18446744073709551616\" is more than 16 EiB"),
        ("16777216Ti", "! \"16777216Ti\" is more than 16 EiB"),
        ("16777216.0Ti", "! \"16777216.0Ti\" is more than 16 EiB"),
        ("lots", "! \"lots\" is not a size [write a number with an optional unit, such as 256Mi or 1.5Gi]"),
    ]);
    refused::<ByteSize>(&["", "-1", "+1", "Mi", "1.2.3", ".", "1e3", "1Pi", "inf", "nan", "1 2"]);
}

#[test]
fn processor_time() {
    cases::<Cpus>(&[
        ("0.5", "0.5"),
        ("2", "2"),
        ("500m", "0.5"),
        ("0.01", "0.01"),
        ("1.2345", "1.235"),
        ("100", "100"),
        ("0", "! \"0\" is below the smallest CPU limit, 0.01"),
        ("9m", "! \"9m\" is below the smallest CPU limit, 0.01"),
    ]);
    refused::<Cpus>(&["", "-1", "nan", "inf", "half", "5000000", "m", "4294967296m"]);
}

#[test]
fn durations() {
    let read = |text: &str| duration::parse(text).map(duration::format).unwrap_or_else(|error| format!("! {error}"));
    for (text, expected) in [
        ("0", "0s"),
        ("10s", "10s"),
        ("90s", "1m30s"),
        ("1m30s", "1m30s"),
        ("1.5h", "1h30m"),
        ("500ms", "500ms"),
        ("0.1s", "100ms"),
        ("1us", "1us"),
        ("5124095h", "5124095h"),
        ("5124096h", "! \"5124096h\" is longer than 584 years"),
        ("99999999999999999999s", "! \"99999999999999999999s\" is longer than 584 years"),
        ("5124095h1h", "! \"5124095h1h\" is longer than 584 years"),
        ("10", "! \"10\" is not a duration"),
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
    for text in ["", "s", "-5s", "+5s", "1d", "1e3s", "1..5s", "1s ", "5 s", "1s5"] {
        assert!(duration::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn digests() {
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    cases::<Digest>(&[(empty, empty)]);
    assert_eq!(Digest::of(b"").to_string(), empty);
    assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    refused::<Digest>(&[
        "",
        "sha256:",
        &empty[7..],
        &empty.to_uppercase(),
        &empty[..70],
        &format!("{empty}0"),
        &empty.replace("256", "512"),
    ]);
}

#[test]
fn image_references_are_completed_as_docker_does() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let pinned = format!("nginx@{digest}");
    let both = format!("127.0.0.1:5000/a/b:1@{digest}");
    cases::<ImageReference>(&[
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("grafana/grafana", "docker.io/grafana/grafana:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:a_B-1.0", "localhost:5000/x:a_B-1.0"),
        ("ghcr.io/a/b__c/d-e--f", "ghcr.io/a/b__c/d-e--f:latest"),
        (&pinned, &format!("docker.io/library/nginx@{digest}")),
        (&both, &both),
    ]);
    let long = "a".repeat(256);
    refused::<ImageReference>(&[
        "",
        ":",
        "@",
        "nginx:",
        "Nginx",
        "a//b",
        "/a",
        "a/",
        "a___b",
        "a._b",
        "-a",
        "a-",
        "a b",
        "nginx:-x",
        ":5000/x",
        "localhost:/x",
        "host:0/x",
        "host:x/y",
        "-h.io/x",
        "h-.io/x",
        "a..b/x",
        "nginx@sha256:abc",
        "a@b@c",
        &long,
        "nginx:latest ",
        "ä",
    ]);
}

#[test]
fn mount_targets_are_absolute_and_normalised() {
    cases::<MountTarget>(&[
        ("/data", "/data"),
        ("//data/./x/", "/data/x"),
        ("data", "! mount target \"data\" is not absolute [write /data]"),
        ("/", "! the root directory cannot be a mount target"),
        ("/./", "! the root directory cannot be a mount target"),
        ("/proc", "! mount target \"/proc\" lies in /proc or /sys"),
        ("//./sys/fs", "! mount target \"//./sys/fs\" lies in /proc or /sys"),
        ("/process", "/process"),
        ("/a/../proc", "! mount target \"/a/../proc\" contains '..' or a NUL byte"),
    ]);
    refused::<MountTarget>(&["", "/a\0", ".."]);
}

#[test]
fn ports() {
    cases::<PortMapping>(&[
        ("8080:80", "8080:80/tcp"),
        ("53:53/udp", "53:53/udp"),
        ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
        ("80-81:80-81", "! \"80-81:80-81\" is a range of ports where one is wanted"),
    ]);
    refused::<PortMapping>(&[
        "",
        "80",
        "0:80",
        "+80:80",
        "80:80/sctp",
        "80:80/",
        "a:80",
        "65536:1",
        "80:",
        ":80",
        "::1:80:80",
        "80:80:80:80",
        "1-2:1",
    ]);
    let range: PortRange = "127.0.0.1:8000-8002:80-82/udp".parse().expect("a range");
    assert_eq!(
        range.mappings().map(|port| port.to_string()).collect::<Vec<_>>().join(" "),
        "127.0.0.1:8000:80/udp 127.0.0.1:8001:81/udp 127.0.0.1:8002:82/udp"
    );
    assert_eq!("1-65535:1-65535".parse::<PortRange>().map(|range| range.mappings().count()), Ok(65_535));
    refused::<PortRange>(&["82-80:82-80", "80-82:80-81", "0-2:0-2", "-1:1", "1-:1-"]);
}

#[test]
fn restart_policies() {
    cases::<RestartPolicy>(&[
        ("no", "no"),
        ("always", "always"),
        ("unless-stopped", "unless-stopped"),
        ("on-failure", "on-failure"),
        ("on-failure:5", "on-failure:5"),
        ("on-failure:0", "! 0 retries may mean none or any number [write on-failure for no limit, or no]"),
    ]);
    refused::<RestartPolicy>(&["", "No", "false", "always:3", "on-failure:", "on-failure:+1", "on-failure:-1", "on-failure:4294967296"]);
}

#[test]
fn signals() {
    cases::<Signal>(&[
        ("SIGTERM", "SIGTERM"),
        ("term", "SIGTERM"),
        ("15", "SIGTERM"),
        ("SIGRTMIN", "SIGRTMIN+0"),
        ("sigrtmin+3", "SIGRTMIN+3"),
        ("64", "SIGRTMIN+30"),
        ("RTMAX", "SIGRTMIN+30"),
        ("SIGRTMAX-2", "SIGRTMIN+28"),
    ]);
    refused::<Signal>(&[
        "",
        "0",
        "32",
        "33",
        "65",
        "+9",
        "SIG",
        "SIGNOPE",
        "SIGRTMIN+31",
        "SIGRTMIN++3",
        "RTMIN-1",
        "RTMAX+1",
        "RTMAX-31",
        "-9",
    ]);
    assert_eq!(Signal::KILL.number(), 9);
}

#[test]
fn subnets() {
    cases::<Subnet>(&[
        ("10.20.0.0/24", "10.20.0.0/24"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.20.0.1/24", "! subnet 10.20.0.1/24 has host bits set [write 10.20.0.0/24]"),
        ("10.0.0.0/30", "! subnet 10.0.0.0/30 has prefix /30, only /8 to /29 leave room for containers"),
        ("10.0.0.0/0", "! subnet 10.0.0.0/0 has prefix /0, only /8 to /29 leave room for containers"),
    ]);
    refused::<Subnet>(&[
        "",
        "10.0.0.0",
        "10.0.0/24",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+24",
        "fd00::/64",
        "010.0.0.0/8",
        "10.0.0.0/256",
    ]);
    assert_eq!(Subnet::new(Ipv4Addr::new(10, 0, 0, 0), 33), None);
    assert_eq!(Subnet::new(Ipv4Addr::new(0, 0, 0, 0), 0), None);
    let subnet: Subnet = "10.20.0.0/29".parse().expect("a subnet");
    assert_eq!((subnet.first_host(), subnet.broadcast()), (Ipv4Addr::new(10, 20, 0, 1), Ipv4Addr::new(10, 20, 0, 7)));
    assert_eq!(subnet.hosts().count(), 6);
    assert!(subnet.overlaps("10.0.0.0/8".parse().expect("a subnet")));
    assert!(!subnet.overlaps("10.20.0.8/29".parse().expect("a subnet")));
}

#[test]
fn users() {
    cases::<UserSpec>(&[
        ("root", "root"),
        ("1000", "1000"),
        ("1000:www-data", "1000:www-data"),
        ("2147483647", "2147483647"),
        ("2147483648", "! user or group number 2147483648 is above 2147483647"),
    ]);
    refused::<UserSpec>(&["", ":", "a:", ":a", "a:b:c", "-1", "a b", "a/b", "0:99999999999999999999", "ä"]);
}

#[test]
fn capabilities() {
    cases::<Capability>(&[("NET_ADMIN", "NET_ADMIN"), ("cap_chown", "CHOWN"), ("CHECKPOINT_RESTORE", "CHECKPOINT_RESTORE")]);
    refused::<Capability>(&["", "CAP_", "ALL", "CAP_CAP_CHOWN", "NET-ADMIN"]);
    assert_eq!(Capability::all().count(), 41);
    let docker = Capability::DOCKER_DEFAULT.map(|capability| capability.to_string()).join(" ");
    let expected =
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP";
    assert_eq!(docker, expected);
}

#[test]
fn a_hint_travels_in_the_alternate_form_only() {
    let error = ValueError::with_hint("it is wrong", "write it right");
    assert_eq!(format!("{error}"), "it is wrong");
    assert_eq!(format!("{error:#}"), "it is wrong\nhelp: write it right");
    assert_eq!(format!("{:#}", ValueError::new("it is wrong")), "it is wrong");
}

/// What a value prints it reads back as the same value, from plain text and from JSON.
fn reads_back<T: FromStr<Err = ValueError> + Display + PartialEq + Debug + serde::Serialize + serde::de::DeserializeOwned>(value: &T) {
    assert_eq!(value.to_string().parse().as_ref(), Ok(value));
    let json = serde_json::to_string(value).expect("a text");
    assert_eq!(&serde_json::from_str::<T>(&json).expect("its own text"), value);
}

/// Text that might just be a value: its printed form must be stable.
fn reads_back_if_read<T: FromStr<Err = ValueError> + Display + PartialEq + Debug + serde::Serialize + serde::de::DeserializeOwned>(
    text: &str,
) {
    if let Ok(value) = text.parse::<T>() {
        reads_back(&value);
    }
}

#[test]
fn prefixes_cover_whole_parts_of_names() {
    for (prefix, registry, repository, rest) in [
        ("*", "docker.io", "library/nginx", Some("docker.io/library/nginx")),
        ("docker.io", "docker.io", "library/nginx", Some("library/nginx")),
        ("index.docker.io/library", "docker.io", "library/nginx", Some("nginx")),
        ("docker.io/library/nginx", "docker.io", "library/nginx", Some("")),
        ("docker.io/lib", "docker.io", "library/nginx", None),
        ("docker.io/library/nginx/x", "docker.io", "library/nginx", None),
        ("127.0.0.1:5000", "127.0.0.1:5001", "x", None),
    ] {
        let prefix: ImagePrefix = prefix.parse().unwrap();
        assert_eq!(prefix.rest(registry, repository).as_deref(), rest, "{prefix}");
    }
    for wrong in ["", "nginx", "library/nginx", "docker.io/", "docker.io/a:1", "docker.io/A", "https://docker.io", "docker.io/a@b"] {
        assert!(wrong.parse::<ImagePrefix>().is_err(), "{wrong}");
    }
}

#[test]
fn registry_locations() {
    for good in ["mirror.example", "http://10.0.0.1:5000", "https://mirror.example/hub/library", "mirror"] {
        assert_eq!(good.parse::<RegistryLocation>().unwrap().to_string(), good);
    }
    for bad in ["", "ftp://x", "https://", "https://me:s3cret@mirror.example", "mirror.example/a?b", "mirror.example/a:1", "https://a b"] {
        let error = bad.parse::<RegistryLocation>().unwrap_err();
        assert!(!format!("{error:#}").contains("s3cret"), "{error:#}");
    }
}

proptest! {
    #[test]
    fn sizes_read_back(bytes: u64) {
        reads_back(&ByteSize::from_bytes(bytes));
    }

    #[test]
    fn processor_times_read_back(milli in 10u32..4_000_000_000) {
        reads_back(&Cpus::from_milli(milli));
    }

    #[test]
    fn durations_read_back(nanos: u64) {
        let span = Duration::from_nanos(nanos);
        prop_assert_eq!(duration::parse(&duration::format(span)), Ok(span));
    }

    #[test]
    fn subnets_read_back(address: u32, prefix in 8u8..=29) {
        let network = Ipv4Addr::from(address & (u32::MAX << (32 - prefix)));
        let subnet = Subnet::new(network, prefix).expect("host bits are zero");
        reads_back(&subnet);
        prop_assert!(subnet.contains(subnet.first_host()) && subnet.contains(subnet.broadcast()));
        prop_assert!(subnet.hosts().take(9).all(|host| subnet.contains(host)));
    }

    #[test]
    fn ports_read_back(address: Option<[u8; 4]>, host in 1u16.., container in 1u16.., udp: bool) {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        reads_back(&PortMapping { host_address: address.map(Ipv4Addr::from), host_port: host, container_port: container, protocol });
    }

    #[test]
    fn digests_read_back(bytes: [u8; 32]) {
        reads_back(&Digest::from_bytes(bytes));
    }

    #[test]
    fn whatever_is_read_prints_as_itself(text in "[a-zA-Z0-9@:/._ +-]{0,24}") {
        reads_back_if_read::<Name>(&text);
        reads_back_if_read::<ContainerId>(&text);
        reads_back_if_read::<ByteSize>(&text);
        reads_back_if_read::<Cpus>(&text);
        reads_back_if_read::<ImageReference>(&text);
        reads_back_if_read::<MountTarget>(&text);
        reads_back_if_read::<RestartPolicy>(&text);
        reads_back_if_read::<Signal>(&text);
        reads_back_if_read::<Subnet>(&text);
        reads_back_if_read::<UserSpec>(&text);
        reads_back_if_read::<Capability>(&text);
        reads_back_if_read::<ImagePrefix>(&text);
        reads_back_if_read::<RegistryLocation>(&text);
    }

    #[test]
    fn no_text_makes_a_value_panic(text in "\\PC{0,40}") {
        let _ = (text.parse::<Name>(), text.parse::<ByteSize>(), text.parse::<Cpus>(), text.parse::<Digest>());
        let _ = (text.parse::<ImageReference>(), text.parse::<MountTarget>(), text.parse::<PortRange>());
        let _ = (text.parse::<Signal>(), text.parse::<Subnet>(), text.parse::<UserSpec>(), duration::parse(&text));
    }
}
