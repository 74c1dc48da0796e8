//! COPY and ADD: what lands where, as whom, with which mode.

use crate::site::Site;
use std::fs;
use std::process::Command;

/// A context with something of everything.
fn site() -> Option<Site> {
    let site = Site::new()?;
    site.file("a.txt", "a")
        .file("b.txt", "b")
        .file("d/x", "x")
        .file("d/sub/y", "y")
        .mode("d", 0o700)
        .mode("d/sub", 0o750)
        .mode("d/x", 0o4755);
    site.link("to-a", "a.txt").link("to-d", "d").link("d/rel", "../a.txt").link("out", "/etc").file("with [x]", "odd").file("[x]", "class");
    Some(site)
}

#[test]
fn where_files_land() {
    let Some(site) = site() else { return };
    let cases: [(&str, &[&str]); 28] = [
        ("COPY a.txt /t", &["/t 0644 0:0 f a"]),
        ("COPY a.txt /t/", &["/t 0755 0:0 d", "/t/a.txt 0644 0:0 f a"]),
        ("COPY a.txt /t/u/v", &["/t 0755 0:0 d", "/t/u 0755 0:0 d", "/t/u/v 0644 0:0 f a"]),
        ("COPY a.txt b.txt /t/", &["/t 0755 0:0 d", "/t/a.txt 0644 0:0 f a", "/t/b.txt 0644 0:0 f b"]),
        ("WORKDIR /t\nCOPY a.txt .", &["/t 0755 0:0 d", "/t/a.txt 0644 0:0 f a"]),
        ("WORKDIR /t\nCOPY a.txt n", &["/t 0755 0:0 d", "/t/n 0644 0:0 f a"]),
        ("WORKDIR /t/u\nCOPY a.txt ../n", &["/t 0755 0:0 d", "/t/n 0644 0:0 f a", "/t/u 0755 0:0 d"]),
        ("COPY /a.txt ../b.txt /t/", &["/t 0755 0:0 d", "/t/a.txt 0644 0:0 f a", "/t/b.txt 0644 0:0 f b"]),
        ("COPY *.txt /t/", &["/t 0755 0:0 d", "/t/a.txt 0644 0:0 f a", "/t/b.txt 0644 0:0 f b"]),
        ("COPY d/s?b/y /t", &["/t 0644 0:0 f y"]),
        // to a name that is no directory: one after the other, the last one stays
        ("COPY a.txt b.txt /t", &["/t 0644 0:0 f b"]),
        ("COPY nothing* *.txt /t", &["/t 0644 0:0 f b"]),
        ("COPY \"a.txt\" '/t'", &["/t 0644 0:0 f a"]),
        // several may go to a directory that is there
        ("COPY nothing* d/s?b/* /t", &["/t 0644 0:0 f y"]),
        ("COPY a.txt /t/\nCOPY a.txt b.txt /t", &["/t 0755 0:0 d", "/t/a.txt 0644 0:0 f a", "/t/b.txt 0644 0:0 f b"]),
        ("COPY nothing* /t/", &[]),
        ("COPY [[]x] /t", &["/t 0644 0:0 f class"]),
        ("COPY [\"with [[]x]\", \"/t\"]", &["/t 0644 0:0 f odd"]),
        // links: the source itself is followed, those inside a tree are kept
        ("COPY to-a /t", &["/t 0644 0:0 f a"]),
        ("COPY to-d /t", &["/t 0755 0:0 d", "/t/rel 0:0 l ../a.txt", "/t/sub 0750 0:0 d", "/t/sub/y 0644 0:0 f y", "/t/x 4755 0:0 f x"]),
        ("COPY to-a /t/", &["/t 0755 0:0 d", "/t/to-a 0644 0:0 f a"]),
        // a directory is its content; its own mode is not copied, those below are
        ("COPY d /t", &["/t 0755 0:0 d", "/t/rel 0:0 l ../a.txt", "/t/sub 0750 0:0 d", "/t/sub/y 0644 0:0 f y", "/t/x 4755 0:0 f x"]),
        (
            "COPY a.txt /t/x\nCOPY d /t",
            &["/t 0755 0:0 d", "/t/rel 0:0 l ../a.txt", "/t/sub 0750 0:0 d", "/t/sub/y 0644 0:0 f y", "/t/x 4755 0:0 f x"],
        ),
        // owner and mode
        ("COPY --chown=7 a.txt /t/", &["/t 0755 7:7 d", "/t/a.txt 0644 7:7 f a"]),
        ("COPY --chown=root: a.txt /t", &["/t 0644 0:0 f a"]),
        ("COPY --chown=7:8 --chmod=600 a.txt /t", &["/t 0600 7:8 f a"]),
        ("COPY --chmod=0111 d/sub /t/", &["/t 0755 0:0 d", "/t/y 0111 0:0 f y"]),
        ("COPY <<t /\nhello $PATH_\nt", &["/t 0644 0:0 f hello \n"]),
    ];
    for (instructions, expected) in cases {
        assert_eq!(site.build(&format!("FROM scratch\n{instructions}")).below("/t"), expected, "{instructions}");
    }
}

