//! COPY and ADD with flags: `--parents`, `--exclude`, symbolic `--chmod`, `--link`, `--unpack`, and contexts that have a name.

use crate::site::Site;
use runtime::builder::NamedContext;
use std::fs;
use std::process::Command;

fn site() -> Option<Site> {
    let site = Site::new()?;
    site.file("one.txt", "1").file("src/a/go.mod", "a").file("src/a/x/main.go", "m").file("src/b/go.mod", "b").file("src/b/note.md", "n");
    site.mode("src/a", 0o700).mode("src/a/x/main.go", 0o755);
    Some(site)
}

#[test]
fn parents_come_along_from_the_pivot_on() {
    let Some(site) = site() else { return };
    let a = ["/t/src/a 0700 0:0 d", "/t/src/a/go.mod 0644 0:0 f a"];
    let both = [&["/t 0755 0:0 d", "/t/src 0755 0:0 d"][..], &a, &["/t/src/b 0755 0:0 d", "/t/src/b/go.mod 0644 0:0 f b"]].concat();
    let cases: [(&str, Vec<&str>); 9] = [
        ("COPY --parents src/a/go.mod /t/", [&["/t 0755 0:0 d", "/t/src 0755 0:0 d"][..], &a].concat()),
        ("COPY --parents src/*/go.mod /t/", both.clone()),
        ("COPY --parents src/**/go.mod /t", both.clone()),
        ("COPY --parents ./src/a/go.mod ./src/b/go.mod /t/", both),
        ("COPY --parents src/./a/go.mod /t/", vec!["/t 0755 0:0 d", "/t/a 0700 0:0 d", "/t/a/go.mod 0644 0:0 f a"]),
        ("COPY --parents src/a/./x /t/", vec!["/t 0755 0:0 d", "/t/x 0755 0:0 d", "/t/x/main.go 0755 0:0 f m"]),
        ("COPY --parents src/**/none /t/", vec![]),
        ("COPY --parents one.txt /t/", vec!["/t 0755 0:0 d", "/t/one.txt 0644 0:0 f 1"]),
        ("COPY --parents --exclude=**/x --exclude=src/b src /t/", [&["/t 0755 0:0 d", "/t/src 0755 0:0 d"][..], &a].concat()),
    ];
    for (instruction, expected) in cases {
        assert_eq!(site.build(&format!("FROM scratch\n{instruction}")).below("/t"), expected, "{instruction}");
    }
    // A directory that is there keeps its mode.
    let kept = site.build("FROM scratch\nCOPY one.txt /t/src/a/\nCOPY --parents src/a/go.mod /t/").below("/t/src");
    assert_eq!(kept, ["/t/src 0755 0:0 d", "/t/src/a 0755 0:0 d", "/t/src/a/go.mod 0644 0:0 f a", "/t/src/a/one.txt 0644 0:0 f 1"]);
    let refused = site.refusal("FROM scratch\nCOPY --parents src/none /t/");
    assert!(refused.ends_with("\"src/none\" is not in the build context"), "{refused}");
}

#[test]
fn what_is_excluded_does_not_count() {
    let Some(site) = site() else { return };
    let text = "FROM scratch\nCOPY --exclude=*.md --exclude=x src/a src/b /t/";
    let built = site.build(text);
    assert_eq!(built.below("/t"), ["/t 0755 0:0 d", "/t/go.mod 0644 0:0 f b"]);
    site.file("src/b/note.md", "another");
    assert_eq!(site.build(text).id, built.id);
    assert_eq!(site.build(text).cached(), 1);
    // Names that a wildcard brings in, too; one that is written down is meant.
    let wildcard = site.build("FROM scratch\nCOPY --exclude=*.md --exclude=x src/b/* src/a/* /t/");
    assert_eq!(wildcard.below("/t"), ["/t 0755 0:0 d", "/t/go.mod 0644 0:0 f a"]);
    let readmitted = site.build("FROM scratch\nCOPY --exclude=src --exclude=!src/b/go.mod . /t/");
    assert_eq!(readmitted.below("/t/src"), ["/t/src 0755 0:0 d", "/t/src/b 0755 0:0 d", "/t/src/b/go.mod 0644 0:0 f b"]);
}

