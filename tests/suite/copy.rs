//! `container cp`: files into containers and out of them.

use anyhow::Result;
use std::fs;
use std::os::unix::fs::symlink;
use tests::host::{Host, Ran, is_root};

#[test]
fn files_go_in_and_out_of_what_runs_and_what_does_not() -> Result<()> {
    if !is_root("files_go_in_and_out_of_what_runs_and_what_does_not") {
        return Ok(());
    }
    let host = Host::new()?;
    host.site("site", &[])?;
    host.agent(&["image", "build", "-t", "box", &host.path().join("site/box").display().to_string()]).ok()?;
    let out = host.files(&[("out/file", "from the host"), ("out/tree/sub/leaf", "leaf")])?;
    symlink("/etc/passwd", out.join("tree/link"))?;
    std::os::unix::fs::chown(out.join("file"), Some(5), Some(5))?;
    let at = |path: &str| host.path().join(path).display().to_string();
    let copy = |arguments: &[&str]| -> Ran { host.agent(&[&["container", "cp"], arguments].concat()) };
    // What a container puts in the way leads nowhere out of it.
    let script = "mkdir /w && echo inside >/w/inside && ln -s ../../../../.. /w/up && ln -s /w /alias && exec sleep 1000";
    host.agent(&["container", "run", "-d", "--name", "one", "-v", "data:/data", "box", "sh", "-c", script]).ok()?;
    host.agent(&["container", "exec", "one", "sh", "-c", "until [ -e /alias ]; do sleep 0.01; done"]).ok()?;
    for round in ["running", "stopped"] {
        let back = at(round);
        copy(&[&at("out/file"), "one:/alias/"]).ok()?;
        copy(&[&at("out/file"), "one:/w/renamed"]).ok()?;
        copy(&["-a", &at("out/file"), "one:w/up/kept"]).ok()?;
        copy(&[&at("out/tree"), "one:/w"]).ok()?;
        copy(&[&at("out/file"), "one:/data"]).ok()?;
        copy(&["one:/w", &back]).ok()?;
        copy(&["one:/w/tree/.", &back]).ok()?;
        let read = |path: &str| fs::read_to_string(host.path().join(round).join(path));
        assert_eq!(
            (read("inside")?.as_str(), read("file")?.as_str(), read("renamed")?.as_str()),
            ("inside\n", "from the host", "from the host")
        );
        assert_eq!((read("tree/sub/leaf")?.as_str(), read("sub/leaf")?.as_str()), ("leaf", "leaf"));
        assert_eq!(fs::read_link(host.path().join(round).join("link"))?.to_str(), Some("/etc/passwd"));
        assert_eq!(fs::read_to_string(host.places().volume_data(&"data".parse()?).join("file"))?, "from the host");
        for (arguments, because) in [
            ([at("out/file"), "one:/w/absent/".to_owned()], "there is no directory /w/absent/"),
            ([at("out/tree"), "one:/w/inside".to_owned()], "/w/inside is no directory"),
            (["one:/absent".to_owned(), back], "copy /absent"),
            (["one:/w".to_owned(), "-".to_owned()], "a tar stream"),
            (["a".to_owned(), "b".to_owned()], "one of the two is a path in a container"),
        ] {
            copy(&arguments.each_ref().map(String::as_str)).err_with(because)?;
        }
        host.agent(&["container", "stop", "-t", "0", "one"]).ok()?;
    }
    copy(&["one:/w/up/kept", &at("kept")]).ok()?;
    host.agent(&["container", "commit", "one", "copied"]).ok()?;
    let owners = host.agent(&["container", "run", "--rm", "copied", "stat", "-c", "%u:%g", "/w/file", "/kept"]).ok()?;
    assert_eq!(owners, "0:0\n5:5\n");
    Ok(())
}
