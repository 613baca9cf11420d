//! The bytes of an answer.

use std::fmt::Write;

use super::request::Refusal;

/// What a page answers.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) code: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
    /// A header of its own, with its line break.
    extra: &'static str,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Response {
    pub(super) fn text(code: u16, body: impl Into<String>) -> Self {
        Self { code, content_type: TEXT, body: body.into(), extra: "" }
    }

    pub(super) fn of(content_type: &'static str, body: String) -> Self {
        Self { code: 200, content_type, body, extra: "" }
    }

    pub(super) fn refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadRequest => Self::text(400, "this is no request that is understood here\n"),
            Refusal::NotFound => {
                Self::text(404, "there are /metrics, /healthz, /readyz and /statusz, and nothing else\n")
            }
            Refusal::Method => {
                Self { extra: "Allow: GET, HEAD\r\n", ..Self::text(405, "only GET and HEAD\n") }
            }
            Refusal::Timeout => Self::text(408, "the request did not come in time\n"),
            Refusal::TooLarge => Self::text(431, "the request is longer than is read here\n"),
            Refusal::Busy => {
                Self { extra: "Retry-After: 1\r\n", ..Self::text(503, "too many connections at a time\n") }
            }
        }
    }

    /// The whole answer; to a HEAD without its body.
    pub(super) fn into_bytes(self, is_head: bool, keeps_alive: bool) -> Vec<u8> {
        let mut head = String::with_capacity(192);
        let _infallible = write!(
            head,
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{}Connection: {}\r\n\r\n",
            self.code,
            reason(self.code),
            self.content_type,
            self.body.len(),
            self.extra,
            if keeps_alive { "keep-alive" } else { "close" },
        );
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}
