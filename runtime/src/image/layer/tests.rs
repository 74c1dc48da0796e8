//! What hostile layers may do: nothing outside their directory. What honest trees become: themselves again.

use super::header::{Attribute, Entry, EntryKind, Time};
use super::tar_writer::TarWriter;
use super::unpack::unpack;
use super::{LayerError, Times, pack};
use crate::image::tests::{describe_tree, is_root};
use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

mod foreign;

const NOW: Time = Time { seconds: 1_700_000_000, nanoseconds: 0 };

fn entry(name: &str, kind: EntryKind) -> Entry {
    Entry { name: name.as_bytes().to_vec(), kind, mode: 0o777, uid: 0, gid: 0, modified: NOW, attributes: Vec::new() }
}

fn file(name: &str) -> Entry {
    entry(name, EntryKind::File { size: 4 })
}

fn directory(name: &str) -> Entry {
    entry(name, EntryKind::Directory)
}

fn link(name: &str, target: &str) -> Entry {
    entry(name, EntryKind::Symlink { target: target.into() })
}

fn hard_link(name: &str, target: &str) -> Entry {
    entry(name, EntryKind::HardLink { target: target.into() })
}

fn with_attribute(entry: Entry, attribute: Attribute) -> Entry {
    Entry { attributes: vec![attribute], ..entry }
}

/// A tar stream; every file holds `evil`.
fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for entry in entries {
        writer.entry(entry).unwrap();
        if let EntryKind::File { size } = entry.kind {
            writer.data(&b"evil"[..size as usize]).unwrap();
        }
    }
    writer.finish().unwrap()
}

