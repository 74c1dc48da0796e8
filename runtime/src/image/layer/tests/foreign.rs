//! What other tools write, in all the forms that tar has grown, and entries that say more than one thing about a name.

use super::*;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

fn unpacked(stream: &[u8]) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    unpack(stream, open(place.path())).unwrap_or_else(|error| panic!("{}", chain(&error)));
    place
}

fn refusal(stream: &[u8]) -> String {
    let place = tempfile::tempdir().unwrap();
    chain(&unpack(stream, open(place.path())).unwrap_err())
}

fn empty(name: &str) -> Entry {
    entry(name, EntryKind::File { size: 0 })
}

/// The header at this offset, changed and summed up again.
fn change(stream: &mut [u8], at: usize, change: impl FnOnce(&mut [u8])) {
    let block = &mut stream[at..at + 512];
    change(block);
    let mut header = tar::Header::from_byte_slice(block).clone();
    header.set_cksum();
    block.copy_from_slice(header.as_bytes());
}

#[test]
fn sparse_files_of_every_format_are_whole_and_keep_their_holes() {
    if !is_root() {
        return;
    }
    let ground = tempfile::tempdir().unwrap();
    let tree = ground.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let make = |name: &str, size: u64, pieces: &[(u64, &[u8])]| {
        use std::os::unix::fs::FileExt;
        let file = fs::File::create(tree.join(name)).unwrap();
        pieces.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        file.set_len(size).unwrap();
    };
    make("ends with data", 3_000_000, &[(1_000_000, b"middle"), (2_999_999, b"!")]);
    make("begins with data", 200_000, &[(0, b"head")]);
    make("nothing but a hole", 1 << 20, &[]);
    let many: Vec<(u64, &[u8])> = (0..60).map(|number| (number * 100_000, &b"piece"[..])).collect();
    make("more pieces than a header holds", 6_000_000, &many);
    fs::write(tree.join("plain"), "after all of them").unwrap();
    for format in [&["--format=gnu"][..], &["--sparse-version=0.0"], &["--sparse-version=0.1"], &["--sparse-version=1.0"]] {
        let archive = ground.path().join("layer.tar");
        let mut made = Command::new("tar");
        made.args(["--sparse", "--numeric-owner"]).args(format).arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".");
        assert!(made.status().unwrap().success());
        let stream = fs::read(&archive).unwrap();
        assert!(stream.len() < 2 << 20, "tar has left the holes out");
        let place = unpacked(&stream);
        let seconds = |text: String| text.lines().map(|line| line.split('.').next().unwrap().to_owned()).collect::<Vec<_>>();
        let content = |name| fs::read(place.path().join(name)).unwrap() == fs::read(tree.join(name)).unwrap();
        assert_eq!(seconds(describe_tree(place.path())), seconds(describe_tree(&tree)), "{format:?}");
        assert!(content("ends with data") && content("more pieces than a header holds"), "{format:?}");
        let disk = fs::metadata(place.path().join("nothing but a hole")).unwrap().blocks();
        assert!(disk < 64, "{format:?}: {disk} blocks for a hole");
    }
}

/// A file in GNU tar's old way: this size, these regions, this much data.
fn old_sparse(size: u64, regions: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let mut stream = tar(&[entry("holes", EntryKind::File { size: data.len().min(4) as u64 })]);
    stream.splice(512..1024, data.iter().copied().chain(std::iter::repeat_n(0, data.len().wrapping_neg() % 512)));
    let number = |number: u64| format!("{number:011o}\0").into_bytes();
    change(&mut stream, 0, |header| {
        header[124..136].copy_from_slice(&number(data.len() as u64));
        header[156] = b'S';
        header[257..265].copy_from_slice(b"ustar  \0");
        header[345..512].fill(0);
        for (place, (start, length)) in regions.iter().enumerate() {
            header[386 + 24 * place..][..24].copy_from_slice(&[number(*start), number(*length)].concat());
        }
        header[483..495].copy_from_slice(&[0x80, 0, 0, 0].iter().copied().chain(size.to_be_bytes()).collect::<Vec<_>>());
    });
    stream
}

#[test]
fn sparse_files_that_lie_are_refused() {
    let sound = unpacked(&old_sparse(10, &[(2, 3)], b"abc"));
    assert_eq!(fs::read(sound.path().join("holes")).unwrap(), b"\0\0abc\0\0\0\0\0");
    for (why, stream, expected) in [
        ("a bomb of holes", old_sparse(1 << 50, &[(2, 3)], b"abc"), "bytes of holes"),
        ("on top of each other", old_sparse(10, &[(2, 3), (4, 3)], b"abcdef"), "map of a sparse file is broken"),
        ("backwards", old_sparse(10, &[(5, 3), (0, 3)], b"abcdef"), "map of a sparse file is broken"),
        ("past its end", old_sparse(4, &[(2, 3)], b"abc"), "map of a sparse file is broken"),
        ("more data than regions", old_sparse(10, &[(2, 3)], b"abcd"), "map of a sparse file is broken"),
    ] {
        let text = refusal(&stream);
        assert!(text.contains(expected), "{why}: {text}");
    }
    let mut endless = old_sparse(10, &[(2, 3)], b"abc");
    change(&mut endless, 0, |header| header[482] = 1);
    let mut continued = vec![0; 3000 * 512];
    continued.iter_mut().skip(504).step_by(512).for_each(|mark| *mark = 1);
    endless.splice(512..512, continued);
    let text = refusal(&endless);
    assert!(text.contains("extension headers are over"), "{text}");
}

