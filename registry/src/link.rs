//! The machine of one connection: who is at the other end, which frame comes next, and whether both have the same.
//!
//! Both sides begin with a Hello, and answer the other's with a HelloAck once their membership accepts it. When both
//! acks have come the link is open for everything else. The caller owns the bytes.

use std::time::Instant;

use crate::limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX, HELLO_TIME};
use crate::wire::v1::Frame;
use crate::wire::{Encoded, HEADER_BYTES, Header, Hello, HelloAck, decode};
use crate::{Digest, LinkError, NodeKey, Partition, WireError};

/// Where a frame is to be handed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// To [`Membership::handle_hello`](crate::Membership::handle_hello).
    Hello,
    /// To [`Membership::handle_frame`](crate::Membership::handle_frame).
    Membership,
    /// To the shard of this partition.
    Partition(Partition),
    /// To every shard.
    EveryShard,
    /// To whoever combines the shards' digests: see [`Link::compare_digests`] and
    /// [`Partitions::send_versions`](crate::Partitions::send_versions).
    Repair,
    /// Nowhere: the link has taken it.
    Link,
}

/// What the front of the caller's bytes holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// The beginning of a frame: read until so many bytes are there.
    Incomplete {
        /// Bytes of the whole, as far as is known.
        needed: usize,
    },
    /// A frame.
    Frame {
        /// What it says.
        frame: Frame,
        /// Whom it concerns.
        route: Route,
        /// Bytes that it took, to be removed from the front.
        bytes: usize,
    },
    /// A frame of an optional type that is not known here.
    Skipped {
        /// Bytes that it took, to be removed from the front.
        bytes: usize,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Link {
    peer: Option<NodeKey>,
    accepted: bool,
    acked: bool,
    hello_until: Instant,
    next_incoming: u64,
    next_outgoing: u64,
    differences: u8,
    skipped: u64,
}

impl Link {
    /// A fresh connection. Send a Hello at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            peer: None,
            accepted: false,
            acked: false,
            hello_until: now + HELLO_TIME,
            next_incoming: 0,
            next_outgoing: 0,
            differences: 0,
            skipped: 0,
        }
    }

    /// Who is at the other end, once it said Hello.
    #[must_use]
    pub fn peer(&self) -> Option<NodeKey> {
        self.peer
    }

    /// Whether both sides accepted each other. Only now may the shards send.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.accepted && self.acked
    }

    /// Frames of unknown optional types that came.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Takes the frame at the front of `bytes`.
    ///
    /// # Errors
    ///
    /// If the link has to be closed.
    pub fn next_frame(&mut self, bytes: &[u8]) -> Result<Next, LinkError> {
        let Some((header_bytes, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(Next::Incomplete { needed: HEADER_BYTES });
        };
        let payload_bytes_max = if self.is_open() { FRAME_BYTES_MAX } else { HELLO_BYTES_MAX };
        let header = Header::parse(header_bytes, payload_bytes_max)?;
        if header.sequence != self.next_incoming {
            let (found, expected) = (header.sequence, self.next_incoming);
            return Err(WireError::Sequence { found, expected }.into());
        }
        let taken = HEADER_BYTES + header.payload_bytes;
        let Some(payload) = rest.get(..header.payload_bytes) else {
            return Ok(Next::Incomplete { needed: taken });
        };
        if !header.known {
            header.verify(payload)?;
            self.next_incoming += 1;
            self.skipped += 1;
            return Ok(Next::Skipped { bytes: taken });
        }
        // What may not come now is not even decoded.
        if !self.is_expected(header.frame_type) {
            return Err(self.unexpected(header.frame_type));
        }
        let frame = decode(&header, payload)?;
        let route = self.take(&frame)?;
        self.next_incoming += 1;
        Ok(Next::Frame { frame, route, bytes: taken })
    }

    /// Appends this node's Hello, the first frame on the link.
    ///
    /// # Errors
    ///
    /// If its name or address is too long.
    pub fn write_hello(&mut self, hello: Hello, buffer: &mut Vec<u8>) -> Result<(), WireError> {
        let encoded = Encoded::new(&Frame::Hello(hello))?;
        self.write(&encoded, buffer);
        Ok(())
    }

    /// The membership accepted the peer: appends the HelloAck.
    pub fn handle_accepted(&mut self, buffer: &mut Vec<u8>) {
        self.accepted = true;
        if let Ok(encoded) = Encoded::new(&Frame::HelloAck(HelloAck { features: 0 })) {
            self.write(&encoded, buffer);
        }
    }

    /// Appends a frame.
    pub fn write(&mut self, encoded: &Encoded, buffer: &mut Vec<u8>) {
        encoded.write_to(self.next_outgoing, buffer);
        self.next_outgoing += 1;
    }

    /// The header of a frame whose payload the caller sends from where it lies.
    #[must_use]
    pub fn next_header(&mut self, encoded: &Encoded) -> [u8; HEADER_BYTES] {
        let header = encoded.header(self.next_outgoing);
        self.next_outgoing += 1;
        header
    }

    /// Compares a heartbeat's digest with the sum of what all shards have of the peer's logs. `in_flight` says whether
    /// chunks of it wait to be applied. True means that every shard should pull, by
    /// [`Partitions::send_pull`](crate::Partitions::send_pull): it differed twice in a row.
    #[must_use]
    pub fn compare_digests(&mut self, theirs: Digest, ours: Digest, in_flight: bool) -> bool {
        if theirs == ours || in_flight {
            self.differences = 0;
            return false;
        }
        self.differences += 1;
        let repair = self.differences >= DIFFERENCES_MAX;
        if repair {
            self.differences = 0;
        }
        repair
    }

    /// When [`Link::handle_timeout`] is to be called, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_open()).then_some(self.hello_until)
    }

    /// Time has passed.
    ///
    /// # Errors
    ///
    /// [`LinkError::HelloTimeout`]: the link has to be closed.
    pub fn handle_timeout(&self, now: Instant) -> Result<(), LinkError> {
        if !self.is_open() && now >= self.hello_until { Err(LinkError::HelloTimeout) } else { Ok(()) }
    }

    fn is_expected(&self, frame_type: u8) -> bool {
        use crate::wire::v1::{TYPE_BYE, TYPE_HELLO, TYPE_HELLO_ACK, TYPE_STALE_EPOCH};
        match frame_type {
            TYPE_HELLO => self.peer.is_none(),
            TYPE_HELLO_ACK => self.peer.is_some() && !self.acked,
            TYPE_STALE_EPOCH | TYPE_BYE => self.peer.is_some(),
            _ => self.is_open(),
        }
    }

    /// Notes what concerns the link, and says whom the frame concerns.
    fn take(&mut self, frame: &Frame) -> Result<Route, LinkError> {
        match frame {
            Frame::Hello(hello) => {
                self.peer = Some(hello.key());
                Ok(Route::Hello)
            }
            Frame::HelloAck(_) => {
                self.acked = true;
                Ok(Route::Link)
            }
            Frame::Heartbeat { .. }
            | Frame::Member(_)
            | Frame::Ping { .. }
            | Frame::PingReq { .. }
            | Frame::Ack { .. }
            | Frame::StaleEpoch { .. }
            | Frame::Bye(_) => Ok(Route::Membership),
            Frame::Delta { log, .. } | Frame::Seal { log, .. } => Ok(Route::Partition(log.partition)),
            Frame::Credit { partition, .. } => Ok(Route::Partition(*partition)),
            Frame::Command { origin, key, .. } => {
                if Some(*origin) != self.peer {
                    return Err(self.unexpected(frame.frame_type()));
                }
                Ok(Route::Partition(key.partition()))
            }
            Frame::Pull { .. } | Frame::Versions { .. } | Frame::CommandAck { .. } => Ok(Route::EveryShard),
            Frame::Digest(_) => Ok(Route::Repair),
        }
    }

    fn unexpected(&self, frame_type: u8) -> LinkError {
        let state = match (self.peer.is_some(), self.is_open()) {
            (false, _) => "silent",
            (true, false) => "greeting",
            (true, true) => "open",
        };
        LinkError::Unexpected { frame_type, state }
    }
}

/// After so many heartbeats in a row whose digests differ, the logs are pulled.
const DIFFERENCES_MAX: u8 = 2;