pub(super) fn tar_of_empty_directories(names: &[&str]) -> Vec<u8> {
    tar(&names.iter().map(|name| directory(name)).collect::<Vec<_>>())
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

enum Outcome {
    Refused(&'static str),
    /// Unpacked, and this is what the layer holds: names and types.
    Holds(&'static [&'static str]),
}

/// Unpacks into `<temporary>/layer`, beside a canary that must not change.
fn check(name: &str, stream: &[u8], outcome: &Outcome, canary: &Path) {
    let before = describe_tree(canary);
    let place = canary.parent().unwrap().join("layer");
    fs::create_dir(&place).unwrap();
    let result = unpack(stream, open(&place));
    match (result, outcome) {
        (Err(error), Outcome::Refused(expected)) => {
            let text = chain(&error);
            assert!(text.contains(expected), "{name}: {text}");
        }
        (Ok(_), Outcome::Holds(expected)) => {
            let tree = describe_tree(&place);
            let names: Vec<_> = tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
            assert_eq!(names, *expected, "{name}\n{tree}");
        }
        (result, _) => panic!("{name}: {:?}", result.map_err(|error| chain(&error))),
    }
    assert_eq!(describe_tree(canary), before, "{name} changed what lies outside");
    crate::store::remove::remove_tree(&place).unwrap();
}

/// Name, stream and outcome of each attack on a directory of the host and a file in it.
fn attacks(outside: &str, outside_file: &str) -> Vec<(&'static str, Vec<u8>, Outcome)> {
    let owner = Entry { uid: u32::MAX, ..file("f") };
    let deep = "d/".repeat(100_000);
    let whole = tar(&[file("a"), file("b")]);
    let mut flipped = whole.clone();
    flipped[1100] ^= 1;
    let mut endless = tar(&[file("huge")]);
    {
        let mut header = tar::Header::from_byte_slice(&endless[..512]).clone();
        header.set_size(1 << 60);
        header.set_cksum();
        endless[..512].copy_from_slice(header.as_bytes());
    }
    let node = |major, minor| entry("null", EntryKind::CharacterDevice { major, minor });
    let attribute = |name: &str| with_attribute(directory("d"), (name.into(), b"y".to_vec()));
    use Outcome::{Holds, Refused};
    vec![
        ("parent", tar(&[file("../canary/file")]), Refused("climbs out")),
        ("parent inside", tar(&[directory("a"), file("a/../../canary/file")]), Refused("climbs out")),
        ("parent by text", tar(&[file("a/../b")]), Holds(&["b file"])),
        ("absolute", tar(&[file("/canary-file")]), Holds(&["canary-file file"])),
        ("absolute link, then through it", tar(&[link("out", outside), file("out/file")]), Refused("leads to nothing in this layer")),
        ("relative link, then through it", tar(&[link("out", "../../../canary"), file("out/file")]), Refused("leads to nothing")),
        ("climbing link, then through it", tar(&[link("out", "../../.."), file("out/f")]), Holds(&["f file", "out link"])),
        ("link to itself, then through it", tar(&[link("out", "out"), file("out/f")]), Refused("not a directory")),
        ("link replaced by a file", tar(&[link("out", outside_file), file("out")]), Holds(&["out file"])),
        ("link replaced by a directory", tar(&[link("out", outside), directory("out")]), Holds(&["out directory"])),
        ("link whose implied directory is the link", tar(&[link("a/b", outside), file("a/b/c/file")]), Refused("leads to nothing")),
        ("whiteout through a link", tar(&[link("out", outside), file("out/.wh.file")]), Refused("leads to nothing")),
        ("opaque link", tar(&[link("out", outside), file("out/.wh..wh..opq")]), Refused("leads to nothing")),
        ("hard link out", tar(&[hard_link("h", "../canary/file")]), Refused("climbs out")),
        ("hard link to the host", tar(&[hard_link("h", outside_file)]), Refused("no file of this layer")),
        ("hard link through a link", tar(&[link("out", outside), hard_link("h", "out/file")]), Refused("no file of this layer")),
        (
            "hard link to a link, then over it",
            tar(&[link("out", outside_file), hard_link("h", "out"), file("h")]),
            Holds(&["h file", "out link"]),
        ),
        ("hard link to a directory", tar(&[directory("d"), hard_link("h", "d")]), Refused("no file of this layer")),
        ("hard link to itself", tar(&[file("f"), hard_link("f", "./f")]), Holds(&["f file"])),
        ("device", tar(&[node(1, 3)]), Holds(&["null character"])),
        ("forged whiteout", tar(&[node(0, 0)]), Refused("the device 0:0")),
        ("forged opaque", tar(&[attribute("trusted.overlay.opaque")]), Refused("belong to overlayfs")),
        ("forged redirect", tar(&[attribute("trusted.overlay.redirect")]), Refused("belong to overlayfs")),
        ("foreign label", tar(&[attribute("security.selinux")]), Holds(&["d directory"])),
        ("root replaced", tar(&[link(".", outside), file("file")]), Refused("the root of a layer is a directory")),
        ("nobody", tar(&[owner]), Refused("not a user or group id")),
        ("deep", tar(&[file(&deep)]), Refused("directories deep")),
        ("whiteout of nothing", tar(&[file(".wh.")]), Refused("a whiteout of nothing")),
        ("whiteout of the parent", tar(&[file("a/.wh...")]), Refused("a whiteout of nothing")),
        ("duplicates", tar(&[file("x"), directory("x"), file("x/y"), link("x", "/"), file("x")]), Holds(&["x file"])),
        ("truncated", whole[..700].to_vec(), Refused("after \"a\"")),
        ("truncated at a header", whole[..1200].to_vec(), Refused("after \"a\"")),
        ("flipped bit", flipped, Refused("no tar header")),
        ("more than there is", endless, Refused("after \"huge\"")),
        ("not a tar", vec![b'x'; 4096], Refused("no tar header")),
        ("xz", b"\xfd7zXZ\0".to_vec(), Refused("xz -d")),
    ]
}

/// The streams that no image may bring, with what their refusal says.
pub(in crate::image) fn refused_attacks() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let refused = |(name, stream, outcome)| if let Outcome::Refused(why) = outcome { Some((name, stream, why)) } else { None };
    attacks("/nowhere", "/nowhere/file").into_iter().filter_map(refused).collect()
}

#[test]
fn hostile_layers_change_nothing_outside_their_directory() {
    if !is_root() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let canary = temporary.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "host").unwrap();
    fs::set_permissions(canary.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    let file = canary.join("file");
    for (name, stream, outcome) in attacks(canary.to_str().unwrap(), file.to_str().unwrap()) {
        check(name, &stream, &outcome, &canary);
    }
}

