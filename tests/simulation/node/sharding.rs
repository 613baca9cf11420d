//! What a process and its shards say to each other.

use croupier_registry::wire::Encoded;
use croupier_registry::wire::v1::Frame;
use croupier_registry::{LinkId, NodeKey};

use super::{Context, Process};
use crate::network::Event;
use crate::shard::Message;

impl Process {
    pub(super) fn tell_all(&mut self, message: &Message, cx: &mut Context<'_>) {
        for shard in 0..self.shards.len() {
            self.tell(shard, message.clone(), cx);
        }
    }

    /// Messages to shards keep their order, whatever way they take.
    pub(super) fn tell(&mut self, shard: usize, message: Message, cx: &mut Context<'_>) {
        let due = match cx.plan.hop_max {
            0 => cx.network.now,
            most => (cx.network.now + cx.random.u64(..most)).max(self.inbox_due),
        };
        self.inbox_due = due;
        self.shards[shard].inbox.push_back((due, message));
        if due > cx.network.now {
            cx.network.at(due, Event::Inbox { host: self.host, process: self.number });
        }
    }

    pub(super) fn take(&mut self, at: usize, message: Message, cx: &mut Context<'_>) {
        let now = cx.network.instant();
        let shard = &mut self.shards[at];
        match message {
            Message::Member(change) => {
                shard.note_member(&change, cx.oracle);
                shard.partitions.handle_member(change, now);
                shard.drain_events(cx.oracle);
                shard.check(cx.oracle);
            }
            Message::LinkUp { peer, session } => {
                shard.sessions.insert(peer, session);
                shard.partitions.handle_link_up(peer);
            }
            Message::LinkDown { peer } => {
                shard.sessions.remove(&peer);
                shard.partitions.handle_link_down(peer);
            }
            Message::Pull { peer } => shard.partitions.send_pull(peer, peer, None),
            Message::Versions { peer, node } => shard.partitions.send_versions(peer, node),
            Message::Frame { from, session, frame, bytes } => {
                self.take_frame(at, from, session, &frame, bytes, cx);
            }
        }
        self.shards[at].drain_events(cx.oracle);
        self.collect(at, cx);
    }

    pub(super) fn take_frame(
        &mut self,
        at: usize,
        from: NodeKey,
        session: Option<LinkId>,
        frame: &Frame,
        bytes: usize,
        cx: &mut Context<'_>,
    ) {
        let now = cx.network.instant();
        if let (Frame::Credit { partition, bytes }, Some(id)) = (frame, session)
            && self.shard_of(*partition) == at
            && let Some(state) = self.links.get_mut(&id)
        {
            state.transfers[at] = state.transfers[at].saturating_sub(*bytes as usize);
        }
        let before = session.is_none().then(|| self.shards[at].state());
        let mut result = Ok(());
        match frame {
            Frame::Command { op_id, key, .. } => {
                self.by_command(at, *op_id, key, cx, |partitions| {
                    result = partitions.handle_frame(from, frame, bytes, now);
                });
            }
            _ => result = self.shards[at].partitions.handle_frame(from, frame, bytes, now),
        }
        let shard = &mut self.shards[at];
        shard.drain_events(cx.oracle);
        if let Frame::Delta { log, .. } | Frame::Seal { log, .. } = frame {
            cx.oracle.counts.chunks += 1;
            cx.oracle.counts.relayed += u64::from(log.origin != from);
            cx.oracle.mix(shard.partitions.log(log.origin, log.partition).map_or(0, |log| log.known()));
            shard.check_log(log.origin, log.partition, cx.oracle);
            shard.check_shown_of(log.partition, cx.oracle);
        }
        if let Err(violation) = result {
            cx.oracle.counts.refused += 1;
            if let Some(before) = before {
                let after = shard.state();
                cx.oracle
                    .require(before == after, || format!("refused, but not without effect: {violation}"));
            }
            // A Pull that comes again brings forth what nobody asked for.
            cx.oracle.require(session.is_none() || cx.plan.has_replays(), || {
                format!("process {} refuses a right frame of {from}: {violation}; {frame:?}", self.number)
            });
            if let Some(id) = session {
                self.bad_frame(id, cx);
            }
        }
    }

    /// Takes a shard's frames to their links.
    pub(super) fn collect(&mut self, at: usize, cx: &mut Context<'_>) {
        let shards = self.shards.len();
        let shard = &mut self.shards[at];
        while let Some((peer, encoded)) = shard.partitions.poll_frame() {
            let session = shard.sessions.get(&peer);
            cx.oracle.require(session.is_some(), || format!("a frame to {peer}, to which there is no link"));
            let under_way: usize = self.links.values().map(|state| state.transfers[at]).sum();
            // Between a link's end and its report to the shard, what the shard says goes nowhere.
            let Some(state) = session.and_then(|session| self.links.get_mut(session)) else { continue };
            let window = &cx.plan.window;
            if encoded.is_live() {
                let before = state.live[at];
                cx.oracle.require(before < window.live_bytes.div_ceil(shards), || {
                    format!("{before} bytes of live changes wait already")
                });
                state.live[at] += encoded.frame_bytes();
            } else if is_chunk(&encoded) && cx.plan.adversary.is_none() {
                let before = state.transfers[at];
                let (share, share_of_all) =
                    (window.transfer_bytes.div_ceil(shards), window.transfers_bytes.div_ceil(shards));
                cx.oracle.require(before < share && under_way < share_of_all, || {
                    format!("{before} bytes of transfers are under way already, {under_way} to all")
                });
                state.transfers[at] += encoded.frame_bytes();
            }
            state.waiting.push_back((Some(at), encoded));
        }
    }
}

fn is_chunk(encoded: &Encoded) -> bool {
    const TYPES: [u8; 2] = [4, 5];
    TYPES.contains(&encoded.header(0)[3])
}
