//! Reads the status page of a node.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read; one with a thousand nodes and types has a hundredth of it.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ClientError {
    #[error(
        "no node answers at {address}: {source}\n  \
         is it running, and is node.admin_listen what you asked for? in code it is off unless asked for"
    )]
    Unreachable { address: SocketAddr, source: io::Error },
    #[error("{address} is no admin server of a node: {reason}")]
    Strange { address: SocketAddr, reason: String },
}

/// The way to one node.
pub(crate) struct Client {
    address: SocketAddr,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the node says of itself.
    pub(crate) fn status(&mut self) -> Result<Value, ClientError> {
        let answer = self
            .ask("/statusz")
            .map_err(|source| ClientError::Unreachable { address: self.address, source })?;
        let strange = |reason: String| ClientError::Strange { address: self.address, reason };
        let body = body(&answer).map_err(strange)?;
        let status: Value = serde_json::from_slice(body).map_err(|error| strange(error.to_string()))?;
        if !status["shards"].is_array() || !status["clusters"].is_array() {
            return Err(strange("its answer is of another kind".to_owned()));
        }
        Ok(status)
    }

    fn ask(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// The body of an answer that says 200.
fn body(answer: &[u8]) -> Result<&[u8], String> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("it speaks no HTTP")?;
    let status = String::from_utf8_lossy(&answer[..end]);
    let status = status.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(&answer[end + 4..]),
        _ => Err(format!("it answers {status:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_200_has_a_body() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), Ok(&b"{}"[..]));
        assert_eq!(
            body(b"HTTP/1.1 404 Not Found\r\n\r\n"),
            Err("it answers \"HTTP/1.1 404 Not Found\"".to_owned())
        );
        assert_eq!(body(b"SSH-2.0\r\n"), Err("it speaks no HTTP".to_owned()));
        assert_eq!(body(b"INFO {}\r\n\r\n"), Err("it answers \"INFO {}\"".to_owned()));
    }
}