#[test]
fn a_bomb_is_refused_while_it_unfolds() {
    let temporary = tempfile::tempdir().unwrap();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), super::RATIO_FREE_BYTES + (64 << 20)), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    let error = unpack(&bomb[..], open(temporary.path())).unwrap_err();
    assert!(chain(&error).contains("decompression bomb"), "{}", chain(&error));
}

#[test]
fn whiteouts_hide_lower_layers_and_never_siblings_whatever_the_order() {
    if !is_root() {
        return;
    }
    let marks = [file("etc/.wh.gone"), file("etc/.wh.both"), file("etc/.wh.dir"), file("var/.wh..wh..opq")].map(|mut mark| {
        mark.kind = EntryKind::File { size: 0 };
        mark
    });
    let own = [directory("etc"), file("etc/both"), directory("etc/dir"), file("etc/dir/new"), file("var/own")];
    let mut trees = Vec::new();
    for entries in [[&marks[..], &own[..]].concat_entries(), [&own[..], &marks[..]].concat_entries()] {
        let temporary = tempfile::tempdir().unwrap();
        unpack(&tar(&entries)[..], open(temporary.path())).unwrap();
        trees.push(describe_tree(temporary.path()));
    }
    assert_eq!(trees[0], trees[1]);
    let names: Vec<_> = trees[0].lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected =
        ["etc directory", "etc/both file", "etc/dir directory", "etc/dir/new file", "etc/gone whiteout", "var directory", "var/own file"];
    assert_eq!(names, expected);
    assert!(trees[0].lines().any(|line| line.starts_with("etc/dir ") && line.contains("trusted.overlay.opaque")));
    assert!(trees[0].lines().any(|line| line.starts_with("var ") && line.contains("trusted.overlay.opaque")));
}

/// `[&[Entry]]` joined; entries cannot be cloned elsewhere, and need not be.
trait ConcatEntries {
    fn concat_entries(&self) -> Vec<Entry>;
}

impl ConcatEntries for [&[Entry]; 2] {
    fn concat_entries(&self) -> Vec<Entry> {
        let copy = |entry: &Entry| Entry { name: entry.name.clone(), kind: entry.kind.clone(), attributes: Vec::new(), ..*entry };
        self.iter().flat_map(|entries| entries.iter().map(copy)).collect()
    }
}

#[test]
fn owners_modes_times_and_attributes_are_kept() {
    if !is_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let program =
        Entry { mode: 0o4711, uid: 1000, gid: 70_000, ..with_attribute(file("ping"), ("security.capability".into(), capability)) };
    let sticky = Entry { mode: 0o1777, modified: Time { seconds: -5, nanoseconds: 250_000_000 }, ..directory("tmp") };
    let temporary = tempfile::tempdir().unwrap();
    unpack(&tar(&[sticky, program, file("tmp/x")])[..], open(temporary.path())).unwrap();
    let tree = describe_tree(temporary.path());
    let lines: Vec<_> = tree.lines().collect();
    assert!(lines[0].starts_with("ping file 4711 1000:70000 1700000000.000000000"), "{tree}");
    assert!(lines[0].contains("security.capability"), "{tree}");
    assert!(lines[1].starts_with("tmp directory 1777 0:0 -5.250000000"), "{tree}");
}

/// Every kind of file a tree may hold, in one tree.
fn make_tree(root: &Path) {
    let long = "n".repeat(200);
    for directory in ["bin", "etc/deep/deeper", "empty", "opaque", &long] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("bin/program"), vec![7; 300_000]).unwrap();
    fs::set_permissions(root.join("bin/program"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::hard_link(root.join("bin/program"), root.join("bin/again")).unwrap();
    fs::write(root.join(&long).join(&long), "long").unwrap();
    fs::write(root.join(std::ffi::OsStr::new("gr\u{fc}n")), "").unwrap();
    fs::write(root.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"latin-\xfc")), "x").unwrap();
    symlink("t".repeat(180), root.join("long-link")).unwrap();
    symlink("/etc/passwd", root.join("etc/link")).unwrap();
    fs::hard_link(root.join("etc/link"), root.join("etc/link-again")).unwrap();
    std::os::unix::fs::chown(root.join("etc/deep"), Some(4_000_000_000), Some(65_534)).unwrap();
    let handle = open(root);
    rustix::fs::mknodat(&handle, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
    rustix::fs::mknodat(&handle, "zero", FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 5)).unwrap();
    rustix::fs::mknodat(&handle, "disk", FileType::BlockDevice, Mode::RUSR, rustix::fs::makedev(259, 70_000)).unwrap();
    rustix::fs::mknodat(&handle, "gone", FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| rustix::fs::setxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
    set("opaque", "trusted.overlay.opaque", b"y");
    set("opaque", "trusted.overlay.origin", b"books");
    set("bin/program", "user.note", b"a=b\n\0");
}

