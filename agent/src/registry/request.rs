//! Requests as they are read: the head by `httparse`, the body as a reader with its own end.

use super::problem::Problem;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

/// Most bytes of a request's head: a path of 255, a digest, and the odd token.
pub(super) const HEAD_BYTES_MAX: usize = 32 << 10;
/// Most headers; clients send a dozen.
const HEADERS_MAX: usize = 64;
/// Longest line that announces a chunk.
const CHUNK_LINE_BYTES_MAX: u64 = 256;

/// A connection as the request sees it.
pub(super) trait Stream: BufRead {
    /// What answers are written to.
    fn writer(&mut self) -> &mut dyn Write;
    /// Whether nobody on the way can read it.
    fn is_encrypted(&self) -> bool;
    /// The request's head is over: from now on its body comes.
    fn begin_body(&mut self);
}

/// The methods that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// A request with its body still to be read.
pub(super) struct Request<'a> {
    pub method: Method,
    /// Path without the query, percent signs as they came: no name of ours needs any.
    pub path: String,
    query: Vec<(String, String)>,
    /// By lower-case name; the first of each.
    headers: BTreeMap<String, String>,
    body: Length,
    /// Whether the client waits for a go-ahead before it sends the body.
    expects_go_ahead: bool,
    stream: &'a mut dyn Stream,
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    /// In chunks: what is left of this one, and whether it is the first.
    Chunked {
        left: u64,
        begun: bool,
    },
}

/// What became of reading a request.
pub(super) enum Head<'a> {
    Request(Request<'a>),
    /// The client is done.
    Closed,
}

