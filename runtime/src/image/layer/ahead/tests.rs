//! Streams read ahead: every compression, both digests, broken ends, readers that give up.

use super::*;
use std::io::Write as _;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read_all(source: &[u8]) -> (io::Result<(Vec<u8>, Digest)>, Option<Compressed>) {
    inflate_ahead(source, |mut ahead| {
        let mut bytes = Vec::new();
        ahead.read_to_end(&mut bytes)?;
        Ok((bytes, ahead.digest().0))
    })
}

#[test]
fn every_compression_gives_the_same_bytes_and_both_digests() {
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    let (half, rest) = content.split_at(content.len() / 2);
    let two_members = [gzip(half), gzip(rest)].concat();
    for packed in [content.clone(), gzip(&content), two_members, zstd::encode_all(&content[..], 1).unwrap()] {
        let (read, compressed) = read_all(&packed);
        let (bytes, digest) = read.unwrap();
        assert!(bytes == content);
        assert_eq!(digest, Digest::of(&content));
        assert_eq!(compressed.unwrap(), Compressed { digest: Digest::of(&packed), bytes: packed.len() as u64 });
    }
}

#[test]
fn truncated_and_foreign_streams_are_errors() {
    let packed = gzip(&vec![7; 100_000]);
    assert!(read_all(&packed[..packed.len() - 9]).0.is_err());
    let error = read_all(b"\xfd7zXZ\0rest").0.unwrap_err().to_string();
    assert!(error.contains("compressed with xz"), "{error}");
}

#[test]
fn giving_up_ends_a_read_that_waits() {
    struct Waiting(std::sync::mpsc::Receiver<()>);
    impl Read for Waiting {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let () = self.0.recv().unwrap();
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }
    let (hung_up, until) = std::sync::mpsc::channel();
    let waiting = Source::waiting(Waiting(until), move || hung_up.send(()).unwrap());
    let ((), compressed) = inflate_ahead(waiting, drop);
    assert_eq!(compressed, None);
}

#[test]
fn giving_up_early_ends_the_threads() {
    let packed = gzip(&vec![0; 50 << 20]);
    let ((), compressed) = inflate_ahead(&packed[..], drop);
    assert_eq!(compressed, None);
}