#[test]
fn links_of_the_image_stay_inside() {
    let Some(site) = site() else { return };
    site.file("base/real/keep", "k").link("base/abs", "/real").link("base/up", "../../../../real").link("base/new", "/made/here");
    let built = site.build("FROM scratch\nCOPY base /\nCOPY a.txt /abs/\nCOPY b.txt /up/\nCOPY a.txt /new");
    let expected = ["/real 0755 0:0 d", "/real/a.txt 0644 0:0 f a", "/real/b.txt 0644 0:0 f b", "/real/keep 0644 0:0 f k"];
    assert_eq!(built.below("/real"), expected);
    assert_eq!(built.below("/made"), ["/made 0755 0:0 d", "/made/here 0644 0:0 f a"]);
    // Out of the context leads nowhere but to the same name inside it.
    let refused = site.refusal("FROM scratch\nCOPY out/passwd /t");
    assert!(refused.ends_with("\"out/passwd\" is not in the build context"), "{refused}");
}

#[test]
fn linked_copies_do_not_depend_on_what_is_below() {
    let Some(site) = site() else { return };
    site.file("base/real/keep", "k").link("base/to-real", "/real");
    let built = site.build("FROM scratch\nCOPY base /\nCOPY --link a.txt /to-real/");
    assert_eq!(built.below("/to-real"), ["/to-real 0755 0:0 d", "/to-real/a.txt 0644 0:0 f a"]);
    let other = site.build("FROM scratch\nCOPY b.txt /\nCOPY --link a.txt /to-real/");
    assert_eq!(other.cached(), 1);
}

#[test]
fn a_later_tree_wins_over_an_earlier_one() {
    let Some(site) = site() else { return };
    site.file("one/p/q", "q").file("two/p", "file").file("three/p/r", "r").file("four/x", "x").link("four/p", "x");
    for link in ["", "--link "] {
        let built = site.build(&format!("FROM scratch\nCOPY one /t\nCOPY {link}two /t"));
        assert_eq!(built.below("/t"), ["/t 0755 0:0 d", "/t/p 0644 0:0 f file"]);
        let built = site.build(&format!("FROM scratch\nCOPY one /t\nCOPY {link}two /t\nCOPY {link}three /t"));
        assert_eq!(built.below("/t"), ["/t 0755 0:0 d", "/t/p 0755 0:0 d", "/t/p/r 0644 0:0 f r"]);
        let built = site.build(&format!("FROM scratch\nCOPY one /t\nCOPY {link}four /t"));
        assert_eq!(built.below("/t"), ["/t 0755 0:0 d", "/t/p 0:0 l x", "/t/x 0644 0:0 f x"]);
        let built = site.build(&format!("FROM scratch\nCOPY four /t\nCOPY {link}one /t"));
        assert_eq!(built.below("/t"), ["/t 0755 0:0 d", "/t/p 0755 0:0 d", "/t/p/q 0644 0:0 f q", "/t/x 0644 0:0 f x"]);
    }
}

#[test]
fn stages_keep_owners_and_hard_links() {
    let Some(site) = site() else { return };
    fs::hard_link(site.path("d/x"), site.path("d/x2")).expect("link");
    let text = "FROM scratch AS one\nCOPY --chown=5:6 d /s/\nFROM scratch\nCOPY --from=one /s /t/\nCOPY --from=0 --chown=9 /s/sub/y /u/";
    let built = site.build(text);
    let expected =
        ["/t 0755 0:0 d", "/t/rel 5:6 l ../a.txt", "/t/sub 0750 5:6 d", "/t/sub/y 0644 5:6 f y", "/t/x 4755 5:6 f x", "/t/x2 4755 5:6 f x"];
    assert_eq!(built.below("/t"), expected);
    assert_eq!(built.below("/u"), ["/u 0755 9:9 d", "/u/y 0644 9:9 f y"]);
    let layer = site.store.image(&built.id).expect("image").layers[0].clone();
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(layer.join("t").join(name)).expect("file"));
    assert_eq!(inode("x"), inode("x2"));
}

