//! A link to another node: one task owns its socket, its channel and its machine.

mod channel;
mod connect;
mod outgoing;
mod session;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::Waker,
};

use croupier_registry::{
    Digest, Link, LinkId, NodeKey, Violation,
    wire::{
        Encoded,
        v1::{ByeReason, Frame},
    },
};

use self::outgoing::Outgoing;
pub(crate) use self::{
    channel::{Channel, KeyRing},
    connect::{accept, dial, take_over},
};
use crate::{
    registry_shard::{Acceptance, Load, Refusal, RegistryShard, ToShard, count},
    transport::SocketSettings,
};

/// What every link of a node needs.
#[derive(Clone)]
pub(crate) struct PeerContext {
    pub(crate) keys: KeyRing,
    pub(crate) socket: SocketSettings,
}

/// A link, as its shard's registry task and its own task share it.
pub(crate) struct PeerLink {
    id: LinkId,
    /// The address that was dialled, if this node dialled.
    dialled: Option<String>,
    registry: Rc<RegistryShard>,
    machine: RefCell<Link>,
    outgoing: RefCell<Outgoing>,
    /// What the membership wants to say as soon as both sides have accepted each other.
    held: RefCell<Vec<Encoded>>,
    beat: RefCell<Option<Beat>>,
    /// The number of the last heartbeat that was written.
    beats_written: Cell<u64>,
    compare: RefCell<Option<Compare>>,
    load: Load,
    /// The same of the membership's frames. They count apart: a heartbeat is compared while others are under way.
    hub_load: Load,
    /// Whether the shards were told that it is open.
    is_open: Cell<bool>,
    /// Set when the membership has accepted the peer.
    acceptance: Cell<Acceptance>,
    was_introduced: Cell<bool>,
    closing: Cell<Option<ByeReason>>,
    waker: RefCell<Option<Waker>>,
}

/// A heartbeat whose digest is being summed up.
struct Beat {
    counter: u64,
    digest: Digest,
    has_given: Vec<bool>,
    /// What shards sent after they had given their part.
    held: Vec<Encoded>,
}

/// A heartbeat's digest, while what this node has is being summed up.
struct Compare {
    theirs: [u8; 16],
    ours: Digest,
    parts_missing: usize,
}

