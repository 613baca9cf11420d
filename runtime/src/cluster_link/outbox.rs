//! The write half of a link: one buffer in stream order, large payloads beside it, and the fate of
//! every message that was put in.
//!
//! Operations are appended whole. A send takes any number of bytes from the front, so that a
//! cut connection leaves three kinds of messages: those of which a byte was handed to the kernel
//! (in doubt, unless a PONG came after them), and those that were not touched, which stay queued.
//! To tell them apart after a cut, the buffer is read again from a checkpoint at most
//! [`CHECKPOINT_BYTES`] before the point of the cut; nothing is recorded per message.
//!
//! A move to another connection sets a fence: what stands before it goes over the old connection, what
//! is appended behind it waits, and goes over the new one as soon as the old one's server has processed
//! all that came before the fence. So nothing is in doubt, and the order is kept.
//!
//! What gathered during an outage leaves in portions ([`CatchUp`]): a send goes up to the end of the present one.

use std::{
    collections::VecDeque,
    io,
    io::IoSlice,
    time::{Duration, Instant},
};

use bytes::Bytes;
use croupier_protocol::{
    ClientOperationKind, Headers, PingId, encode, encode::PublishPrefix, next_client_operation,
};

use super::{
    catch_up::CatchUp,
    fault::{self, Fault},
};
use crate::{payload::Payload, transport::SendHalf};

/// Owned payloads above this many bytes are sent from where they are; below it a copy is cheaper.
pub(crate) const SLICE_BYTES_MIN: usize = 2048;
/// When this much waits on an open link, a publish sends it at once rather than at the end of the turn,
/// so that the buffer stays within the processor's cache.
const EAGER_SEND_BYTES: usize = 64 << 10;
/// Distance of checkpoints, and so what is read again after a cut.
const CHECKPOINT_BYTES: usize = 4 << 10;
/// Sent bytes are cut off the front of the buffer from this many on.
const COMPACT_BYTES: usize = 256 << 10;
/// Slices that one system call takes.
const SLICES_PER_SEND: usize = 32;
/// Bytes of SUBs, UNSUBs, PINGs and PONGs that may wait beside the messages: a million subscriptions made at once. More
/// come only when the server does not take what is sent.
pub(crate) const CONTROL_BYTES_MAX: usize = 64 << 20;
/// Bytes of one operation beside subject and payload, at most.
const LINE_OVERHEAD_BYTES: usize = 48;

/// How a publish finds its way into the buffer.
pub(crate) enum Destination<'a> {
    Subject { subject: &'a [u8], reply: Option<&'a [u8]>, headers: Option<&'a Headers> },
    Prefix(&'a PublishPrefix),
}

impl Destination<'_> {
    fn overhead_bytes(&self) -> usize {
        LINE_OVERHEAD_BYTES
            + match self {
                Destination::Subject { subject, reply, headers } => {
                    subject.len() + reply.map_or(0, <[u8]>::len) + headers.map_or(0, Headers::encoded_len)
                }
                Destination::Prefix(prefix) => prefix.as_bytes().len(),
            }
    }

    fn header_bytes(&self) -> usize {
        match self {
            Destination::Subject { headers: Some(headers), .. } => headers.encoded_len(),
            _ => 0,
        }
    }
}

/// Why a message was not appended.
pub(crate) enum Refused {
    Full { queued_bytes: usize, limit_bytes: usize, needed_bytes: usize },
    TooLarge { payload_bytes: usize, limit_bytes: usize },
}

/// What a send came to.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Nothing is left.
    All,
    /// The kernel takes no more for the moment.
    Blocked,
    /// The connection is broken.
    Failed(io::Error),
}

/// What became of the messages when their connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) in_doubt: u64,
    pub(crate) requeued: u64,
}

/// A payload that is not in the buffer.
struct Slice {
    /// Index in `inline` before which its bytes go.
    at: usize,
    bytes: Bytes,
    sent: usize,
}

/// The beginning of an operation.
#[derive(Clone, Copy)]
struct Checkpoint {
    at: usize,
    /// Messages appended before it.
    appended: u64,
    /// Bytes of the slice that belongs to the operation which begins here.
    slice_bytes: usize,
}

/// A PING behind which some messages stand.
struct Mark {
    ping: PingId,
    appended: u64,
}

/// The end of what goes over the present connection.
struct Fence {
    at: usize,
    /// The PING in front of it, and whether its PONG has come.
    ping: PingId,
    passed: bool,
}