#[test]
fn what_lies_below_a_file_of_the_layer_is_hidden_by_it_already() {
    if !is_root() {
        return;
    }
    for marker in ["d/.wh.x", "d/.wh..wh..opq", "d/e/.wh.x"] {
        for entries in [[empty("d"), empty(marker)], [empty(marker), empty("d")]] {
            let place = unpacked(&tar(&entries));
            assert!(describe_tree(place.path()).starts_with("d file "), "{marker}");
        }
    }
    // A marker is found as any entry is: through a link of the layer.
    let place = unpacked(&tar(&[directory("real"), link("to", "real"), empty("to/.wh..wh..opq"), empty("to/.wh.gone")]));
    let tree = describe_tree(place.path());
    let opaque = tree.lines().find(|line| line.starts_with("real directory")).unwrap();
    assert!(opaque.contains("trusted.overlay.opaque") && tree.contains("real/gone whiteout") && tree.contains("to link"), "{tree}");
}

#[test]
fn of_two_entries_about_one_file_the_last_one_wins() {
    if !is_root() {
        return;
    }
    let capability = (b"security.capability".to_vec(), b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    let named = |entry: Entry, mode, uid| Entry { mode, uid, ..entry };
    let first = || named(with_attribute(file("one"), capability.clone()), 0o755, 0);
    // A link that says the same as the file, as most tools write it: what it leaves out stays.
    let place = unpacked(&tar(&[first(), named(hard_link("two", "one"), 0o755, 0)]));
    assert!(describe_tree(place.path()).lines().all(|line| line.contains("file 755 0:0") && line.contains("security.capability")));
    // One that says something else.
    let place = unpacked(&tar(&[first(), named(hard_link("two", "one"), 0o4711, 7)]));
    let tree = describe_tree(place.path());
    assert!(tree.lines().all(|line| line.contains("file 4711 7:0") && !line.contains("capability")), "{tree}");
    let again = with_attribute(named(hard_link("two", "one"), 0o4711, 7), capability.clone());
    let tree = describe_tree(unpacked(&tar(&[first(), again])).path());
    assert!(tree.lines().all(|line| line.contains("file 4711 7:0") && line.contains("capability")), "{tree}");
}

#[test]
fn links_are_packed_with_the_attributes_that_an_unpacker_would_drop() {
    if !is_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("one"), "x").unwrap();
    rustix::fs::setxattr(place.path().join("one"), "security.capability", capability, XattrFlags::empty()).unwrap();
    fs::hard_link(place.path().join("one"), place.path().join("two")).unwrap();
    let mut stream = Vec::new();
    pack::pack(&open(place.path()), Times::Keep, pack::OnDisk::Leave, &mut stream).unwrap();
    let records = stream.windows(19).filter(|window| window == b"security.capability").count();
    assert_eq!(records, 2);
}

#[test]
fn capabilities_of_both_versions_and_access_lists_are_kept() {
    if !is_root() {
        return;
    }
    let version_2 = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let version_3 = [&b"\x01\0\0\x03\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], &1000_u32.to_le_bytes()].concat();
    // acl(5) as the kernel has it: version 2; owner rw-, user 1000 r--, group r--, mask r--, others ---.
    let list: Vec<u8> = [&2_u32.to_le_bytes()[..]]
        .into_iter()
        .map(<[u8]>::to_vec)
        .chain(
            [(1_u16, 6_u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
                .map(|(tag, bits, id)| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()),
        )
        .flatten()
        .collect();
    for (name, value) in [("security.capability", version_2), ("security.capability", version_3), ("system.posix_acl_access", list)] {
        let entry = Entry { mode: 0o640, ..with_attribute(file("f"), (name.into(), value.clone())) };
        let place = unpacked(&tar(&[entry]));
        let mut found = [0; 100];
        let size = rustix::fs::getxattr(place.path().join("f"), name, &mut found[..]).unwrap();
        assert_eq!(&found[..size], value, "{name}");
    }
}

#[test]
fn odd_headers_are_read_as_other_tools_read_them() {
    // POSIX: a file, whatever its name looks like. Before it: a directory.
    let mut stream = tar(&[empty("posix/"), empty("older/")]);
    change(&mut stream, 512, |header| header[156] = 0);
    let place = unpacked(&stream);
    assert!(place.path().join("posix").is_file() && place.path().join("older").is_dir());
    // A sum of signed bytes.
    let mut stream = tar(&[file("sum\u{e4}")]);
    let block: &[u8] = &stream[..512];
    let sum: i64 = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { i64::from(*byte as i8) }).sum();
    stream[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(unpacked(&stream).path().join("sum\u{e4}").is_file());
    // Global headers say nothing of any entry.
    let mut stream = tar(&[empty("global")]);
    let mut record = vec![0; 512];
    record[..16].copy_from_slice(b"16 comment=text\n");
    change(&mut stream, 0, |header| {
        header[124..136].copy_from_slice(b"00000000020\0");
        header[156] = b'g';
    });
    stream.splice(512..512, record.into_iter().chain(tar(&[file("after")])));
    assert_eq!(fs::read_dir(unpacked(&stream).path()).unwrap().count(), 1);
}