impl PeerLink {
    fn new(
        id: LinkId,
        dialled: Option<String>,
        registry: Rc<RegistryShard>,
        now: std::time::Instant,
    ) -> Rc<Self> {
        Rc::new(PeerLink {
            id,
            dialled,
            registry,
            machine: RefCell::new(Link::new(now)),
            outgoing: RefCell::default(),
            held: RefCell::default(),
            beat: RefCell::default(),
            beats_written: Cell::new(0),
            compare: RefCell::default(),
            load: Load::default(),
            hub_load: Load::default(),
            is_open: Cell::new(false),
            acceptance: Cell::new(0),
            was_introduced: Cell::new(false),
            closing: Cell::new(None),
            waker: RefCell::default(),
        })
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn peer(&self) -> Option<NodeKey> {
        self.machine.borrow().peer()
    }

    /// The membership accepted the peer.
    pub(crate) fn accept(&self, acceptance: Acceptance) {
        self.acceptance.set(acceptance);
        self.machine.borrow_mut().handle_accepted(self.outgoing.borrow_mut().plain());
        self.open_if_both_accepted();
        self.wake();
    }

    fn open_if_both_accepted(&self) {
        let peer = match self.peer() {
            Some(peer) if self.machine.borrow().is_open() && !self.is_open.get() => peer,
            _ => return,
        };
        self.is_open.set(true);
        for frame in self.held.take() {
            self.machine.borrow_mut().write(&frame, self.outgoing.borrow_mut().plain());
        }
        let counters = &self.registry.shared().counters;
        count(&counters.links_opened, 1);
        self.introduced();
        let (link, acceptance) = (self.id, self.acceptance.get());
        self.registry.post_all(|| ToShard::LinkUp { peer, link, acceptance });
    }

    /// An accepted connection gives up its place among those that are half open.
    fn introduced(&self) {
        if self.dialled.is_none() && !self.was_introduced.replace(true) {
            self.registry.post_to_hub(ToShard::Introduced { link: self.id });
        }
    }

    /// Says Bye, and ends.
    pub(crate) fn close(&self, reason: ByeReason) {
        if self.closing.get().is_none() {
            self.closing.set(Some(reason));
            self.wake();
        }
    }

    /// A shard found a frame that the peer must not send.
    pub(crate) fn violated(&self, violation: &Violation) {
        if self.closing.get().is_none() {
            tracing::warn!(link = self.id.0, %violation, "a peer breaks the rules; its link is closed");
            self.registry.shared().counters.refuse(Refusal::Violation);
            self.tell_closed();
            self.close(ByeReason::BadFrame);
        }
    }

    /// Tells the membership that the link is gone, unless the membership itself closed it.
    fn tell_closed(&self) {
        if self.closing.get().is_some() {
            return;
        }
        match &self.dialled {
            Some(address) if self.peer().is_none() => self.registry.post_to_hub(ToShard::DialFailed {
                address: address.clone(),
                result: croupier_registry::DialResult::Unreachable,
            }),
            _ if self.peer().is_some() => {
                self.registry.post_to_hub(ToShard::LinkClosed { link: self.id });
            }
            _ => {}
        }
    }

    /// Sends a frame of the membership, ahead of all else.
    pub(crate) fn send(&self, frame: &Frame) {
        let is_greeting = matches!(frame, Frame::Hello(_) | Frame::StaleEpoch { .. } | Frame::Bye(_));
        match Encoded::new(frame) {
            // The peer may not have accepted this node yet, and would take it for a fault.
            Ok(frame) if !is_greeting && !self.is_open.get() => {
                let mut held = self.held.borrow_mut();
                if held.len() < HELD_MAX {
                    held.push(frame);
                }
            }
            Ok(_) if !is_greeting && self.outgoing.borrow_mut().plain().len() > PLAIN_BYTES_MAX => {
                self.overrun();
            }
            Ok(frame) => self.machine.borrow_mut().write(&frame, self.outgoing.borrow_mut().plain()),
            Err(error) => tracing::error!(%error, "a frame of this node's own cannot be sent"),
        }
        self.wake();
    }

    /// The peer asks and does not read the answers.
    fn overrun(&self) {
        if self.closing.get().is_none() {
            tracing::warn!(link = self.id.0, "a peer lets too many answers wait; its link is closed");
            self.registry.shared().counters.refuse(Refusal::Violation);
            self.tell_closed();
            self.close(ByeReason::BadFrame);
        }
    }

    /// Sends a frame of a partition's shard.
    pub(crate) fn write(&self, from: usize, frame: Encoded) {
        if let Some(beat) = &mut *self.beat.borrow_mut()
            && beat.has_given[from]
        {
            // The digest that is under way does not count it.
            beat.held.push(frame);
            return;
        }
        self.outgoing.borrow_mut().push(frame);
        self.wake();
    }

    /// A shard's part of the heartbeat of this number.
    pub(crate) fn heartbeat_part(&self, from: usize, counter: u64, digest: Digest) {
        if !self.is_open.get() || counter <= self.beats_written.get() {
            return;
        }
        let mut beat = self.beat.borrow_mut();
        if beat.as_ref().is_some_and(|beat| beat.counter != counter) {
            // A shard is late by a whole heartbeat. This node lives all the same, but what it has sent is unknown.
            self.finish_beat(&mut beat, false);
        }
        let shards = self.registry.node().shards();
        let under_way = beat.get_or_insert_with(|| Beat {
            counter,
            digest: Digest::default(),
            has_given: vec![false; shards],
            held: Vec::new(),
        });
        under_way.digest = under_way.digest.plus(digest);
        under_way.has_given[from] = true;
        if under_way.has_given.iter().all(|given| *given) {
            self.finish_beat(&mut beat, true);
        }
    }

    fn finish_beat(&self, beat: &mut Option<Beat>, is_whole: bool) {
        let Some(Beat { counter, digest, held, .. }) = beat.take() else { return };
        let mut outgoing = self.outgoing.borrow_mut();
        // Behind a transfer, a heartbeat would come late; ahead of it, the digest would count what is to come.
        let digest = if is_whole && !outgoing.has_transfers() { digest.to_bytes() } else { UNTOLD };
        if let Ok(frame) = Encoded::new(&Frame::Heartbeat { counter, digest }) {
            outgoing.push(frame);
        }
        for frame in held {
            outgoing.push(frame);
        }
        self.beats_written.set(counter);
        drop(outgoing);
        self.wake();
    }

    /// The peer's heartbeat says what it has sent: asks all shards what has come.
    fn compare(&self, theirs: [u8; 16]) {
        let Some(peer) = self.peer() else { return };
        let mut compare = self.compare.borrow_mut();
        if theirs == UNTOLD || compare.is_some() {
            return;
        }
        let parts_missing = self.registry.node().shards();
        *compare = Some(Compare { theirs, ours: Digest::default(), parts_missing });
        let link = self.id;
        self.registry.post_all(|| ToShard::Compare { peer, link });
    }

    /// What a shard has of the peer's logs.
    pub(crate) fn compare_part(&self, digest: Digest) {
        let mut compare = self.compare.borrow_mut();
        let Some(under_way) = &mut *compare else { return };
        under_way.ours = under_way.ours.plus(digest);
        under_way.parts_missing -= 1;
        if under_way.parts_missing > 0 {
            return;
        }
        let Some(Compare { theirs, ours, .. }) = compare.take() else { return };
        let Some(peer) = self.peer() else { return };
        let in_flight = self.load.0.load(std::sync::atomic::Ordering::Acquire) > 0;
        let differs = self.machine.borrow_mut().compare_digests(Digest::from_bytes(theirs), ours, in_flight);
        if differs {
            count(&self.registry.shared().counters.repairs, 1);
            self.registry.post_all(|| ToShard::Repair { peer });
        }
    }
}

/// Frames of the membership that wait for a link to open; what is beyond comes again with its next round.
const HELD_MAX: usize = 16;
/// Bytes of the membership's frames that wait for the peer to read; no peer that reads leaves as many.
const PLAIN_BYTES_MAX: usize = 4 << 20;
/// The digest of a heartbeat that tells none.
const UNTOLD: [u8; 16] = [0; 16];

/// So that the module's parts name it alike.
type Registry = Rc<RegistryShard>;
/// A frame on its way to a shard.
type SharedFrame = Arc<Frame>;
