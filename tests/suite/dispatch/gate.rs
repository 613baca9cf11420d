//! A gate between two nodes: a TCP proxy that can be shut, so that neither hears the other, and opened again.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

const BUFFER_BYTES: usize = 64 << 10;

/// A node behind it advertises its address, and is reached through it alone.
pub(crate) struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    closing: AtomicBool,
}

#[derive(Default)]
struct State {
    target: Option<SocketAddr>,
    is_shut: bool,
    streams: Vec<TcpStream>,
}

impl Gate {
    /// An open gate that leads nowhere yet.
    pub(crate) fn new() -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Gate { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it leads.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.shared.state().target = Some(target);
    }

    /// Cuts what passes, and lets nothing pass from here on.
    pub(crate) fn shut(&self) {
        let mut state = self.shared.state();
        state.is_shut = true;
        state.cut();
    }

    pub(crate) fn open(&self) {
        self.shared.state().is_shut = false;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shut();
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, listener: &TcpListener) {
        for near in listener.incoming().map_while(Result::ok) {
            if self.closing.load(Ordering::Acquire) {
                return;
            }
            // Under the lock, so that no stream slips through while the gate is being shut.
            let mut state = self.state();
            let Some(target) = state.target.filter(|_| !state.is_shut) else { continue };
            let Ok(far) = TcpStream::connect(target) else { continue };
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
                state.streams.push(stream.try_clone().unwrap());
            }
            let (to_near, to_far) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || copy(near, to_far));
            thread::spawn(move || copy(far, to_near));
        }
    }
}

impl State {
    fn cut(&mut self) {
        for stream in self.streams.drain(..) {
            // It may have ended by itself.
            let _cut = stream.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ended = from.shutdown(Shutdown::Both);
    let _ended = to.shutdown(Shutdown::Both);
}