pub(crate) struct Outbox {
    inline: Vec<u8>,
    /// Bytes of `inline` that the kernel has.
    head: usize,
    slices: VecDeque<Slice>,
    slice_bytes_unsent: usize,
    checkpoints: VecDeque<Checkpoint>,
    checkpoint_due: usize,
    /// The connection that the server has accepted.
    sender: Option<SendHalf>,
    fence: Option<Fence>,
    blocked: bool,
    failed: Option<io::Error>,
    /// What gathered during an outage is leaving, and this is where in the stream its present portion ends.
    catch_up: Option<(CatchUp, u64)>,
    limit_bytes: usize,
    payload_bytes_max: usize,
    /// The largest that it was since the connection was opened: what is queued may be as large.
    payload_bytes_max_queued: usize,
    marks: VecDeque<Mark>,
    /// Messages appended since the last cut; of them, how many a PONG has covered.
    appended: u64,
    processed: u64,
    marked: u64,
    marked_stream_bytes: u64,
    stream_bytes: u64,
    totals: Totals,
}

/// Counts over the life of a link. `accepted = processed + in_doubt + discarded + pending`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) accepted: u64,
    pub(crate) processed: u64,
    pub(crate) in_doubt: u64,
    pub(crate) discarded_oversized: u64,
    pub(crate) discarded_unsent: u64,
    pub(crate) rejected: u64,
    pub(crate) sends: u64,
}

#[cfg(test)]
impl Totals {
    fn discarded(&self) -> u64 {
        self.discarded_oversized + self.discarded_unsent
    }
}

impl Outbox {
    pub(crate) fn new(limit_bytes: usize, payload_bytes_max: usize) -> Self {
        Outbox {
            inline: Vec::new(),
            head: 0,
            slices: VecDeque::new(),
            slice_bytes_unsent: 0,
            checkpoints: VecDeque::new(),
            checkpoint_due: 0,
            sender: None,
            fence: None,
            blocked: false,
            failed: None,
            catch_up: None,
            limit_bytes,
            payload_bytes_max,
            payload_bytes_max_queued: payload_bytes_max,
            marks: VecDeque::new(),
            appended: 0,
            processed: 0,
            marked: 0,
            marked_stream_bytes: 0,
            stream_bytes: 0,
            totals: Totals::default(),
        }
    }

    /// Appends one message, or refuses it and leaves everything as it was.
    #[inline]
    pub(crate) fn publish(&mut self, to: &Destination<'_>, payload: Payload<'_>) -> Result<(), Refused> {
        let payload_bytes = payload.len();
        let total_bytes = payload_bytes + to.header_bytes();
        if total_bytes > self.payload_bytes_max {
            self.totals.rejected += 1;
            return Err(Refused::TooLarge {
                payload_bytes: total_bytes,
                limit_bytes: self.payload_bytes_max,
            });
        }
        let needed_bytes = payload_bytes + to.overhead_bytes();
        let is_full = self.queued_bytes() + needed_bytes > self.limit_bytes;
        if is_full && !fault::is_built_in(Fault::BufferUnbounded) {
            self.totals.rejected += 1;
            return Err(Refused::Full {
                queued_bytes: self.queued_bytes(),
                limit_bytes: self.limit_bytes,
                needed_bytes,
            });
        }
        if payload_bytes > SLICE_BYTES_MIN && payload.is_owned() {
            self.publish_slice(to, payload.into_bytes());
        } else {
            self.begin_operation();
            let bytes = payload.as_bytes();
            match to {
                Destination::Prefix(prefix) => encode::publish_prefixed(&mut self.inline, prefix, bytes),
                Destination::Subject { subject, reply, headers: None } => {
                    encode::publish(&mut self.inline, subject, *reply, bytes);
                }
                Destination::Subject { subject, reply, headers: Some(headers) } => {
                    encode::publish_with_headers(&mut self.inline, subject, *reply, headers, bytes);
                }
            }
        }
        self.appended += 1;
        self.totals.accepted += 1;
        if self.inline.len() - self.head >= EAGER_SEND_BYTES {
            self.send_eagerly();
        }
        Ok(())
    }

