//! An HTTP server on loopback that answers as a test tells it, and may cut and drip.

use spec::value::ImageReference;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the server answers.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Bytes of the body after which the connection is cut.
    pub(super) cut_after: Option<usize>,
    /// Bytes of the body after which nothing more comes, until the peer hangs up.
    pub(super) silent_after: Option<usize>,
    /// Pause after each byte of the body.
    pub(super) drip: Option<Duration>,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut_after: None, silent_after: None, drip: None }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Handler = Box<dyn Fn(&Request, usize) -> Answer + Send + Sync>;

/// An HTTP server on loopback; it ends with the test process' threads, its requests are kept.
pub(super) struct Server {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// The handler is told how many requests for the same path came before.
    pub(super) fn start(handler: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let handler: Arc<Handler> = Arc::new(Box::new(handler));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                std::thread::spawn(move || drop(serve(connection, &handler, &log)));
            }
        });
        Self { address, seen }
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn reference(&self) -> ImageReference {
        format!("{}/test/image:1", self.address).parse().unwrap()
    }
}

/// Serves one request and closes.
fn serve(mut connection: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut lines = reader.by_ref().lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let word = |number: usize| first.split(' ').nth(number).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length: &String| length.parse().ok()).unwrap_or(0);
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    let request = Request { method: word(0), path: word(1), headers, body };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.iter().filter(|seen| seen.path == request.path).count() - 1
    };
    let answer = handler(&request, before);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    connection.write_all((head + "\r\n").as_bytes())?;
    if let Some(reached) = answer.silent_after {
        connection.write_all(&answer.body[..reached])?;
        return connection.read(&mut [0]).map(drop);
    }
    let body = &answer.body[..answer.cut_after.unwrap_or(answer.body.len())];
    let Some(pause) = answer.drip else { return connection.write_all(body) };
    for byte in body {
        connection.write_all(&[*byte])?;
        std::thread::sleep(pause);
    }
    Ok(())
}
