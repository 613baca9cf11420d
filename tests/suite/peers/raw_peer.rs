//! A peer made of a bare socket: it says what it likes, with the pure crate's frames or without.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use croupier_registry::{
    Epoch, Link, Next, NodeKey, PARTITIONS, ProcessId, ServiceBuilder,
    wire::{
        Encoded, Hello,
        v1::{ByeReason, Frame},
    },
};

use super::peer::CLUSTER;
use crate::support::GUARD;

const READ_BYTES: usize = 16 << 10;

/// The socket, and the machine of the link if the peer cares.
pub(super) struct RawPeer {
    stream: TcpStream,
    link: Link,
    incoming: Vec<u8>,
}

/// A Hello of a node of this name: it accepts no peers and has written nothing.
pub(super) fn hello(name: &str) -> Hello {
    Hello {
        cluster: cluster_id(CLUSTER),
        name: name.to_owned(),
        address: String::new(),
        epoch: Epoch::at_start(1 << 41, 7),
        first_epoch: Epoch::at_start(1 << 41, 7),
        process: ProcessId::from_random(fastrand::u128(..)),
        number: 0,
        features: 0,
        versions: Box::new([0; PARTITIONS]),
    }
}

/// The id of a cluster of this name: the hash that is also a node's key.
pub(super) fn cluster_id(name: &str) -> [u8; 16] {
    NodeKey::of_name(name).to_bytes()
}

/// A service as a frame carries it.
pub(super) fn service(kind: &str, id: &str) -> croupier_registry::Service {
    ServiceBuilder::new(kind, id).inbox("_C.S.stranger").build().unwrap()
}

impl RawPeer {
    pub(super) fn connect(address: SocketAddr) -> RawPeer {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        RawPeer { stream, link: Link::new(Instant::now()), incoming: Vec::new() }
    }

    /// A link that both sides have accepted.
    pub(super) fn open(address: SocketAddr, hello: Hello) -> RawPeer {
        let begun = Instant::now();
        let mut peer = RawPeer::connect(address);
        peer.greet(hello);
        while !peer.link.is_open() {
            match peer.next() {
                Some(Frame::Hello(_)) => {
                    let mut ack = Vec::new();
                    peer.link.handle_accepted(&mut ack);
                    peer.send_bytes(&ack);
                }
                Some(Frame::HelloAck(_)) => {}
                other => panic!("no greeting after {:?}: {other:?}", begun.elapsed()),
            }
        }
        peer
    }

    /// The socket, for who does without the rest.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Says Hello.
    pub(super) fn greet(&mut self, hello: Hello) {
        let mut bytes = Vec::new();
        self.link.write_hello(hello, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        let bytes = self.frame_bytes(frame);
        self.send_bytes(&bytes);
    }

    /// The bytes of a frame at the next place of this link.
    pub(super) fn frame_bytes(&mut self, frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.link.write(&Encoded::new(frame).unwrap(), &mut bytes);
        bytes
    }

    /// Sends bytes. A node that has had enough may not take them.
    pub(super) fn send_bytes(&mut self, bytes: &[u8]) {
        let _refused = self.stream.write_all(bytes);
    }

    /// The next frame; `None` when the node has closed the link.
    pub(super) fn next(&mut self) -> Option<Frame> {
        loop {
            match self.link.next_frame(&self.incoming) {
                Ok(Next::Frame { frame, bytes, .. }) => {
                    self.incoming.drain(..bytes);
                    return Some(frame);
                }
                Ok(Next::Skipped { bytes }) => drop(self.incoming.drain(..bytes)),
                Ok(Next::Incomplete { .. }) => {
                    let before = self.incoming.len();
                    self.incoming.resize(before + READ_BYTES, 0);
                    let read = read(&mut self.stream, &mut self.incoming[before..]);
                    self.incoming.truncate(before + read);
                    if read == 0 {
                        return None;
                    }
                }
                Err(error) => panic!("the node says what is no frame: {error}"),
            }
        }
    }

    /// Waits until the node has closed the link; the reason that it gave.
    pub(super) fn until_closed(&mut self) -> Option<ByeReason> {
        let mut reason = None;
        while let Some(frame) = self.next() {
            if let Frame::Bye(given) = frame {
                reason = Some(given);
            }
        }
        reason
    }

    /// Waits until the node has closed the connection, whatever it says.
    pub(super) fn until_end(&mut self) {
        let mut buffer = vec![0; READ_BYTES];
        while read(&mut self.stream, &mut buffer) > 0 {}
    }
}

/// Reads; nothing when the connection has ended, in whatever way.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    loop {
        match stream.read(buffer) {
            Ok(count) => return count,
            // A read with a timeout ends so whenever the process is stopped for a moment, whoever stops it.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("waited {GUARD:?} for the node to say something or to close the link")
            }
            Err(error) => {
                println!("the node's end of the link: {error}");
                return 0;
            }
        }
    }
}
