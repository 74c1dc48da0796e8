//! ADD of files from the web, from a server that says what it was asked.

use crate::site::{Site, own_network};
use runtime::builder::{downloads, remove_download};
use spec::value::Digest;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex};

/// Answers every request for `/dir/file` with `content`, `/` with a name in a header, all else with 404. Ends with the test's process.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    content: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    fn start(content: &[u8]) -> Self {
        own_network();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, content) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(content.to_vec())));
        let server = Self { port, asked: Arc::clone(&asked), content: Arc::clone(&content) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = content.lock().expect("content").clone();
                asked.lock().expect("asked").extend(answer(stream, &content));
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What was asked since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("asked"))
    }
}

fn answer(mut stream: TcpStream, content: &[u8]) -> Option<String> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let request = lines.next()?;
    let etag = Digest::of(content).hex()[..8].to_owned();
    let known = lines.any(|line| line.to_ascii_lowercase() == format!("if-none-match: \"{etag}\""));
    let path = request.split(' ').nth(1)?.to_owned();
    let common = format!("ETag: \"{etag}\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n");
    let (status, extra, body) = match path.as_str() {
        "/dir/file" | "/" if known => ("304 Not Modified", "", &b""[..]),
        "/dir/file" => ("200 OK", "", content),
        "/" => ("200 OK", "Content-Disposition: attachment; filename=\"named\"\r\n", content),
        _ => ("404 Not Found", "", &b""[..]),
    };
    let head = format!("HTTP/1.1 {status}\r\n{common}{extra}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    Some(format!("{path} {}", &status[..3]))
}

#[test]
fn files_of_the_web_are_asked_for_again_and_taken_once() {
    let Some(site) = Site::new() else { return };
    let server = Server::start(b"first");
    let text = format!("FROM scratch\nADD {} /t/\nADD --chmod=644 --chown=7 {} /u/", server.url("/dir/file"), server.url("/"));
    let built = site.build(&text);
    assert_eq!(built.below("/t"), ["/t 0755 0:0 d", "/t/file 0600 0:0 f first"]);
    assert_eq!(built.below("/u"), ["/u 0755 7:7 d", "/u/named 0644 7:7 f first"]);
    let layer = site.store.image(&built.id).expect("image").layers[0].join("t/file");
    assert_eq!(std::fs::metadata(layer).expect("file").mtime(), 784_111_777);
    assert_eq!(server.asked(), ["/dir/file 200", "/ 200"]);
    let again = site.build(&text);
    assert_eq!((again.id, again.cached()), (built.id, 2));
    assert_eq!(server.asked(), ["/dir/file 304", "/ 304"]);
    *server.content.lock().expect("content") = b"second".to_vec();
    assert_eq!(site.build(&text).below("/t/file"), ["/t/file 0600 0:0 f second"]);
}

#[test]
fn what_was_downloaded_is_listed_and_can_go() {
    let Some(site) = Site::new() else { return };
    let server = Server::start(b"first");
    let url = server.url("/dir/file");
    let add = |url: &str| format!("FROM scratch\nADD {url} /t/");
    let kept = || downloads(&site.store).expect("a list").into_iter().map(|it| (it.digest, it.urls)).collect::<Vec<_>>();
    assert_eq!(kept(), []);
    site.build(&add(&url.replace("127", "me:secret@127")));
    let (first, second) = (Digest::of(b"first"), Digest::of(b"second"));
    assert_eq!(kept(), [(first, [url.clone()].into())], "without the password");
    *server.content.lock().expect("content") = b"second".to_vec();
    site.build(&add(&url.replace("127", "me:secret@127")));
    let list = kept();
    assert_eq!(list, [(first, [].into()), (second, [url.clone()].into())], "what no URL leads to any more is the oldest");
    for (digest, _) in list {
        remove_download(&site.store, &digest).expect("remove");
    }
    assert_eq!(kept(), []);
    server.asked();
    site.build(&add(&url.replace("127", "me:secret@127")));
    assert_eq!(server.asked(), ["/dir/file 200"]);
}

#[test]
fn a_checksum_is_believed_before_the_server_is_asked() {
    let Some(site) = Site::new() else { return };
    let server = Server::start(b"content");
    let add = |digest: Digest| format!("FROM scratch\nADD --checksum={digest} {} /t", server.url("/dir/file"));
    assert_eq!(site.build(&add(Digest::of(b"content"))).below("/t"), ["/t 0600 0:0 f content"]);
    server.asked();
    site.build(&add(Digest::of(b"content")));
    assert_eq!(server.asked(), [""; 0]);
    let refused = site.refusal(&add(Digest::of(b"other")));
    assert!(refused.contains("as --checksum says"), "{refused}");
    for (instruction, expected) in [
        (format!("ADD {} /t", server.url("/none")), "answered 404"),
        (format!("ADD --checksum=sha256:1 {} /t", server.url("/dir/file")), "--checksum: "),
        ("ADD --checksum=sha256:1 local /t".to_owned(), "--checksum is for a source on the web or in a repository"),
        ("ADD https://example.org/r.git /t".to_owned(), "this build was given no way to fetch repositories"),
    ] {
        let refused = site.refusal(&format!("FROM scratch\n{instruction}"));
        assert!(refused.contains(expected), "{instruction}\n{refused}");
    }
}

#[test]
fn an_archive_of_the_web_is_unpacked_only_if_told_so() {
    let Some(site) = Site::new() else { return };
    let mut archive = tar_of("f", b"inside");
    archive.extend_from_slice(&[0; 1024]);
    let server = Server::start(&archive);
    let url = server.url("/dir/file");
    assert_eq!(site.build(&format!("FROM scratch\nADD {url} /t/")).below("/t").len(), 2);
    assert_eq!(site.build(&format!("FROM scratch\nADD --unpack {url} /t/")).below("/t/f"), ["/t/f 0644 0:0 f inside"]);
}

/// One file as a tar entry.
fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    let size = format!("{:011o}", content.len());
    for (at, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000"), (124, size.as_str()), (136, "00000000000"), (148, "        ")]
    {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    block[257..263].copy_from_slice(b"ustar\0");
    block[156] = b'0';
    block[263..265].copy_from_slice(b"00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend_from_slice(content);
    block.resize(1024, 0);
    block
}
