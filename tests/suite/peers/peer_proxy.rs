//! A TCP proxy in front of a node's registry: it keeps what diallers send, cuts links, and changes bytes.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    thread,
};

const BUFFER_BYTES: usize = 16 << 10;
/// Bytes of each connection that are kept.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// No limit to what passes.
const ENDLESS: i64 = i64::MAX;

/// Gone, with all its connections, when it is dropped.
pub(super) struct PeerProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where it leads; until it leads anywhere, connections are closed at once.
    target: Mutex<Option<SocketAddr>>,
    /// What the dialler of each connection has sent.
    records: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    streams: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    /// Bytes that still pass before everything is cut.
    budget: AtomicI64,
    /// Whether a bit of the next bytes is to be changed.
    spoil: AtomicBool,
    closing: AtomicBool,
}

impl PeerProxy {
    /// A proxy that leads nowhere yet.
    pub(super) fn start() -> PeerProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            records: Mutex::default(),
            streams: Mutex::default(),
            connections: AtomicUsize::new(0),
            budget: AtomicI64::new(ENDLESS),
            spoil: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        PeerProxy { address, shared }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn leads_to(&self, target: SocketAddr) {
        *lock(&self.shared.target) = Some(target);
    }

    /// Connections that led on.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Cuts all connections.
    pub(super) fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts all connections when so many more bytes have passed, in the midst of them.
    pub(super) fn cut_after(&self, bytes: u32) {
        self.shared.budget.store(i64::from(bytes), Ordering::Release);
    }

    /// Whether a cut that was ordered is still to come.
    pub(super) fn is_to_cut(&self) -> bool {
        self.shared.budget.load(Ordering::Acquire) != ENDLESS
    }

    /// Changes one bit of the next bytes that pass.
    pub(super) fn spoil(&self) {
        self.shared.spoil.store(true, Ordering::Release);
    }

    /// Whether a change that was ordered is still to come.
    pub(super) fn is_to_spoil(&self) -> bool {
        self.shared.spoil.load(Ordering::Acquire)
    }

    /// What the dialler of each connection has sent so far.
    pub(super) fn records(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.records).iter().map(|record| lock(record).clone()).collect()
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for dialler in listener.incoming().map_while(Result::ok) {
            if self.closing.load(Ordering::Acquire) {
                return;
            }
            let target = *lock(&self.target);
            let Some(node) = target.and_then(|target| TcpStream::connect(target).ok()) else { continue };
            self.connections.fetch_add(1, Ordering::AcqRel);
            let mut streams = lock(&self.streams);
            for stream in [&dialler, &node] {
                stream.set_nodelay(true).unwrap();
                streams.push(stream.try_clone().unwrap());
            }
            drop(streams);
            let record = Arc::new(Mutex::default());
            lock(&self.records).push(Arc::clone(&record));
            let (to_dialler, to_node) = (dialler.try_clone().unwrap(), node.try_clone().unwrap());
            let forth = Arc::clone(&self);
            thread::spawn(move || forth.copy(dialler, to_node, Some(&record)));
            let back = Arc::clone(&self);
            thread::spawn(move || back.copy(node, to_dialler, None));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, record: Option<&Mutex<Vec<u8>>>) {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = &mut buffer[..count];
            if let Some(record) = record {
                let mut record = lock(record);
                let room = RECORD_BYTES_MAX - record.len();
                record.extend_from_slice(&bytes[..count.min(room)]);
            }
            if self.spoil.swap(false, Ordering::AcqRel) {
                bytes[count / 2] ^= 0x10;
            }
            let passing = self.passing(count);
            if to.write_all(&buffer[..passing]).is_err() {
                break;
            }
            if passing < count {
                self.cut();
                break;
            }
        }
        // Either may be gone already.
        let _ended = from.shutdown(Shutdown::Both);
        let _ended = to.shutdown(Shutdown::Both);
    }

    /// How many of so many bytes pass. The last ones that do end the limit.
    fn passing(&self, count: usize) -> usize {
        let budget = self.budget.load(Ordering::Acquire);
        if budget == ENDLESS {
            return count;
        }
        let count = i64::try_from(count).unwrap();
        if budget < count {
            self.budget.store(ENDLESS, Ordering::Release);
        } else {
            self.budget.fetch_sub(count, Ordering::AcqRel);
        }
        // It lies between 0 and the count.
        budget.clamp(0, count) as usize
    }

    fn cut(&self) {
        for stream in lock(&self.streams).drain(..) {
            // It may be gone already.
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for PeerProxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
        self.shared.cut();
    }
}
