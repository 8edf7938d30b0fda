//! One connection: reads requests, writes answers. `httparse` parses the requests.

use crate::signals::{Signals, Woken};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

/// The maximum length of a request head, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// The maximum number of header fields of a request.
const MAX_FIELDS: usize = 64;
/// The timeout of each of these: the first byte of a new connection, the rest of a request head,
/// and the client's receipt of an answer.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a leaving worker waits for one more request on a kept connection. If it closed the
/// connection at once, a request in flight would be lost.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long, and how many bytes, the worker reads from a client after the last answer, so that the
/// answer reaches the client.
pub const LINGER: Duration = Duration::from_millis(200);
const MAX_DISCARDED: usize = 64 << 10;

/// A request without a body.
#[derive(Debug)]
pub struct Request {
    pub path: String,
    pub query: String,
    /// The client wants to keep the connection open.
    pub keep: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: &'static str,
    pub body: String,
    /// One additional header field.
    pub field: Option<(&'static str, &'static str)>,
    /// The connection is closed after this answer, even if the client wants to keep it open.
    pub last: bool,
}

/// The next event of a connection.
#[derive(Debug)]
pub enum Next {
    Request(Request),
    /// The request is refused with this status, and the connection cannot be read further.
    Refused(u16),
    /// The client closed the connection, or was idle for too long.
    Over,
}

/// A connection, with the bytes that were read and not answered yet.
#[derive(Debug)]
pub struct Connection<'a> {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Whether the last request was HEAD, also if the request is refused.
    wants_head_only: bool,
    signals: &'a Signals,
}

impl<'a> Connection<'a> {
    pub fn new(stream: TcpStream, signals: &'a Signals) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        Ok(Connection {
            stream,
            unread: Vec::with_capacity(MAX_HEAD),
            wants_head_only: false,
            signals,
        })
    }

    /// Waits for the next request. `idle` is the timeout for its first byte.
    pub fn next(&mut self, idle: Duration) -> io::Result<Next> {
        let mut until = Instant::now() + idle;
        let mut has_begun = false;
        self.wants_head_only = false;
        loop {
            if !self.unread.is_empty() {
                if let Some(next) = self.parse() {
                    return Ok(next);
                }
                if self.unread.len() >= MAX_HEAD {
                    return Ok(Next::Refused(431));
                }
                if !has_begun {
                    has_begun = true;
                    until = Instant::now() + CLIENT_TIMEOUT;
                }
            }
            if self.signals.asked_to_leave() && !has_begun {
                until = until.min(Instant::now() + LAST_REQUEST_TIMEOUT);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.signals.wait_for(self.stream.as_fd(), left)? {
                Woken::AskedToLeave => {}
                Woken::Readable => {
                    if self.read()? == 0 {
                        return Ok(Next::Over);
                    }
                }
                Woken::TimedOut if Instant::now() < until => {}
                Woken::TimedOut if has_begun => return Ok(Next::Refused(408)),
                Woken::TimedOut => return Ok(Next::Over),
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let filled = self.unread.len();
        self.unread.resize(MAX_HEAD, 0);
        let outcome = self.stream.read(&mut self.unread[filled..]);
        self.unread
            .truncate(filled + *outcome.as_ref().unwrap_or(&0));
        outcome
    }

    /// Parses the bytes that were read. Returns `None` if the head is not complete yet.
    fn parse(&mut self) -> Option<Next> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(&self.unread) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return None,
            Err(httparse::Error::TooManyHeaders) => return Some(Next::Refused(431)),
            Err(httparse::Error::Version) => return Some(Next::Refused(505)),
            Err(_) => return Some(Next::Refused(400)),
        };
        let next = interpret(&request);
        self.wants_head_only = request.method == Some("HEAD");
        self.unread.drain(..length);
        Some(next)
    }

    /// Sends the answer. Returns true if another request may follow.
    pub fn answer(&mut self, request: &Request, answer: &Answer) -> io::Result<bool> {
        let keep = request.keep && !answer.last && !self.signals.asked_to_leave();
        self.write(answer, keep)?;
        if !keep {
            self.linger()?;
        }
        Ok(keep)
    }

    /// Sends the answer and closes the connection. The client may have sent more bytes than were
    /// read.
    pub fn refuse(mut self, answer: &Answer) -> io::Result<()> {
        self.write(answer, false)?;
        self.linger()
    }

    /// Waits, for a limited time, until the client has closed its side. If a socket is closed while
    /// bytes are unread, or bytes arrive afterwards, the kernel resets the connection and the
    /// client can lose the answer.
    fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let until = Instant::now() + LINGER;
        let mut bytes = [0; 4096];
        let mut discarded = 0;
        while discarded < MAX_DISCARDED {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(more) => discarded += more,
            }
        }
        Ok(())
    }

    fn write(&mut self, answer: &Answer, keep: bool) -> io::Result<()> {
        let Answer {
            status, kind, body, ..
        } = answer;
        let mut bytes = Vec::with_capacity(256 + body.len());
        write!(
            bytes,
            "HTTP/1.1 {status} {}\r\nServer: prefork\r\nDate: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: {}\r\n",
            reason(*status),
            httpdate::fmt_http_date(SystemTime::now()),
            body.len(),
            if keep { "keep-alive" } else { "close" },
        )?;
        if let Some((name, value)) = answer.field {
            write!(bytes, "{name}: {value}\r\n")?;
        }
        bytes.extend_from_slice(b"\r\n");
        if !self.wants_head_only {
            bytes.extend_from_slice(body.as_bytes());
        }
        self.send(&bytes)
    }

    /// Sends the bytes by one call if the client receives its answers. So a worker that dies here
    /// has sent the whole answer or none of it.
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + CLIENT_TIMEOUT;
        let mut is_first = true;
        loop {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if bytes.is_empty() {
                return match is_first {
                    true => Ok(()),
                    false => self.stream.set_write_timeout(Some(CLIENT_TIMEOUT)),
                };
            }
            is_first = false;
            // The timeout covers the whole answer, also if the client receives a few bytes at a
            // time.
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
        }
    }
}

fn interpret(request: &httparse::Request<'_, '_>) -> Next {
    let values = |name: &'static str| {
        let fields = request.headers.iter();
        let found = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| field.value.trim_ascii())
    };
    // In case of doubt, assume a body: data that a client sent must not be read as the next
    // request.
    if values("transfer-encoding").next().is_some()
        || values("content-length").any(|length| length != b"0")
    {
        return Next::Refused(413);
    }
    let is_new = request.version == Some(1);
    if is_new && values("host").count() != 1 {
        return Next::Refused(400);
    }
    if !matches!(request.method, Some("GET" | "HEAD")) {
        return Next::Refused(405);
    }
    let target = without_authority(request.path.unwrap_or("/"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = if path.is_empty() { "/" } else { path };
    let wants = |what: &str| {
        values("connection")
            .flat_map(|wishes| wishes.split(|byte| *byte == b','))
            .any(|wish| wish.trim_ascii().eq_ignore_ascii_case(what.as_bytes()))
    };
    Next::Request(Request {
        path: path.to_owned(),
        query: query.to_owned(),
        keep: if is_new {
            !wants("close")
        } else {
            wants("keep-alive")
        },
    })
}

/// Removes scheme and authority from a target. A target may be a whole URL, as for a proxy, and
/// every server must accept this form.
fn without_authority(target: &str) -> &str {
    const SCHEME: &str = "http://";
    match target.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => {
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
        _ => target,
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