impl<'a> Request<'a> {
    /// Reads the head of the next request. A problem is to be answered, and the connection closed.
    pub(super) fn read(mut stream: &'a mut dyn Stream) -> Result<Head<'a>, Problem> {
        let mut head = Vec::new();
        // A client that begins with TLS waits for an answer to that, and so would we: it is told at once.
        if stream.fill_buf().is_ok_and(|bytes| bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase() && !b"\r\n".contains(byte))) {
            return Err(Problem::bad_request("not an HTTP request"));
        }
        let unreadable = |_error: io::Error| Problem::bad_request("the request's head did not come in time");
        while !head.ends_with(b"\r\n\r\n") {
            // Line by line: what follows the head stays in the stream's buffer.
            let limit = (HEAD_BYTES_MAX - head.len()) as u64;
            let before = head.len();
            Read::by_ref(&mut stream).take(limit).read_until(b'\n', &mut head).map_err(unreadable)?;
            match head.len() - before {
                0 if head.is_empty() => return Ok(Head::Closed),
                0 if head.len() < HEAD_BYTES_MAX => return Err(Problem::bad_request("the request ends within its head")),
                0 => return Err(Problem::new(431, "UNSUPPORTED", format!("the request's head is over {HEAD_BYTES_MAX} bytes"))),
                _ => {}
            }
            if head == b"\r\n" {
                head.clear();
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Problem::bad_request("the request's head is not complete")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Problem::new(431, "UNSUPPORTED", format!("more than {HEADERS_MAX} headers")));
            }
            Err(error) => return Err(Problem::bad_request(format!("not an HTTP request: {error}"))),
        }
        let method = match parsed.method.unwrap_or_default() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            other => return Err(Problem::new(405, "UNSUPPORTED", format!("no endpoint takes {other}"))),
        };
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for header in parsed.headers.iter() {
            let name = header.name.to_ascii_lowercase();
            let value = String::from_utf8_lossy(header.value).trim().to_owned();
            // Two lengths are how one request is smuggled in another.
            if matches!(name.as_str(), "content-length" | "transfer-encoding") && known.contains_key(&name) {
                return Err(Problem::bad_request(format!("two headers {name}")));
            }
            known.entry(name).or_insert(value);
        }
        let target = without_authority(parsed.path.unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = length(&known)?;
        let expects_go_ahead = known.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        let query = pairs(query);
        let (path, query) = (path.to_owned(), query.collect());
        stream.begin_body();
        Ok(Head::Request(Request { method, path, query, headers: known, body, expects_go_ahead, stream }))
    }

    /// The first value of a parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.queries(name).next()
    }

    /// All values of a parameter.
    pub(super) fn queries(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// How the client reaches us: `https`, also where a proxy before us ends TLS and says so.
    pub(super) fn scheme(&self) -> &'static str {
        let by_proxy = self.header("x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
        if by_proxy || self.stream.is_encrypted() { "https" } else { "http" }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether the client wants the connection closed after this.
    pub(super) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
    }

    /// Bytes of the body, if the client says so.
    pub(super) fn content_length(&self) -> Option<u64> {
        match self.body {
            Length::Bytes(left) => Some(left),
            Length::Chunked { .. } => None,
        }
    }

    /// Reads the whole body, which may have so many bytes.
    pub(super) fn small_body(&mut self, limit: u64) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        self.take(limit + 1).read_to_end(&mut bytes).map_err(|_error| Problem::bad_request("the body did not come whole"))?;
        if bytes.len() as u64 > limit {
            return Err(Problem::new(413, "SIZE_INVALID", format!("the body is over {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Reads away what is left of the body if that is little; false if the connection is no good any more.
    pub(super) fn drain(mut self, limit: u64) -> bool {
        if self.expects_go_ahead {
            // It was never sent, or it may come all the same: nobody knows.
            return self.body == Length::Bytes(0);
        }
        let Ok(count) = io::copy(&mut Read::by_ref(&mut self).take(limit), &mut io::sink()) else { return false };
        count < limit || self.body == Length::Bytes(0)
    }

    fn chunk_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        Read::by_ref(&mut self.stream).take(CHUNK_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").ok_or_else(|| bad("a chunk's line does not end"))?;
        String::from_utf8(line.to_vec()).map_err(|_| bad("a chunk's line is not text"))
    }

    /// The length of the next chunk; 0 at the end.
    fn next_chunk(&mut self, begun: bool) -> io::Result<u64> {
        if begun && !self.chunk_line()?.is_empty() {
            return Err(bad("a chunk is longer than it says"));
        }
        let line = self.chunk_line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad("a chunk's length is not a number"));
        }
        let length = u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk's length is not a number"))?;
        if length == 0 && !self.chunk_line()?.is_empty() {
            return Err(bad("trailers are not taken"));
        }
        Ok(length)
    }
}

impl Read for Request<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.expects_go_ahead) {
            let writer = self.stream.writer();
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            writer.flush()?;
        }
        if let Length::Chunked { left: 0, begun } = self.body {
            self.body = match self.next_chunk(begun)? {
                0 => Length::Bytes(0),
                left => Length::Chunked { left, begun: true },
            };
        }
        let (Length::Bytes(left) | Length::Chunked { left, .. }) = &mut self.body;
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.stream.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body ends early"));
        }
        *left -= count as u64;
        Ok(count)
    }
}

fn length(headers: &BTreeMap<String, String>) -> Result<Length, Problem> {
    match (headers.get("transfer-encoding"), headers.get("content-length")) {
        (None, None) => Ok(Length::Bytes(0)),
        (None, Some(text)) if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().map(Length::Bytes).map_err(|_| Problem::bad_request("content-length is not a number"))
        }
        (None, Some(_)) => Err(Problem::bad_request("content-length is not a number")),
        (Some(encoding), None) if encoding.eq_ignore_ascii_case("chunked") => Ok(Length::Chunked { left: 0, begun: false }),
        (Some(_), None) => Err(Problem::new(501, "UNSUPPORTED", "no transfer encoding but chunked is taken")),
        (Some(_), Some(_)) => Err(Problem::bad_request("both content-length and transfer-encoding")),
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The path of a target that proxies also write as a whole URL (RFC 9112, 3.2.2).
fn without_authority(target: &str) -> &str {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    rest.map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]))
}

