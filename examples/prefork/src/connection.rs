//! One connection: requests in, answers out. The parsing is `httparse`'s.

use crate::signals::{Signals, Woken};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 8 << 10;
/// The most header fields of a request.
const MOST_FIELDS: usize = 64;
/// How long a new connection may be silent, a head take from its first byte to its last, and an answer to be taken.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a worker that is to leave waits for one request more of a connection that it keeps: closed at once, the connection
/// might break under a request that is on its way.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long and how much is read of a client after the last answer, so that this reaches it.
pub const LINGER: Duration = Duration::from_millis(200);
const MOST_TO_DISCARD: usize = 64 << 10;

/// A request without a body.
#[derive(Debug)]
pub struct Request {
    pub path: String,
    pub query: String,
    /// The client wants to ask more.
    pub keep: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: &'static str,
    pub body: String,
    /// One header field more.
    pub field: Option<(&'static str, &'static str)>,
    /// The connection is closed after it, whatever the client wants.
    pub last: bool,
}

/// What comes next of a connection.
#[derive(Debug)]
pub enum Next {
    Request(Request),
    /// It cannot be answered but by this status, and nothing can be read after it.
    AcquireError(u16),
    /// The client has closed it, or is idle for too long.
    Over,
}

/// A connection, and what was read of it and not answered yet.
#[derive(Debug)]
pub struct Connection<'a> {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Whether the last request was HEAD, whatever else was wrong with it.
    wants_head_only: bool,
    signals: &'a Signals,
}

impl<'a> Connection<'a> {
    pub fn new(stream: TcpStream, signals: &'a Signals) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection {
            stream,
            unread: Vec::with_capacity(LONGEST_HEAD),
            wants_head_only: false,
            signals,
        })
    }

    /// The next request, for which an idle connection has the time `idle`.
    pub fn next(&mut self, idle: Duration) -> io::Result<Next> {
        let mut until = Instant::now() + idle;
        let mut has_begun = false;
        self.wants_head_only = false;
        loop {
            if !self.unread.is_empty() {
                if let Some(next) = self.parse() {
                    return Ok(next);
                }
                if self.unread.len() >= LONGEST_HEAD {
                    return Ok(Next::AcquireError(431));
                }
                if !has_begun {
                    has_begun = true;
                    until = Instant::now() + PATIENCE;
                }
            }
            if self.signals.are_to_leave() && !has_begun {
                until = until.min(Instant::now() + FAREWELL);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.signals.wait_for(self.stream.as_fd(), left)? {
                Woken::Ordered => {}
                Woken::Readable => {
                    if self.read()? == 0 {
                        return Ok(Next::Over);
                    }
                }
                Woken::TimedOut if Instant::now() < until => {}
                Woken::TimedOut if has_begun => return Ok(Next::AcquireError(408)),
                Woken::TimedOut => return Ok(Next::Over),
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let filled = self.unread.len();
        self.unread.resize(LONGEST_HEAD, 0);
        let outcome = self.stream.read(&mut self.unread[filled..]);
        self.unread
            .truncate(filled + *outcome.as_ref().unwrap_or(&0));
        outcome
    }

    /// What the bytes that were read ask for; `None` where there must be more of them.
    fn parse(&mut self) -> Option<Next> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(&self.unread) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return None,
            Err(httparse::Error::TooManyHeaders) => return Some(Next::AcquireError(431)),
            Err(httparse::Error::Version) => return Some(Next::AcquireError(505)),
            Err(_) => return Some(Next::AcquireError(400)),
        };
        let next = understand(&request);
        self.wants_head_only = request.method == Some("HEAD");
        self.unread.drain(..length);
        Some(next)
    }

    /// Answers; true where another request may come.
    pub fn answer(&mut self, request: &Request, answer: &Answer) -> io::Result<bool> {
        let keep = request.keep && !answer.last && !self.signals.are_to_leave();
        self.write(answer, keep)?;
        if !keep {
            self.linger()?;
        }
        Ok(keep)
    }

    /// Answers a client that may have sent more than was read, and closes the connection.
    pub fn refuse(mut self, answer: &Answer) -> io::Result<()> {
        self.write(answer, false)?;
        self.linger()
    }

    /// Waits until the client has closed its side. A socket that is closed with bytes unread, or that more come to, resets the
    /// connection, and the answer with it.
    fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let until = Instant::now() + LINGER;
        let mut bytes = [0; 4096];
        let mut discarded = 0;
        while discarded < MOST_TO_DISCARD {
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

    /// By one call, where the client takes its answers: who dies here has answered, or not.
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
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
                    false => self.stream.set_write_timeout(Some(PATIENCE)),
                };
            }
            is_first = false;
            // One that takes a little now and then has no more time than one that takes nothing.
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
        }
    }
}

fn understand(request: &httparse::Request<'_, '_>) -> Next {
    let values = |name: &'static str| {
        let fields = request.headers.iter();
        let found = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| field.value.trim_ascii())
    };
    // In doubt there is a body: what is taken for the next request must not be what a client sent as data.
    if values("transfer-encoding").next().is_some()
        || values("content-length").any(|length| length != b"0")
    {
        return Next::AcquireError(413);
    }
    let is_new = request.version == Some(1);
    if is_new && values("host").count() != 1 {
        return Next::AcquireError(400);
    }
    if !matches!(request.method, Some("GET" | "HEAD")) {
        return Next::AcquireError(405);
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

/// A target may be a whole URL, as it is for a proxy: every server has to take that.
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