#[test]
fn symbolic_modes_look_at_each_file() {
    let Some(site) = site() else { return };
    let built = site.build("FROM scratch\nCOPY --chmod=u=rwX,go=rX src/a /t/\nCOPY --chmod=a+x,g-r one.txt /t/");
    let expected = ["/t 0755 0:0 d", "/t/go.mod 0644 0:0 f a", "/t/one.txt 0715 0:0 f 1", "/t/x 0755 0:0 d", "/t/x/main.go 0755 0:0 f m"];
    assert_eq!(built.below("/t"), expected);
    let asked_for_nothing = site.build("FROM scratch\nARG mode\nCOPY --chmod=$mode one.txt /t");
    assert_eq!(asked_for_nothing.below("/t"), ["/t 0644 0:0 f 1"]);
    let refused = site.refusal("FROM scratch\nCOPY --chmod=u+q one.txt /t");
    assert!(refused.contains("--chmod=u+q: \"u+q\" is not a mode: 0644 or u=rwX,go=rX"), "{refused}");
    let created: Vec<_> = built.config.history.iter().filter_map(|line| line.created_by.clone()).collect();
    assert_eq!(created, ["COPY --chmod=u=rwX,go=rX src/a /t/ # buildkit", "COPY --chmod=a+x,g-r one.txt /t/ # buildkit"]);
}

#[test]
fn archives_of_every_compression_are_unpacked_unless_told_not_to() {
    let Some(site) = site() else { return };
    let tree = site.root().join("tree");
    fs::create_dir_all(&tree).expect("tree");
    fs::write(tree.join("f"), "f").expect("file");
    for (name, flag) in [("tar", "--format=gnu"), ("gz", "-z"), ("bz2", "-j"), ("xz", "-J"), ("zst", "--zstd")] {
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(&tree)
            .args([flag, "--owner=3", "--group=4", "--mode=0640", "--mtime=@1000000000", "-cf"])
            .arg(site.path(name))
            .arg("f");
        if !tar.status().is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED {name}: tar cannot make it here");
            continue;
        }
        assert_eq!(site.build(&format!("FROM scratch\nADD {name} /t/")).below("/t/f"), ["/t/f 0640 3:4 f f"], "{name}");
        let kept = site.build(&format!("FROM scratch\nADD --unpack=false {name} /t/"));
        assert_eq!(kept.below("/t").len(), 2, "{name}");
        // An archive and a file in one instruction: each as it is.
        let mixed = site.build(&format!("FROM scratch\nADD one.txt {name} /t/"));
        assert_eq!(mixed.below("/t"), ["/t 0755 0:0 d", "/t/f 0640 3:4 f f", "/t/one.txt 0644 0:0 f 1"], "{name}");
    }
}

#[test]
fn a_context_with_a_name_comes_before_stages_and_images() {
    let Some(mut site) = site() else { return };
    let other = site.root().join("other");
    fs::create_dir(&other).expect("directory");
    for (name, text) in [("seen", "s"), ("hidden", "h"), (".dockerignore", "hidden\n")] {
        fs::write(other.join(name), text).expect("file");
    }
    let base = site.build("FROM scratch\nCOPY one.txt /");
    site.store.tag("docker.io/library/mine:latest", &base.id).expect("tag");
    site.request.bases.insert("mine".to_owned(), base.id);
    site.request.contexts.insert("Other".to_owned(), NamedContext::Directory(other.clone()));
    site.request.contexts.insert("base".to_owned(), NamedContext::Image("mine".to_owned()));
    let text = "FROM nowhere/at/all AS base\nFROM base\nCOPY --from=other . /t/\nCOPY --from=base one.txt /t/two";
    let built = site.build(text);
    assert_eq!(built.below("/one.txt"), ["/one.txt 0644 0:0 f 1"]);
    let expected = ["/t 0755 0:0 d", "/t/.dockerignore 0644 0:0 f hidden\n", "/t/seen 0644 0:0 f s", "/t/two 0644 0:0 f 1"];
    assert_eq!(built.below("/t"), expected);
    assert_eq!(site.build(text).cached(), 2);
    fs::write(other.join("seen"), "t").expect("file");
    assert!(site.build(text).id != built.id);
    // As a base it is a root file system, whatever of the image's name it stands for is written.
    let root = "FROM docker.io/library/other:latest\nCOPY one.txt /t/";
    let expected = ["/.dockerignore 0644 0:0 f hidden\n", "/seen 0644 0:0 f t", "/t 0755 0:0 d", "/t/one.txt 0644 0:0 f 1"];
    assert_eq!(site.build(root).below("/"), expected);
    assert_eq!(site.build(root).cached(), 2);
}