/// The parameters of a query, or of a form (`application/x-www-form-urlencoded`).
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// Percent decoding of a query's parts; what is no escape stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
                rest = &after[2..];
            }
            (byte, _, _) => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    struct Given(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Given {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl BufRead for Given {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            self.0.fill_buf()
        }

        fn consume(&mut self, amount: usize) {
            self.0.consume(amount);
        }
    }

    impl Stream for Given {
        fn writer(&mut self) -> &mut dyn Write {
            &mut self.1
        }

        fn is_encrypted(&self) -> bool {
            false
        }

        fn begin_body(&mut self) {}
    }

    fn given(text: &str) -> Given {
        Given(Cursor::new(text.as_bytes().to_vec()), Vec::new())
    }

    fn body(text: &str) -> Result<(String, u16), u16> {
        let mut stream = given(text);
        match Request::read(&mut stream) {
            Err(problem) => Err(problem.status),
            Ok(Head::Closed) => Err(0),
            Ok(Head::Request(mut request)) => match request.small_body(20) {
                Ok(bytes) => Ok((String::from_utf8_lossy(&bytes).into_owned(), 0)),
                Err(problem) => Ok((String::new(), problem.status)),
            },
        }
    }

    #[test]
    fn bodies_end_where_they_say() {
        let read = |text: &str| Ok::<_, u16>((text.to_owned(), 0));
        assert_eq!(body("GET / HTTP/1.1\r\n\r\nnext"), read(""));
        assert_eq!(body("\r\nPUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcnext"), read("abc"));
        assert_eq!(body("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), read("abcde"));
        assert_eq!(body("PUT / HTTP/1.1\r\nContent-Length: 21\r\n\r\naaaaaaaaaaaaaaaaaaaaaa"), Ok((String::new(), 413)));
        assert_eq!(body("PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), Ok((String::new(), 400)));
        for broken in ["xyz\r\n", "3\r\nabcd\r\n0\r\n\r\n", "ffffffffffffffffff\r\n", "0\r\nTrailer: x\r\n\r\n", "-3\r\n"] {
            assert_eq!(
                body(&format!("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{broken}")),
                Ok((String::new(), 400)),
                "{broken}"
            );
        }
    }

    #[test]
    fn heads_that_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        let cases = [
            ("", 0),
            ("GET / HTTP/1.1\r\n", 400),
            ("nonsense\r\n\r\n", 400),
            ("\u{16}\u{3}\u{1}", 400),
            ("NONSENSE\r\n\r\n", 400),
            ("BREW / HTTP/1.1\r\n\r\n", 405),
            ("PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            (&long, 431),
            (&many, 431),
        ];
        for (text, status) in cases {
            assert_eq!(body(text), Err(status), "{:?}", &text[..text.len().min(60)]);
        }
    }

    #[test]
    fn a_whole_url_is_a_path() {
        for (target, path) in [("/v2/", "/v2/"), ("http://h:5000/v2/?a=b", "/v2/"), ("https://h", "/"), ("httpx://h/v2/", "httpx://h/v2/")]
        {
            let mut stream = given(&format!("GET {target} HTTP/1.1\r\n\r\n"));
            let Ok(Head::Request(request)) = Request::read(&mut stream) else { panic!("a request: {target}") };
            assert_eq!(request.path, path);
        }
    }

    #[test]
    fn queries_and_the_go_ahead() {
        let mut stream = given("PUT /a?digest=sha256%3A00&n=1&empty HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
        let Ok(Head::Request(mut request)) = Request::read(&mut stream) else { panic!("a request") };
        assert_eq!((request.path.as_str(), request.query("digest"), request.query("empty")), ("/a", Some("sha256:00"), Some("")));
        assert_eq!(request.small_body(9).map_err(|problem| problem.status), Ok(b"x".to_vec()));
        assert_eq!(stream.1, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
}
