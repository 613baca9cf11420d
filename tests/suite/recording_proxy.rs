//! A TCP proxy between a client and a server that keeps a copy of what passes, and may be slow.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const BUFFER_BYTES: usize = 64 << 10;

/// Gone, with all its connections, when it is dropped.
pub(crate) struct RecordingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    /// How long each read from a client is kept before it goes on.
    delay: Duration,
    from_clients: Mutex<Vec<u8>>,
    from_server: Mutex<Vec<u8>>,
    streams: Mutex<Vec<TcpStream>>,
    closing: AtomicBool,
}

impl RecordingProxy {
    /// A proxy to a server given as `nats://address:port`.
    pub(crate) fn start(server: &str, delay: Duration) -> RecordingProxy {
        let server = server.trim_start_matches("nats://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            delay,
            from_clients: Mutex::default(),
            from_server: Mutex::default(),
            streams: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        RecordingProxy { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// All that clients have sent.
    pub(crate) fn sent_by_clients(&self) -> String {
        String::from_utf8_lossy(&self.shared.from_clients.lock().unwrap()).into_owned()
    }

    /// All that the server has sent.
    pub(crate) fn sent_by_server(&self) -> String {
        String::from_utf8_lossy(&self.shared.from_server.lock().unwrap()).into_owned()
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().map_while(Result::ok) {
            if self.closing.load(Ordering::Acquire) {
                return;
            }
            // A server that is down is a client that is cut.
            let Ok(server) = TcpStream::connect(self.server) else { continue };
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
                self.streams.lock().unwrap().push(stream.try_clone().unwrap());
            }
            let (to_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let forth = Arc::clone(&self);
            thread::spawn(move || copy(client, to_server, &forth.from_clients, forth.delay));
            let back = Arc::clone(&self);
            thread::spawn(move || copy(server, to_client, &back.from_server, Duration::ZERO));
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, record: &Mutex<Vec<u8>>, delay: Duration) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        thread::sleep(delay);
        record.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ended = from.shutdown(Shutdown::Both);
    let _ended = to.shutdown(Shutdown::Both);
}

impl Drop for RecordingProxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }
}