#[test]
fn a_dockerfile_may_be_no_file() {
    let Some(mut site) = site() else { return };
    site.request.inline = Some("FROM scratch\nCOPY one.txt /t".to_owned());
    assert_eq!(site.build("not looked at").below("/t"), ["/t 0644 0:0 f 1"]);
}

#[test]
fn the_layer_on_disk_is_the_one_that_was_hashed() {
    let Some(site) = site() else { return };
    fs::hard_link(site.path("one.txt"), site.path("src/again.txt")).expect("link");
    site.link("src/to", "nowhere").mode("src/b", 0o2775).mode("src/b/note.md", 0o4711);
    site.file(&format!("src/{}/{}", "n".repeat(120), "m".repeat(130)), "long").file("src/a.b", "").file("src/a-b", "");
    for chown in ["", "--chown=5:6 "] {
        let text = format!(
            "FROM scratch AS one\nCOPY {chown}. /s/\nADD {chown}one.txt /src\nFROM scratch\nCOPY one.txt /t/src/b\nCOPY --from=one /s /t\nCOPY one.txt src/b /t/src/\nCOPY --from=one /s/src/b /s/src/a /u/"
        );
        let built = site.build(&text);
        for diff_id in &built.config.rootfs.diff_ids {
            let mut stream = Vec::new();
            site.store.export_layer(diff_id, &mut stream).expect("export");
            assert_eq!(spec::value::Digest::of(&stream), *diff_id, "{text}");
        }
    }
}

#[test]
fn what_an_earlier_layer_has_is_linked_and_the_result_is_the_same() {
    let Some(site) = Site::new() else { return };
    for number in 0..400 {
        site.file(&format!("d{}/f{number}", number % 7), &format!("content {}", number % 350));
    }
    let text = "FROM scratch\nCOPY --chmod=u=rwX,go=rX . /app/";
    let first = site.build(text);
    site.file("d3/f10", "changed").file("d3/new", "new");
    fs::remove_file(site.path("d4/f11")).expect("remove");
    let second = site.build(text);
    let layer = |built: &crate::site::Built| site.store.image(&built.id).expect("image").layers[0].clone();
    let inode = |built, name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(layer(built).join(name)).expect("file"));
    assert_eq!(inode(&first, "app/d0/f0"), inode(&second, "app/d0/f0"));
    assert_ne!(inode(&first, "app/d3/f10"), inode(&second, "app/d3/f10"));
    assert!(second.tree.contains_key("/app/d3/new") && !second.tree.contains_key("/app/d4/f11"));
    for built in [&first, &second] {
        let mut stream = Vec::new();
        site.store.export_layer(&built.config.rootfs.diff_ids[0], &mut stream).expect("export");
        assert_eq!(spec::value::Digest::of(&stream), built.config.rootfs.diff_ids[0]);
    }
    // From nothing, in another store: the same image.
    let mut other = Site::new().expect("as above");
    other.request.context = site.request.context.clone();
    assert_eq!(other.build(text).id, second.id);
}
