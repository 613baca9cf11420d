//! What a process does with its links: frames to whom they concern, and what the membership decides.

use std::sync::Arc;

use croupier_registry::wire::Encoded;
use croupier_registry::wire::v1::{ByeReason, Frame, OriginDigest};
use croupier_registry::{DialResult, Digest, LinkId, MemberChange, MembershipOutput, NodeKey, Notice, Route};

use super::{ARCHIVE_MAX, Context, LinkState, Process};
use crate::network::Event;
use crate::oracle::Oracle;
use crate::plan::SECOND;
use crate::shard::Message;

impl Process {
    pub(super) fn handle_frame(
        &mut self,
        id: LinkId,
        frame: Frame,
        route: Route,
        bytes: usize,
        cx: &mut Context<'_>,
    ) {
        let now = cx.network.instant();
        if let Route::Hello = route {
            if let (Frame::Hello(hello), Some(state)) = (frame, self.links.get(&id)) {
                let dialled = state.dialled.is_some();
                self.membership.handle_hello(id, hello, dialled, now);
            }
            return;
        }
        if let Route::Link = route {
            return self.open_if_ready(id, cx);
        }
        if !matches!(frame, Frame::Heartbeat { .. } | Frame::Digest(_) | Frame::Credit { .. }) {
            cx.oracle.tell(|| format!("process {} ({}) <- {id:?} {frame:?}", self.number, self.key));
        }
        // Any frame shows that its sender lives.
        self.membership.handle_frame(id, &frame, now);
        let Some((peer, _)) = self.open.iter().find(|(_, open)| **open == id) else { return };
        let peer = *peer;
        match (route, &frame) {
            (Route::Membership, Frame::Heartbeat { digest, .. }) => {
                let ours: Digest = self.shards.iter().map(|shard| shard.partitions.digest(peer)).sum();
                let in_flight = self.shards.iter().any(|shard| shard.has_in_flight(peer));
                let theirs = Digest::from_bytes(*digest);
                let repair = self
                    .links
                    .get_mut(&id)
                    .is_some_and(|state| state.link.compare_digests(theirs, ours, in_flight));
                if repair {
                    self.tell_all(&Message::Pull { peer }, cx);
                }
            }
            (Route::Repair, Frame::Digest(theirs)) => {
                let ours = self.digests();
                let differ = |one: &&OriginDigest| {
                    ours.get(&one.origin).is_some_and(|ours| ours.to_bytes() != one.digest)
                };
                for one in theirs.iter().filter(differ) {
                    self.tell_all(&Message::Versions { peer, node: one.origin }, cx);
                }
            }
            (Route::Partition(_) | Route::EveryShard, _) => {
                let frame = Arc::new(frame);
                for shard in self.shards_for(&frame) {
                    let message =
                        Message::Frame { from: peer, session: Some(id), frame: Arc::clone(&frame), bytes };
                    self.through_adversary(shard, message, cx);
                }
                if !matches!(*frame, Frame::Credit { .. }) {
                    cx.archive.push_back((peer, frame, bytes));
                    if cx.archive.len() > ARCHIVE_MAX {
                        cx.archive.pop_front();
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn shards_for(&self, frame: &Frame) -> Vec<usize> {
        match frame {
            Frame::Delta { log, .. } | Frame::Seal { log, .. } => vec![self.shard_of(log.partition)],
            Frame::Credit { partition, .. } => vec![self.shard_of(*partition)],
            Frame::Command { key, .. } => vec![self.shard_of(key.partition())],
            _ => (0..self.shards.len()).collect(),
        }
    }

    /// A stream loses nothing; the adversary does, and the shards must bear it.
    pub(super) fn through_adversary(&mut self, shard: usize, message: Message, cx: &mut Context<'_>) {
        let Some(adversary) = cx.plan.adversary.filter(|_| cx.hostile) else {
            return self.tell(shard, message, cx);
        };
        if let Message::Frame { from, frame, bytes, .. } = &message {
            let again = |cx: &mut Context<'_>| {
                let at = cx.network.now + cx.random.u64(..SECOND / 2);
                let event =
                    Event::Late { host: self.host, from: *from, frame: Arc::clone(frame), bytes: *bytes };
                cx.network.at(at, event);
            };
            if cx.random.u32(..100) < adversary.repeat_percent {
                again(cx);
            }
            // Without credits a transfer would wait for ever, which no stream can bring about.
            if !matches!(**frame, Frame::Credit { .. }) {
                if cx.random.u32(..100) < adversary.loss_percent {
                    return;
                }
                if cx.random.u32(..100) < adversary.late_percent {
                    return again(cx);
                }
            }
        }
        self.tell(shard, message, cx);
    }

    // The membership.

    pub(super) fn handle_output(&mut self, output: MembershipOutput, cx: &mut Context<'_>) {
        if !matches!(output, MembershipOutput::Changed(_) | MembershipOutput::Beat { .. }) {
            cx.oracle.tell(|| format!("process {} ({}): {output:?}", self.number, self.key));
        }
        match output {
            MembershipOutput::Dial { address, deadline } => {
                let deadline = u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX);
                self.dials.push((address, deadline));
            }
            MembershipOutput::Accept { link, peer } => {
                let Some(state) = self.links.get_mut(&link) else { return };
                let (_, other) = cx.network.owner(state.connection, 1 - state.end);
                let hello = cx.network.hello(state.connection, 1 - state.end);
                self.watch.accepted(self.number, peer, other, hello, link, cx.oracle);
                let mut buffer = Vec::new();
                state.link.handle_accepted(&mut buffer);
                cx.network.send(state.connection, state.end, buffer);
                self.open_if_ready(link, cx);
            }
            MembershipOutput::Close { link, reason } => self.close(link, reason, cx),
            MembershipOutput::Send { link, frame } => {
                let Some(state) = self.links.get_mut(&link) else { return };
                let encoded = match Encoded::new(&frame) {
                    Ok(encoded) => encoded,
                    Err(error) => return cx.oracle.fail(|| format!("an own frame: {error}")),
                };
                if state.link.is_open() {
                    state.waiting.push_back((None, encoded));
                } else if matches!(frame, Frame::StaleEpoch { .. }) {
                    let mut buffer = Vec::new();
                    state.link.write(&encoded, &mut buffer);
                    cx.network.send(state.connection, state.end, buffer);
                } else {
                    state.held.push(encoded);
                }
            }
            MembershipOutput::Beat { counter } => {
                for (peer, link) in self.open.clone() {
                    let digest: Digest =
                        self.shards.iter().map(|shard| shard.partitions.enqueued_digest(peer)).sum();
                    let digest = digest.to_bytes();
                    self.write(link, &Frame::Heartbeat { counter, digest }, cx.oracle);
                }
            }
            MembershipOutput::Changed(change) => {
                if let MemberChange::Renewed(epoch) = &change {
                    cx.oracle.lives(self.number, self.key, *epoch);
                }
                self.watch.changed(self.number, &change, cx.oracle);
                if let MemberChange::Down(node) = &change
                    && cx.plan.forbid_down
                {
                    cx.oracle
                        .fail(|| format!("process {} holds {node} to be Down, which lives", self.number));
                }
                self.tell_all(&Message::Member(change), cx);
            }
            MembershipOutput::Notice(Notice::NameConflict) => cx.oracle.counts.conflicts += 1,
            MembershipOutput::Notice(Notice::EpochWasStale { .. }) => cx.oracle.counts.stale += 1,
        }
    }

    /// Opens a link for data once both sides accepted.
    pub(super) fn open_if_ready(&mut self, id: LinkId, cx: &mut Context<'_>) {
        let Some(state) = self.links.get_mut(&id).filter(|state| state.link.is_open()) else { return };
        let Some(peer) = state.link.peer() else { return };
        for encoded in state.held.drain(..) {
            state.waiting.push_back((None, encoded));
        }
        if let Some(other) = self.open.insert(peer, id) {
            cx.oracle
                .fail(|| format!("process {} has two links with {peer}: {other:?}, {id:?}", self.number));
        }
        self.tell_all(&Message::LinkUp { peer, session: id }, cx);
    }

    pub(super) fn close(&mut self, id: LinkId, reason: ByeReason, cx: &mut Context<'_>) {
        let Some(mut state) = self.forget(id, cx) else { return };
        let mut buffer = Vec::new();
        match Encoded::new(&Frame::Bye(reason)) {
            Ok(encoded) => state.link.write(&encoded, &mut buffer),
            Err(error) => cx.oracle.fail(|| format!("no Bye: {error}")),
        }
        cx.network.send(state.connection, state.end, buffer);
        cx.network.close(state.connection, state.end);
    }

    pub(super) fn bad_frame(&mut self, id: LinkId, cx: &mut Context<'_>) {
        let dialled = self.links.get(&id).and_then(|state| state.dialled.clone());
        let silent = self.links.get(&id).is_some_and(|state| state.link.peer().is_none());
        self.close(id, ByeReason::BadFrame, cx);
        self.report_closed(id, dialled.filter(|_| silent), cx);
    }

    /// The connection is closed already.
    pub(super) fn closed(&mut self, id: LinkId, cx: &mut Context<'_>) {
        let Some(state) = self.forget(id, cx) else { return };
        cx.oracle.tell(|| format!("process {} ({}): {id:?} is closed", self.number, self.key));
        cx.network.forget(state.connection, state.end);
        let silent = state.link.peer().is_none();
        self.report_closed(id, state.dialled.filter(|_| silent), cx);
    }

    pub(super) fn report_closed(
        &mut self,
        id: LinkId,
        dialled_in_vain: Option<String>,
        cx: &mut Context<'_>,
    ) {
        let now = cx.network.instant();
        match dialled_in_vain {
            Some(address) => self.membership.handle_dial_failed(&address, DialResult::Unreachable, now),
            None => self.membership.handle_link_closed(id, now),
        }
    }

    pub(super) fn forget(&mut self, id: LinkId, cx: &mut Context<'_>) -> Option<LinkState> {
        let state = self.links.remove(&id)?;
        if let Some(peer) = state.link.peer().filter(|peer| self.open.get(peer) == Some(&id)) {
            self.open.remove(&peer);
            self.tell_all(&Message::LinkDown { peer }, cx);
        }
        Some(state)
    }

    pub(super) fn send_digests(&mut self, cx: &mut Context<'_>) {
        let peers: Vec<LinkId> = self.open.values().copied().collect();
        let Some(link) = cx.random.choice(peers) else { return };
        let digest = |(origin, digest): (NodeKey, Digest)| OriginDigest { origin, digest: digest.to_bytes() };
        let digests = self.digests().into_iter().map(digest).collect();
        self.write(link, &Frame::Digest(digests), cx.oracle);
    }

    pub(super) fn write(&mut self, link: LinkId, frame: &Frame, oracle: &mut Oracle) {
        match (Encoded::new(frame), self.links.get_mut(&link)) {
            (Ok(encoded), Some(state)) => state.waiting.push_back((None, encoded)),
            (Err(error), _) => oracle.fail(|| format!("an own frame: {error}")),
            (Ok(_), None) => {}
        }
    }
}
