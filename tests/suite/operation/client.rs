//! A client of the admin server that writes its own bytes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::support::GUARD;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a GET that lets the connection go on, and reads its answer.
    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        self.answer()
    }

    /// Reads an answer with its body.
    pub(super) fn answer(&mut self) -> Answer {
        let (mut answer, length) = self.head();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// Reads an answer to a HEAD, and the length that its body would have.
    pub(super) fn head(&mut self) -> (Answer, usize) {
        let mut line = || {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            line.strip_suffix("\r\n").unwrap_or_else(|| panic!("cut off: {line:?}")).to_owned()
        };
        let status = line();
        let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).map(str::parse);
        let code = code.unwrap_or_else(|| panic!("no status: {status:?}")).unwrap();
        let mut headers = Vec::new();
        loop {
            let line = line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").expect("a header");
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let answer = Answer { code, headers, body: String::new() };
        let length = answer.header("content-length").expect("a length").parse().unwrap();
        (answer, length)
    }

    /// Waits until the server has closed; what it says before that does not count.
    pub(super) fn until_closed(mut self) -> usize {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.len(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest.len(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// One page, over a connection of its own.
pub(super) fn get(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).get(path)
}

/// The status page.
pub(super) fn status(address: SocketAddr) -> Value {
    let answer = get(address, "/statusz");
    assert_eq!((answer.code, answer.header("content-type")), (200, Some("application/json")));
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}
