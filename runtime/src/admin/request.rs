//! From bytes to a request, or to why it is none: no socket here.

/// The longest head of a request, in bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Most headers of a request.
pub(super) const HEADERS_MAX: usize = 64;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The beginning of a request, within its limits.
    Incomplete,
    /// A request, and how many bytes it took.
    Request { request: Request, consumed: usize },
    /// No request that is answered. The connection is to be closed: where the next one begins is unknown.
    Refused(Refusal),
}

/// A GET or a HEAD.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Without the query.
    pub(super) path: String,
    pub(super) is_head: bool,
    /// Whether the client may send another one afterwards.
    pub(super) keeps_alive: bool,
}

/// Why a request is not answered with what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No HTTP, or a body where none belongs.
    BadRequest,
    /// No such page.
    NotFound,
    /// Neither GET nor HEAD.
    Method,
    /// The head did not come in time.
    Timeout,
    /// The head is too long, or has too many headers.
    TooLarge,
    /// Too many connections are in use.
    Busy,
}

impl Refusal {
    pub(crate) const ALL: [Refusal; 6] = [
        Refusal::BadRequest,
        Refusal::NotFound,
        Refusal::Method,
        Refusal::Timeout,
        Refusal::TooLarge,
        Refusal::Busy,
    ];

    /// The value of a label.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refusal::BadRequest => "bad_request",
            Refusal::NotFound => "not_found",
            Refusal::Method => "method",
            Refusal::Timeout => "timeout",
            Refusal::TooLarge => "too_large",
            Refusal::Busy => "busy",
        }
    }
}

/// Reads the first request of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let within = &bytes[..bytes.len().min(REQUEST_BYTES_MAX)];
    let consumed = match head.parse(within) {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) if within.len() == REQUEST_BYTES_MAX => {
            return Parsed::Refused(Refusal::TooLarge);
        }
        Ok(httparse::Status::Partial) => return Parsed::Incomplete,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Refused(Refusal::TooLarge),
        Err(_) => return Parsed::Refused(Refusal::BadRequest),
    };
    let is_head = match head.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Parsed::Refused(Refusal::Method),
    };
    let mut keeps_alive = head.version == Some(1);
    for header in head.headers.iter() {
        let is_named = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is_named("transfer-encoding") || (is_named("content-length") && header.value.trim_ascii() != b"0")
        {
            return Parsed::Refused(Refusal::BadRequest);
        }
        if is_named("connection") {
            let mut words = header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            keeps_alive &= !words.any(|word| word.eq_ignore_ascii_case(b"close"));
        }
    }
    let path = path_of(head.path.unwrap_or_default()).to_owned();
    Parsed::Request { request: Request { path, is_head, keeps_alive }, consumed }
}

/// The path of a target, which may be a whole URL.
fn path_of(target: &str) -> &str {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    path.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, is_head: bool, keeps_alive: bool, consumed: usize) -> Parsed {
        Parsed::Request { request: Request { path: path.to_owned(), is_head, keeps_alive }, consumed }
    }

    #[test]
    fn requests_are_read_and_mistakes_are_told_apart() {
        use Refusal as R;
        for (text, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", request("/metrics", false, true, 34)),
            ("HEAD /a HTTP/1.1\r\n\r\nGET", request("/a", true, true, 20)),
            ("GET /a?b=c HTTP/1.0\r\n\r\n", request("/a", false, false, 23)),
            ("GET http://h:1/a HTTP/1.1\r\n\r\n", request("/a", false, true, 29)),
            ("GET http://h:1 HTTP/1.1\r\n\r\n", request("/", false, true, 27)),
            ("GET /a HTTP/1.1\r\nConnection: x, Close\r\n\r\n", request("/a", false, false, 41)),
            ("GET /a HTTP/1.1\r\ncontent-length: 0\r\n\r\n", request("/a", false, true, 38)),
            ("", Parsed::Incomplete),
            ("GET /a HT", Parsed::Incomplete),
            ("GET /a HTTP/1.1\r\nHost: a\r\n", Parsed::Incomplete),
            ("POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", Parsed::Refused(R::Method)),
            ("DELETE /a HTTP/1.1\r\n\r\n", Parsed::Refused(R::Method)),
            ("GET /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", Parsed::Refused(R::BadRequest)),
            ("GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Parsed::Refused(R::BadRequest)),
            ("GET /a HTTP/2.0\r\n\r\n", Parsed::Refused(R::BadRequest)),
            ("\u{16}\u{3}\u{1}\u{2}", Parsed::Refused(R::BadRequest)),
            ("GET /a\r\n\r\n", Parsed::Refused(R::BadRequest)),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_where_the_limit_is() {
        let padded = |bytes: usize| {
            let line = "GET /a HTTP/1.1\r\nX: ";
            format!("{line}{}\r\n\r\n", "x".repeat(bytes - line.len() - 4)).into_bytes()
        };
        assert_eq!(parse(&padded(REQUEST_BYTES_MAX)), request("/a", false, true, REQUEST_BYTES_MAX));
        assert_eq!(parse(&padded(REQUEST_BYTES_MAX + 1)), Parsed::Refused(Refusal::TooLarge));
        assert_eq!(parse(&padded(REQUEST_BYTES_MAX)[..REQUEST_BYTES_MAX - 1]), Parsed::Incomplete);
        let headed = |headers: usize| format!("GET /a HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(headers));
        assert!(matches!(parse(headed(HEADERS_MAX).as_bytes()), Parsed::Request { .. }));
        assert_eq!(parse(headed(HEADERS_MAX + 1).as_bytes()), Parsed::Refused(Refusal::TooLarge));
    }

    #[test]
    fn no_bytes_make_it_panic_and_every_split_ends_the_same() {
        let whole = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Parsed::Incomplete, "{end}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..random.usize(1..8) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            // Any answer will do; there must be one.
            let _any = parse(&bytes);
        }
    }
}