#[test]
fn a_tree_packed_and_unpacked_is_the_same_tree_and_the_same_stream() {
    if !is_root() {
        return;
    }
    for times in [Times::Keep, Times::default(), Times::NotAfter(1_600_000_000)] {
        let temporary = tempfile::tempdir().unwrap();
        let (made, unpacked) = (temporary.path().join("made"), temporary.path().join("unpacked"));
        fs::create_dir(&made).unwrap();
        fs::create_dir(&unpacked).unwrap();
        make_tree(&made);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let packed = pack::pack(&open(&made), times, pack::OnDisk::Settle, &mut first).unwrap();
        let found = unpack(&first[..], open(&unpacked)).unwrap();
        assert_eq!((packed.entries, packed.size_bytes), (found.entries, found.size_bytes));
        pack::pack(&open(&unpacked), times, pack::OnDisk::Leave, &mut second).unwrap();
        assert!(first == second, "{times:?}");
        assert_eq!(describe_tree(&made), describe_tree(&unpacked), "{times:?}");
    }
}

#[test]
fn an_attribute_that_changes_meanwhile_is_read_as_it_was_at_some_moment() {
    if !is_root() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let file = open(temporary.path());
    let values = [b"short".to_vec(), vec![b'l'; 700]];
    let set = |value: &[u8]| rustix::fs::fsetxattr(&file, "user.note", value, XattrFlags::empty()).unwrap();
    set(&values[0]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                values.iter().for_each(|value| set(value));
            }
        });
        // Until both have been seen in turn often enough.
        let (mut turns, mut last) = (0, values[0].clone());
        let wrong = loop {
            match pack::attributes(&file, b"file").map(|found| found.portable).as_deref() {
                Ok([(_, value)]) if *value == last => {}
                Ok([(_, value)]) if values.contains(value) && turns < 1000 => (turns, last) = (turns + 1, value.clone()),
                Ok([(_, value)]) if values.contains(value) => break None,
                other => break Some(format!("{other:?}")),
            }
        };
        done.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
    });
}

#[test]
fn the_stream_is_one_that_other_tools_read() {
    if !is_root() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let (made, unpacked) = (temporary.path().join("made"), temporary.path().join("unpacked"));
    fs::create_dir(&made).unwrap();
    fs::create_dir(&unpacked).unwrap();
    make_tree(&made);
    for gone in ["gone", "opaque"] {
        crate::store::remove::remove_tree(&made.join(gone)).unwrap(); // whiteouts are files to tar
    }
    let mut stream = Vec::new();
    pack::pack(&open(&made), Times::default(), pack::OnDisk::Settle, &mut stream).unwrap();
    let archive = temporary.path().join("layer.tar");
    fs::write(&archive, stream).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.args(["--xattrs", "--numeric-owner", "-p", "-C"]).arg(&unpacked).arg("-xf").arg(&archive);
    let status = tar.status().unwrap();
    assert!(status.success());
    assert_eq!(describe_tree(&made), describe_tree(&unpacked));
}