    fn publish_slice(&mut self, to: &Destination<'_>, bytes: Bytes) {
        self.checkpoint(bytes.len());
        match to {
            Destination::Prefix(prefix) => {
                encode::publish_prefixed_line(&mut self.inline, prefix, bytes.len());
            }
            Destination::Subject { subject, reply, headers: None } => {
                encode::publish_line(&mut self.inline, subject, *reply, bytes.len());
            }
            Destination::Subject { subject, reply, headers: Some(headers) } => {
                encode::publish_with_headers_line(&mut self.inline, subject, *reply, headers, bytes.len());
            }
        }
        self.slice_bytes_unsent += bytes.len();
        self.slices.push_back(Slice { at: self.inline.len(), bytes, sent: 0 });
        self.inline.extend_from_slice(b"\r\n");
        // The next operation needs a checkpoint of its own, since this one is not whole in the buffer.
        self.checkpoint_due = 0;
    }

    #[cold]
    fn send_eagerly(&mut self) {
        if !self.blocked && self.failed.is_none() && self.portion_bytes() > 0 {
            // A failure is kept, and found by the link's task.
            let _kept = self.send();
        }
    }

    /// Whether more control operations may be appended. An UNSUB that ends a SUB always may: there are no more of them
    /// than of the SUBs that had room.
    pub(crate) fn has_room_for_control(&self) -> bool {
        self.queued_bytes() <= self.control_limit_bytes()
    }

    /// What may wait, control operations included.
    pub(crate) fn control_limit_bytes(&self) -> usize {
        self.limit_bytes.saturating_add(CONTROL_BYTES_MAX)
    }

    /// The buffer, for a control operation: SUB, UNSUB, PING, PONG.
    pub(crate) fn control(&mut self) -> &mut Vec<u8> {
        self.begin_operation();
        &mut self.inline
    }

    /// Says that a PING was just appended: its PONG covers all messages so far.
    pub(crate) fn mark(&mut self, ping: PingId) {
        self.marks.push_back(Mark { ping, appended: self.appended });
        self.marked = self.appended;
        self.marked_stream_bytes = self.stream_bytes + self.queued_bytes() as u64;
    }

    /// Takes note of a PONG.
    pub(crate) fn pong(&mut self, ping: PingId) {
        while self.marks.front().is_some_and(|mark| mark.ping <= ping) {
            if let Some(mark) = self.marks.pop_front() {
                let all = fault::is_built_in(Fault::PongCoversAll);
                let covered = if all { self.appended } else { mark.appended };
                self.totals.processed += covered - self.processed;
                self.processed = covered;
            }
        }
        if let Some(fence) = &mut self.fence {
            fence.passed |= fence.ping <= ping;
        }
    }

    /// Holds back what is appended from here on. `ping` was just appended and [marked](Outbox::mark).
    pub(crate) fn raise_fence(&mut self, ping: PingId) {
        // The next operation gets a checkpoint: a cut may have to be counted from here.
        self.checkpoint_due = 0;
        self.fence = Some(Fence { at: self.inline.len(), ping, passed: false });
    }

    /// There is no other connection after all: what was held back goes over this one.
    pub(crate) fn lift_fence(&mut self) {
        self.fence = None;
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fence.is_some()
    }

    /// Whether all that stands before the fence was handed to the kernel.
    pub(crate) fn is_sent_to_fence(&self) -> bool {
        self.fence.as_ref().is_some_and(|fence| self.head >= fence.at)
    }

    /// Whether the server has processed all that stands before the fence.
    pub(crate) fn has_passed_fence(&self) -> bool {
        let ignored = fault::is_built_in(Fault::FenceIgnored);
        self.fence.as_ref().is_some_and(|fence| fence.passed || ignored)
    }

    /// The fence is passed: what waits behind it goes over another connection, which is subscribed
    /// already. Messages larger than `payload_bytes_max` are discarded; returns how many.
    pub(crate) fn hand_over(&mut self, sender: SendHalf, payload_bytes_max: usize) -> u64 {
        debug_assert!(self.has_passed_fence());
        debug_assert!(self.marks.is_empty() || fault::is_built_in(Fault::FenceIgnored));
        self.blocked = false;
        self.failed = None;
        self.open(sender, None, payload_bytes_max)
    }

    /// Whether messages are in the stream that no PING follows yet.
    pub(crate) fn has_unmarked(&self) -> bool {
        self.appended > self.marked
    }

    /// Whether a PING that covers messages is under way.
    pub(crate) fn is_mark_pending(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Bytes of the stream since the last PING that covers messages.
    pub(crate) fn unmarked_bytes(&self) -> u64 {
        (self.stream_bytes + self.queued_bytes() as u64).saturating_sub(self.marked_stream_bytes)
    }

    /// Bytes that wait to be sent.
    #[inline]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.inline.len() - self.head + self.slice_bytes_unsent
    }

