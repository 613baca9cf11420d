//! Servers that a test writes the lines of, on plain sockets: rude ones, floods, sinks, and a proxy
//! that cuts.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// An INFO that says no more than it must.
pub(crate) fn info(max_payload: usize) -> String {
    info_of("SCRIPTED", max_payload)
}

/// The same of a server with an id of its own.
pub(crate) fn info_of(server_id: &str, max_payload: usize) -> String {
    format!(
        "INFO {{\"server_id\":\"{server_id}\",\"version\":\"2.10.0\",\"proto\":1,\"headers\":true,\"max_payload\":{max_payload}}}\r\n"
    )
}

/// A listener whose connections are each handled by `serve` on a thread of their own, with their number.
/// Dropping it closes the listener and all connections.
pub(crate) struct ScriptedServer {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepted: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl ScriptedServer {
    pub(crate) fn start(serve: impl Fn(u64, TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = ScriptedServer {
            port: listener.local_addr().unwrap().port(),
            open: Arc::default(),
            accepted: Arc::default(),
            ended: Arc::default(),
        };
        let (open, accepted, ended) =
            (Arc::clone(&server.open), Arc::clone(&server.accepted), Arc::clone(&server.ended));
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                if ended.load(Ordering::Acquire) {
                    break;
                }
                let number = accepted.fetch_add(1, Ordering::AcqRel);
                let (Ok(kept), Ok(served)) = (stream.try_clone(), stream.try_clone()) else { continue };
                open.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                let serve = Arc::clone(&serve);
                thread::spawn(move || {
                    // The client may go at any time; that is what many of these tests are about.
                    let _gone = serve(number, stream);
                    let _closed_already = served.shutdown(Shutdown::Both);
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Connections taken so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Cuts every connection that is open.
    pub(crate) fn cut_all(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _closed_already = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the accepting thread, which then sees that it is to end.
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
        self.cut_all();
    }
}

/// What a client sent, as a scripted server reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Connect,
    Ping,
    Pong,
    Subscribe { sid: String },
    Unsubscribe,
    Publish { subject: String, payload: Vec<u8> },
}

/// Reads one operation of a client.
pub(crate) fn read_operation(from: &mut BufReader<TcpStream>) -> io::Result<Sent> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    Ok(match words.as_slice() {
        ["CONNECT", ..] => Sent::Connect,
        ["PING"] => Sent::Ping,
        ["PONG"] => Sent::Pong,
        ["SUB", _, sid] | ["SUB", _, _, sid] => Sent::Subscribe { sid: (*sid).to_owned() },
        ["UNSUB", ..] => Sent::Unsubscribe,
        ["PUB" | "HPUB", subject, .., size] => {
            let size: usize = size.parse().map_err(|_| io::Error::other(line.clone()))?;
            let mut payload = vec![0; size + 2];
            from.read_exact(&mut payload)?;
            assert!(payload.ends_with(b"\r\n"), "a payload without its end after {line:?}");
            payload.truncate(size);
            Sent::Publish { subject: (*subject).to_owned(), payload }
        }
        _ => panic!("no client sends {line:?}"),
    })
}

/// Plays a polite server until the client goes: greets, answers PINGs, and hands the rest to `on`, with
/// the stream to answer on.
pub(crate) fn serve_politely(
    stream: TcpStream,
    max_payload: usize,
    on: impl FnMut(Sent, &mut TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    serve_after(&info(max_payload), stream, on)
}

/// The same with a greeting of one's own.
pub(crate) fn serve_after(
    greeting: &str,
    stream: TcpStream,
    mut on: impl FnMut(Sent, &mut TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    let mut to = stream.try_clone()?;
    to.write_all(greeting.as_bytes())?;
    let mut from = BufReader::with_capacity(1 << 16, stream);
    loop {
        match read_operation(&mut from)? {
            Sent::Ping => to.write_all(b"PONG\r\n")?,
            sent => on(sent, &mut to)?,
        }
    }
}

/// A proxy in front of a server. It cuts each connection after so many bytes from the client as `limit`
/// says for its number; `u64::MAX` never.
pub(crate) fn cutting_proxy(to: &str, limit: impl Fn(u64) -> u64 + Send + Sync + 'static) -> ScriptedServer {
    let to = to.trim_start_matches("nats://").to_owned();
    ScriptedServer::start(move |number, client| {
        let server = TcpStream::connect(&to)?;
        let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
        let back = thread::spawn(move || {
            let _cut = io::copy(&mut from_server, &mut to_client);
            let _closed_already = to_client.shutdown(Shutdown::Both);
        });
        // Dropping what is beyond the limit is the point: the server never sees it.
        let _cut = io::copy(&mut client.try_clone()?.take(limit(number)), &mut &server);
        let _closed_already = server.shutdown(Shutdown::Both);
        let _closed_already = client.shutdown(Shutdown::Both);
        let _ended = back.join();
        Ok(())
    })
}