#[test]
fn what_a_layer_cannot_say_is_refused() {
    if !is_root() {
        return;
    }
    let refused = |make: &dyn Fn(&Path)| {
        let temporary = tempfile::tempdir().unwrap();
        make(temporary.path());
        match pack::pack(&open(temporary.path()), Times::Keep, pack::OnDisk::Leave, std::io::sink()) {
            Err(LayerError::Refused { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    };
    let whiteout = refused(&|root| fs::write(root.join(".wh.x"), "").unwrap());
    assert!(whiteout.contains("begins with .wh."), "{whiteout}");
    let redirect = refused(&|root| {
        fs::create_dir(root.join("moved")).unwrap();
        rustix::fs::setxattr(root.join("moved"), "trusted.overlay.redirect", b"/x", XattrFlags::empty()).unwrap();
    });
    assert!(redirect.contains("redirect_dir=off"), "{redirect}");
    let deep = refused(&|root| {
        let mut level = open(root);
        for _ in 0..super::DEPTH_MAX + 2 {
            rustix::fs::mkdirat(&level, "d", Mode::RWXU).unwrap();
            level = rustix::fs::openat(&level, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
    });
    assert!(deep.contains("directories deep"), "{deep}");
    let long = refused(&|root| {
        let mut level = open(root);
        for _ in 0..17 {
            let name = "d".repeat(250);
            rustix::fs::mkdirat(&level, &name, Mode::RWXU).unwrap();
            level = rustix::fs::openat(&level, &name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
    });
    assert!(long.contains("longer than 4095 bytes"), "{long}");
}

mod properties {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What every file has, whatever its kind.
    #[derive(Debug, Clone)]
    struct Common {
        mode: u32,
        owner: u32,
        modified: (i64, u32),
        attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    }

    /// A node of a generated tree.
    #[derive(Debug, Clone)]
    enum Node {
        File {
            bytes: Vec<u8>,
            common: Common,
        },
        Directory {
            opaque: bool,
            children: BTreeMap<Vec<u8>, Node>,
            common: Common,
        },
        Link {
            target: Vec<u8>,
            common: Common,
        },
        /// Of any file before it that is no directory.
        HardLink(prop::sample::Index),
        Whiteout,
        Fifo {
            common: Common,
        },
        Device {
            kind: FileType,
            major: u32,
            minor: u32,
            common: Common,
        },
    }

    /// Any bytes that the kernel takes for a name; long ones are not rare.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let any_bytes = prop::collection::vec(1_u8.., 1..14);
        let text = "[a-zA-Z0-9 ._\u{e4}-]{1,12}".prop_map(String::into_bytes);
        prop_oneof![6 => text, 3 => any_bytes, 1 => prop::collection::vec(b'a'..=b'z', 90..=255)].prop_filter("a name", |name| {
            name != b"." && name != b".." && !name.starts_with(b".wh.") && name.len() <= 255 && !name.contains(&b'/')
        })
    }

    fn common() -> impl Strategy<Value = Common> {
        let time = (-4_000_000_000_i64..20_000_000_000, prop_oneof![Just(0), 0_u32..1_000_000_000]);
        let key = prop_oneof!["[a-z%= .\n]{1,20}".prop_map(String::into_bytes), prop::collection::vec(1_u8.., 1..30)];
        let key = key.prop_map(|name| [b"user.", &name[..]].concat());
        let attributes = prop::collection::btree_map(key, prop::collection::vec(any::<u8>(), 0..40), 0..3);
        (0_u32..0o10000, prop_oneof![Just(0), 0_u32..u32::MAX], time, attributes).prop_map(|(mode, owner, modified, attributes)| Common {
            mode,
            owner,
            modified,
            attributes,
        })
    }

    fn node() -> impl Strategy<Value = Node> {
        let file = (prop::collection::vec(any::<u8>(), 0..2000), common()).prop_map(|(bytes, common)| Node::File { bytes, common });
        let target = prop::collection::vec(1_u8.., 1..180);
        let kind = prop_oneof![Just(FileType::BlockDevice), Just(FileType::CharacterDevice)];
        let device = (kind, 1_u32..4096, 0_u32..1_000_000, common());
        let leaf = prop_oneof![
            6 => file,
            2 => (target, common()).prop_map(|(target, common)| Node::Link { target, common }),
            2 => any::<prop::sample::Index>().prop_map(Node::HardLink),
            1 => Just(Node::Whiteout),
            1 => common().prop_map(|common| Node::Fifo { common }),
            1 => device.prop_map(|(kind, major, minor, common)| Node::Device { kind, major, minor, common }),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            (any::<bool>(), prop::collection::btree_map(name(), inner, 0..8), common())
                .prop_map(|(opaque, children, common)| Node::Directory { opaque, children, common })
        })
    }

    fn build(path: &Path, node: &Node, files: &mut Vec<std::path::PathBuf>) {
        match node {
            Node::File { bytes, common } => {
                fs::write(path, bytes).unwrap();
                settle(path, common, FileType::RegularFile);
            }
            Node::Directory { opaque, children, common } => {
                fs::create_dir(path).unwrap();
                for (name, child) in children {
                    build(&path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name)), child, files);
                }
                if *opaque {
                    rustix::fs::setxattr(path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
                }
                return settle(path, common, FileType::Directory);
            }
            Node::Link { target, common } => {
                rustix::fs::symlinkat(&target[..], rustix::fs::CWD, path).unwrap();
                settle(path, common, FileType::Symlink);
            }
            Node::HardLink(index) if !files.is_empty() => fs::hard_link(index.get(files), path).unwrap(),
            // A whiteout is a device that has several names in an upper directory; as a layer's entry it has none.
            Node::Whiteout => return make_node(path, FileType::CharacterDevice, 0),
            Node::HardLink(_) => make_node(path, FileType::Fifo, 0),
            Node::Fifo { common } => {
                make_node(path, FileType::Fifo, 0);
                settle(path, common, FileType::Fifo);
            }
            Node::Device { kind, major, minor, common } => {
                make_node(path, *kind, rustix::fs::makedev(*major, *minor));
                settle(path, common, *kind);
            }
        }
        files.push(path.to_owned());
    }

    /// Owner, mode, attributes and times, in the order in which none undoes another.
    fn settle(path: &Path, common: &Common, kind: FileType) {
        std::os::unix::fs::lchown(path, Some(common.owner), Some(common.owner / 2)).unwrap();
        if kind != FileType::Symlink {
            fs::set_permissions(path, fs::Permissions::from_mode(common.mode)).unwrap();
        }
        if matches!(kind, FileType::RegularFile | FileType::Directory) {
            for (name, value) in &common.attributes {
                rustix::fs::setxattr(path, &name[..], value, XattrFlags::empty()).unwrap();
            }
        }
        let time = super::super::root::timestamps(Time { seconds: common.modified.0, nanoseconds: common.modified.1 });
        rustix::fs::utimensat(rustix::fs::CWD, path, &time, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    fn make_node(path: &Path, kind: FileType, device: u64) {
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::RUSR, device).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_tree_is_packed_unpacks_to_itself(tree in node(), keep in any::<bool>()) {
            if is_root() {
                let temporary = tempfile::tempdir().unwrap();
                let (made, unpacked) = (temporary.path().join("made"), temporary.path().join("unpacked"));
                fs::create_dir(&made).unwrap();
                fs::create_dir(&unpacked).unwrap();
                build(&made.join("tree"), &tree, &mut Vec::new());
                let times = if keep { Times::Keep } else { Times::default() };
                let (mut first, mut second) = (Vec::new(), Vec::new());
                pack::pack(&open(&made), times, pack::OnDisk::Settle, &mut first).unwrap();
                unpack(&first[..], open(&unpacked)).unwrap();
                pack::pack(&open(&unpacked), times, pack::OnDisk::Leave, &mut second).unwrap();
                prop_assert!(first == second);
                prop_assert_eq!(describe_tree(&made), describe_tree(&unpacked));
            }
        }

        #[test]
        fn no_stream_escapes_or_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), fix in any::<bool>()) {
            if is_root() {
                let temporary = tempfile::tempdir().unwrap();
                let canary = temporary.path().join("canary");
                let place = temporary.path().join("place");
                fs::create_dir(&canary).unwrap();
                fs::create_dir(&place).unwrap();
                fs::write(canary.join("file"), "host").unwrap();
                let out = link("out", canary.to_str().unwrap());
                let mut stream = tar(&[directory("d"), out, file("d/f"), hard_link("d/g", "d/f"), file("d/.wh.x"), file("../canary/f")]);
                for (index, byte) in flips {
                    let at = index.index(stream.len());
                    stream[at] = byte;
                    if fix {
                        let block = at / 512 * 512;
                        let mut header = tar::Header::from_byte_slice(&stream[block..block + 512]).clone();
                        header.set_cksum();
                        stream[block..block + 512].copy_from_slice(header.as_bytes());
                    }
                }
                let before = describe_tree(&canary);
                let _ = unpack(&stream[..], open(&place));
                prop_assert_eq!(describe_tree(&canary), before);
                prop_assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 2);
            }
        }
    }
}