    /// Memory that it holds.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.inline.capacity() + self.slice_bytes_unsent
    }

    #[cfg(test)]
    pub(super) fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Messages that have no fate yet: queued or written.
    pub(crate) fn pending(&self) -> u64 {
        self.appended - self.processed
    }

    /// Messages of which no byte was sent. Reads at most what follows the last checkpoint.
    pub(crate) fn queued(&self) -> u64 {
        self.appended - self.first_unsent().1
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// The server has accepted a connection. `ahead`, its subscriptions, goes before the messages that are
    /// queued; without it the connection is subscribed, and queued control operations are what changed
    /// since. Messages larger than `payload_bytes_max` are discarded; returns how many.
    pub(crate) fn open(&mut self, sender: SendHalf, ahead: Option<&[u8]>, payload_bytes_max: usize) -> u64 {
        let is_less = payload_bytes_max < self.payload_bytes_max_queued;
        let limit = (is_less && !fault::is_built_in(Fault::OversizedSent)).then_some(payload_bytes_max);
        let discarded = match (ahead, limit) {
            (None, None) => 0,
            (None, limit) => self.rebuild(&[], limit, Some(self.head)),
            (Some(ahead), limit) => self.rebuild(ahead, limit, None),
        };
        self.payload_bytes_max = payload_bytes_max;
        self.payload_bytes_max_queued = payload_bytes_max;
        self.totals.discarded_oversized += discarded;
        self.inline.extend_from_slice(&fault::torn_rest());
        self.sender = Some(sender);
        self.catch_up = None;
        self.fence = None;
        discarded
    }

    /// A later INFO of the same connection, or a reload, may raise or lower the limit.
    pub(crate) fn set_payload_bytes_max(&mut self, payload_bytes_max: usize) {
        self.payload_bytes_max = payload_bytes_max;
        self.payload_bytes_max_queued = self.payload_bytes_max_queued.max(payload_bytes_max);
    }

    /// How much may wait. What waits already stays, also if it is more.
    pub(crate) fn set_limit_bytes(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// The connection is gone: settles what was on it and keeps what was not sent. Control operations
    /// behind a fence are kept as well: they are for the connection that takes over.
    pub(crate) fn cut(&mut self) -> Cut {
        if fault::is_built_in(Fault::InDoubtSentAgain) && self.slices.is_empty() && self.processed == 0 {
            self.head = 0;
        }
        let (first_unsent, sent) = self.first_unsent();
        if self.slices.is_empty() {
            fault::tear(&self.inline[self.head..first_unsent]);
        }
        let in_doubt = sent - self.processed;
        self.totals.in_doubt += in_doubt;
        if fault::is_built_in(Fault::FateCountedTwice) {
            self.totals.discarded_unsent += in_doubt;
        }
        let fence = self.fence.take().map(|fence| fence.at);
        self.rebuild(&[], None, fence);
        self.sender = None;
        self.blocked = false;
        self.failed = None;
        Cut { in_doubt, requeued: self.appended }
    }

    /// Drops what is queued, which nobody will send; returns how many messages.
    pub(crate) fn discard(&mut self) -> u64 {
        let discarded = self.pending();
        self.totals.discarded_unsent += discarded;
        self.reset_buffer();
        discarded
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The bytes at which a blocked send goes on, for the reactor to wait with.
    pub(crate) fn unsent_front(&self) -> &[u8] {
        let end = self.sendable_end();
        let front = match self.slices.front() {
            Some(slice) if slice.at == self.head => &slice.bytes[slice.sent..],
            Some(slice) => &self.inline[self.head..slice.at.min(end)],
            None => &self.inline[self.head..end],
        };
        &front[..front.len().min(self.portion_bytes())]
    }

    /// Bytes that may be sent before the next portion of a backlog is due.
    fn portion_bytes(&self) -> usize {
        match self.catch_up {
            None => usize::MAX,
            Some((_, end)) => usize::try_from(end.saturating_sub(self.stream_bytes)).unwrap_or(usize::MAX),
        }
    }

    /// What waits gathered in an outage, and leaves over some time, if it is worth it; its first `ahead_bytes`,
    /// the subscriptions, at once.
    pub(crate) fn begin_catch_up(
        &mut self,
        ahead_bytes: usize,
        outage: Duration,
        longest: Duration,
        now: Instant,
    ) {
        let backlog_bytes = self.queued_bytes().saturating_sub(ahead_bytes);
        self.catch_up = CatchUp::begin(backlog_bytes, outage, longest, now)
            .map(|catch_up| (catch_up, self.stream_bytes + ahead_bytes as u64));
    }

    /// The next portion of a backlog may leave, if it is due.
    pub(crate) fn catch_up(&mut self, now: Instant) {
        let Some((mut catch_up, _)) = self.catch_up.filter(|(catch_up, _)| catch_up.due() <= now) else {
            return;
        };
        self.catch_up = catch_up.step(now).map(|waiting_bytes| {
            let portion_bytes = self.queued_bytes().saturating_sub(waiting_bytes);
            (catch_up, self.stream_bytes + portion_bytes as u64)
        });
    }

    /// When the next portion of a backlog is due.
    pub(crate) fn catch_up_due(&self) -> Option<Instant> {
        self.catch_up.map(|(catch_up, _)| catch_up.due())
    }

    /// Index in `inline` up to which the present connection may send.
    fn sendable_end(&self) -> usize {
        self.fence.as_ref().map_or(self.inline.len(), |fence| fence.at)
    }

    /// Takes note of bytes that the reactor sent from [`Outbox::unsent_front`].
    pub(crate) fn unblocked(&mut self, sent_bytes: usize) {
        self.blocked = false;
        self.advance(sent_bytes);
    }

    /// Hands the kernel all that it takes.
    pub(crate) fn send(&mut self) -> Sent {
        if let Some(error) = self.failed.take() {
            return Sent::Failed(error);
        }
        let Some(sender) = self.sender.take() else { return Sent::All };
        let outcome = loop {
            let bytes = self.unsent_front();
            let is_all = bytes.is_empty();
            let sent = if is_all {
                match sender.flush() {
                    Ok(()) => break Sent::All,
                    Err(error) => Err(error),
                }
            } else if self.slices.is_empty() || self.catch_up.is_some() {
                sender.send(bytes)
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_PER_SEND];
                let count = self.gather(&mut slices);
                sender.send_vectored(&slices[..count])
            };
            self.totals.sends += u64::from(!is_all);
            match sent {
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    self.compact();
                    break Sent::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Kept as well as returned: the caller may be a publish, which does not look.
                    self.failed = Some(io::Error::new(error.kind(), error.to_string()));
                    break Sent::Failed(error);
                }
            }
        };
        self.sender = Some(sender);
        outcome
    }

    fn gather<'a>(&'a self, out: &mut [IoSlice<'a>; SLICES_PER_SEND]) -> usize {
        let mut count = 0;
        let mut at = self.head;
        let end = self.sendable_end();
        // The last two bytes of its message stand behind a slice and before the fence.
        for slice in self.slices.iter().take_while(|slice| slice.at < end) {
            if count + 2 > SLICES_PER_SEND {
                return count;
            }
            if slice.at > at {
                out[count] = IoSlice::new(&self.inline[at..slice.at]);
                count += 1;
                at = slice.at;
            }
            out[count] = IoSlice::new(&slice.bytes[slice.sent..]);
            count += 1;
        }
        if count < SLICES_PER_SEND && at < end {
            out[count] = IoSlice::new(&self.inline[at..end]);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut sent: usize) {
        self.stream_bytes += sent as u64;
        while sent > 0 {
            let inline_end = self.slices.front().map_or(self.inline.len(), |slice| slice.at);
            let part = sent.min(inline_end - self.head);
            self.head += part;
            sent -= part;
            if sent == 0 {
                break;
            }
            let Some(slice) = self.slices.front_mut() else { break };
            let part = sent.min(slice.bytes.len() - slice.sent);
            slice.sent += part;
            self.slice_bytes_unsent -= part;
            sent -= part;
            if slice.sent == slice.bytes.len() {
                self.slices.pop_front();
            }
        }
        if self.head == self.inline.len() && self.slices.is_empty() {
            self.inline.clear();
            self.head = 0;
            self.checkpoints.clear();
            self.checkpoint_due = 0;
            if let Some(fence) = &mut self.fence {
                fence.at = 0;
            }
        }
    }

    #[inline]
    fn begin_operation(&mut self) {
        if self.inline.len() >= self.checkpoint_due {
            self.checkpoint(0);
        }
    }

    fn checkpoint(&mut self, slice_bytes: usize) {
        let at = self.inline.len();
        self.checkpoints.push_back(Checkpoint { at, appended: self.appended, slice_bytes });
        self.checkpoint_due = at + CHECKPOINT_BYTES;
    }

    /// Cuts sent bytes off the front, at a checkpoint.
    fn compact(&mut self) {
        if self.head < COMPACT_BYTES || self.head < self.inline.len() / 2 {
            return;
        }
        while self.checkpoints.get(1).is_some_and(|next| next.at <= self.head) {
            self.checkpoints.pop_front();
        }
        let cut = self.checkpoints.front().map_or(0, |checkpoint| checkpoint.at);
        self.inline.drain(..cut);
        self.head -= cut;
        self.checkpoint_due = self.checkpoint_due.saturating_sub(cut);
        for checkpoint in &mut self.checkpoints {
            checkpoint.at -= cut;
        }
        for slice in &mut self.slices {
            slice.at -= cut;
        }
        if let Some(fence) = &mut self.fence {
            fence.at -= cut;
        }
    }

    /// Index of the first operation of which no byte was sent, and the messages before it.
    fn first_unsent(&self) -> (usize, u64) {
        let passed = self.checkpoints.partition_point(|checkpoint| checkpoint.at <= self.head);
        let Some(start) = passed.checked_sub(1).and_then(|last| self.checkpoints.get(last)) else {
            return (0, self.appended);
        };
        let (mut at, mut messages, mut slice_bytes) = (start.at, start.appended, start.slice_bytes);
        while at < self.head {
            let Some(operation) = next_client_operation(&self.inline[at..]) else { break };
            at += operation.line_bytes + operation.body_bytes - slice_bytes;
            slice_bytes = 0;
            messages += u64::from(operation.kind == ClientOperationKind::Publish);
        }
        (at, messages)
    }

    /// Makes the buffer anew: `ahead`, then every message of which no byte was sent and whose payload
    /// is within the limit. Control operations go, since a new connection has its own, but for those from
    /// `controls_from` on. Returns the messages left out for their size.
    fn rebuild(
        &mut self,
        ahead: &[u8],
        payload_bytes_max: Option<usize>,
        controls_from: Option<usize>,
    ) -> u64 {
        let (mut at, sent) = self.first_unsent();
        let unsent = self.appended - sent;
        let old = std::mem::take(&mut self.inline);
        let mut slices = std::mem::take(&mut self.slices);
        // One may be left of a message that was sent in part.
        slices.retain(|slice| slice.at > at);
        self.reset_buffer();
        if !ahead.is_empty() {
            self.control().extend_from_slice(ahead);
        }
        let mut left_out = 0;
        while let Some(operation) = next_client_operation(&old[at..]) {
            let whole = operation.line_bytes + operation.body_bytes;
            // A slice belongs to the operation if it stands before that one's last two bytes.
            let slice = match slices.front() {
                Some(slice) if slice.at > at && slice.at + slice.bytes.len() <= at + whole => {
                    slices.pop_front()
                }
                _ => None,
            };
            let inline_bytes = whole - slice.as_ref().map_or(0, |slice| slice.bytes.len());
            let bytes = &old[at..at + inline_bytes];
            let is_kept = controls_from.is_some_and(|from| at >= from);
            at += inline_bytes;
            if operation.kind != ClientOperationKind::Publish {
                if is_kept {
                    self.control().extend_from_slice(bytes);
                }
                continue;
            }
            if payload_bytes_max.is_some_and(|max| operation.body_bytes - 2 > max) {
                left_out += 1;
                continue;
            }
            match slice {
                Some(slice) => {
                    self.checkpoint(slice.bytes.len());
                    self.slice_bytes_unsent += slice.bytes.len();
                    let at = self.inline.len() + inline_bytes - 2;
                    self.slices.push_back(Slice { at, bytes: slice.bytes, sent: 0 });
                    self.inline.extend_from_slice(bytes);
                    self.checkpoint_due = 0;
                }
                None => {
                    self.begin_operation();
                    self.inline.extend_from_slice(bytes);
                }
            }
            self.appended += 1;
        }
        debug_assert_eq!(self.appended + left_out, unsent);
        left_out
    }

    fn reset_buffer(&mut self) {
        self.inline = Vec::new();
        self.head = 0;
        self.slices.clear();
        self.slice_bytes_unsent = 0;
        self.checkpoints.clear();
        self.checkpoint_due = 0;
        self.marks.clear();
        self.appended = 0;
        self.processed = 0;
        self.marked = 0;
        self.stream_bytes = 0;
        self.marked_stream_bytes = 0;
        self.catch_up = None;
        self.fence = None;
    }
}

#[cfg(test)]
mod tests;