#[test]
fn ignored_files_are_not_there() {
    let Some(site) = site() else { return };
    site.file(".dockerignore", "*\n!d/sub\n!a.txt\n");
    let built = site.build("FROM scratch\nCOPY . /t");
    assert_eq!(
        built.below("/t"),
        ["/t 0755 0:0 d", "/t/a.txt 0644 0:0 f a", "/t/d 0700 0:0 d", "/t/d/sub 0750 0:0 d", "/t/d/sub/y 0644 0:0 f y"]
    );
    let refused = site.refusal("FROM scratch\nCOPY b.txt /t");
    assert!(refused.ends_with("\"b.txt\" is not in the build context: it is hidden by .dockerignore"), "{refused}");
    let excluded = site.build("FROM scratch\nCOPY --exclude=*.txt --exclude=d/sub/y . /t");
    assert_eq!(excluded.below("/t"), ["/t 0755 0:0 d", "/t/d 0700 0:0 d", "/t/d/sub 0750 0:0 d"]);
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let Some(site) = site() else { return };
    let tree = site.root().join("tree");
    fs::create_dir_all(tree.join("p")).expect("tree");
    fs::write(tree.join("p/q"), "q").expect("file");
    let tar = |name: &str, flags: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(&tree).args(["--owner=3", "--group=4", "--mode=0640", "--mtime=@1000000000"]).args(flags);
        assert!(command.arg("-cf").arg(site.path(name)).arg("p/q").status().expect("tar").success());
    };
    tar("plain", &[]);
    tar("packed.txt", &["-z"]);
    let unpacked = ["/t 0755 0:0 d", "/t/p 0755 0:0 d", "/t/p/q 0640 3:4 f q"];
    for name in ["plain", "packed.txt"] {
        assert_eq!(site.build(&format!("FROM scratch\nADD {name} /t/")).below("/t"), unpacked, "{name}");
    }
    // As every builder: an archive says itself whose its files are; --chown is for the directory.
    let owned = site.build("FROM scratch\nADD --chown=1:2 plain /t");
    assert_eq!(owned.below("/t"), ["/t 0755 1:2 d", "/t/p 0755 0:0 d", "/t/p/q 0640 3:4 f q"]);
    assert_eq!(site.build("FROM scratch\nADD a.txt /t").below("/t"), ["/t 0644 0:0 f a"]);
    assert_eq!(site.build("FROM scratch\nCOPY plain /t").below("/t").len(), 1);
    // GNU tar leaves the device number of a pipe empty.
    fs::remove_file(tree.join("p/q")).expect("file");
    assert!(Command::new("mkfifo").arg(tree.join("p/q")).status().expect("mkfifo").success());
    tar("pipe", &[]);
    assert_eq!(site.build("FROM scratch\nADD pipe /t/").below("/t/p/q"), ["/t/p/q 0640 3:4 p"]);
}

#[test]
fn names_of_one_file_stay_so_within_a_copied_directory() {
    let Some(site) = site() else { return };
    fs::hard_link(site.path("d/x"), site.path("d/x2")).expect("link");
    let built = site.build("FROM scratch\nCOPY d /t/\nCOPY d/x d/x2 /u/\nCOPY d/x* /v/");
    let layers = site.store.image(&built.id).expect("image").layers;
    let inode = |layer: usize, name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(layers[layer].join(name)).expect("file"));
    assert_eq!(inode(0, "t/x"), inode(0, "t/x2"));
    assert_ne!(inode(1, "u/x"), inode(1, "u/x2"), "two sources");
    assert_ne!(inode(2, "v/x"), inode(2, "v/x2"), "two sources");
}

#[test]
fn what_is_refused() {
    let Some(site) = site() else { return };
    let cases = [
        (
            "COPY missing /t",
            "Dockerfile:2:1: COPY missing /t\n   1 |     FROM scratch\n   2 | >>> COPY missing /t\n: \"missing\" is not in the build context",
        ),
        (
            "COPY --from=later a.txt /t\nFROM scratch AS later\nFROM scratch\nCOPY --from=0 / /",
            "stage later is not built before this one: move it above",
        ),
        ("COPY --chown=nobody a.txt /t", "there is no user \"nobody\" in /etc/passwd of the image"),
        ("COPY --chown=0:nobody a.txt /t", "there is no group \"nobody\" in /etc/group of the image"),
        ("COPY --chown=4294967295 a.txt /t", "user or group number 4294967295 is above 2147483647"),
        ("COPY --chmod=999 a.txt /t", "--chmod=999 is not octal between 0 and 07777"),
        ("COPY [a-.txt /t", "\"[a-.txt\" is not a pattern: a [ that stands for itself is written [[]"),
        ("COPY a.txt /f\nWORKDIR /f", "resolve \"/f\": Not a directory"),
        ("COPY ou* /t/", "\"out\" is not in the build context"),
        ("COPY d /d\nFROM scratch\nCOPY --from=0 /d/r* /t/", "\"d/rel\" is not in stage"),
        ("COPY d /t\nCOPY a.txt /t/sub/\nCOPY a.txt /t/n\nCOPY d/sub /t/n", "cannot replace a file with a directory"),
        ("COPY --from=7 a.txt /t", "there is no stage 7 before this one"),
        ("COPY --from=nowhere/image a.txt /t", "image nowhere/image: docker.io/nowhere/image:latest is not there"),
        ("COPY https://example.org/x /t", "https://example.org/x is no path: COPY takes local files only"),
        ("FROM nowhere/image", "image nowhere/image: docker.io/nowhere/image:latest is not there"),
    ];
    for (instructions, expected) in cases {
        let refused = site.refusal(&format!("FROM scratch\n{instructions}"));
        assert!(refused.contains(expected), "{instructions}\n{refused}");
    }
}
