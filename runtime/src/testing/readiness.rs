//! When a server answers, and when the servers of a cluster hear each other.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// How long servers may take to be ready: far above what a busy machine needs.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest INFO that is read: 64 servers take less than 4 KiB.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The body of the INFO that a server greets with, from one attempt.
pub(super) fn info(address: SocketAddr) -> io::Result<String> {
    Greeted::connect(address).map(|greeted| greeted.info)
}

/// The text of a JSON field, for the plain texts of an INFO: without escapes.
pub(super) fn text_field<'a>(info: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = info.split_once(&format!("\"{field}\":\""))?;
    rest.split_once('"').map(|(text, _)| text)
}

/// Waits until each server tells of all the others.
pub(super) fn wait_for_names(addresses: &[SocketAddr], deadline: Instant) -> io::Result<()> {
    let told = |address: &SocketAddr| {
        info(*address).is_ok_and(|info| addresses.iter().all(|other| info.contains(&format!("\"{other}\""))))
    };
    while !addresses.iter().all(told) {
        pause_until(deadline)?;
    }
    Ok(())
}

/// Waits until a message from each server arrives at each other one.
///
/// The message counts: a route that is up is not yet one that knows the subscriptions behind it.
pub(super) fn wait_for_messages(addresses: &[SocketAddr], deadline: Instant) -> io::Result<()> {
    let mut listeners = Vec::new();
    for (node, address) in addresses.iter().enumerate() {
        listeners.push(Listener::new(*address, node, addresses.len())?);
    }
    loop {
        for from in 0..listeners.len() {
            for to in 0..listeners.len() {
                if !listeners[to].heard[from] {
                    listeners[from].say(to)?;
                }
            }
        }
        for listener in &mut listeners {
            listener.listen()?;
        }
        if listeners.iter().all(|listener| listener.heard.iter().all(|heard| *heard)) {
            return Ok(());
        }
        pause_until(deadline)?;
    }
}

/// A short pause, or an error when the time is up.
pub(super) fn pause_until(deadline: Instant) -> io::Result<()> {
    if Instant::now() >= deadline {
        return Err(io::ErrorKind::TimedOut.into());
    }
    thread::sleep(PAUSE);
    Ok(())
}

/// A connection on which INFO has come.
struct Greeted {
    stream: BufReader<TcpStream>,
    info: String,
}

impl Greeted {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let line = read_line(&mut stream)?;
        match line.strip_prefix("INFO ") {
            Some(info) => Ok(Self { info: info.trim().to_owned(), stream }),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the server does not greet with INFO")),
        }
    }
}

/// A client of one server that hears what the clients of the others say.
struct Listener {
    stream: BufReader<TcpStream>,
    node: usize,
    heard: Vec<bool>,
}

const SUBJECT: &str = "_croupier.ready";

impl Listener {
    fn new(address: SocketAddr, node: usize, nodes: usize) -> io::Result<Self> {
        let Greeted { mut stream, .. } = Greeted::connect(address)?;
        let connect = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\"}";
        stream.get_mut().write_all(format!("{connect}\r\nSUB {SUBJECT}.*.{node} 1\r\n").as_bytes())?;
        let mut heard = vec![false; nodes];
        heard[node] = true;
        Ok(Self { stream, node, heard })
    }

    fn say(&mut self, to: usize) -> io::Result<()> {
        let line = format!("PUB {SUBJECT}.{}.{to} 0\r\n\r\n", self.node);
        self.stream.get_mut().write_all(line.as_bytes())
    }

    /// Reads whatever has come up to the answer to a PING.
    fn listen(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(b"PING\r\n")?;
        loop {
            let line = read_line(&mut self.stream)?;
            match line.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
                ["PONG"] => return Ok(()),
                ["PING"] => self.stream.get_mut().write_all(b"PONG\r\n")?,
                ["MSG", subject, ..] => {
                    let from = subject.strip_prefix(SUBJECT).and_then(|rest| rest.split('.').nth(1));
                    let from = from.and_then(|from| from.parse::<usize>().ok());
                    if let Some(heard) = from.and_then(|from| self.heard.get_mut(from)) {
                        *heard = true;
                    }
                }
                ["-ERR", ..] => return Err(io::Error::new(io::ErrorKind::InvalidData, line)),
                _ => {}
            }
        }
    }
}

fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(stream, LINE_BYTES_MAX).read_line(&mut line)?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_field_is_found() {
        let info = r#"{"server_id":"NA","version":"2.15.1","proto":1,"host":""}"#;
        for (field, expected) in [
            ("version", Some("2.15.1")),
            ("server_id", Some("NA")),
            ("host", Some("")),
            ("proto", None),
            ("x", None),
        ] {
            assert_eq!(text_field(info, field), expected);
        }
    }
}
