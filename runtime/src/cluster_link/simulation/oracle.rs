//! What really was published, written, received and told; and the first thing that is not as it must be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::plan::Micros;
use crate::cluster_link::outbox::Totals;

/// What became of a message of ours, as its link counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not accepted yet, or not ours.
    None,
    Pending,
    Processed,
    InDoubt,
    Discarded,
}

/// A message and its way.
#[derive(Debug)]
pub(super) struct Published {
    /// Whose it is; `None`: another client's.
    pub(super) link: Option<usize>,
    pub(super) subject: Vec<u8>,
    pub(super) reply: bool,
    pub(super) headers: bool,
    pub(super) payload_bytes: usize,
    pub(super) at: Micros,
    /// Its place among those that the link accepted.
    pub(super) sequence: u64,
    pub(super) fate: Fate,
    /// The connection that it was written to as a whole.
    pub(super) written_on: Option<usize>,
    pub(super) is_received: bool,
}

impl Published {
    /// What counts against a server's limit.
    pub(super) fn total_bytes(&self) -> usize {
        self.payload_bytes + if self.headers { HEADERS.len() } else { 0 }
    }
}

/// The headers of messages that have some.
pub(super) const HEADERS: &[u8] = b"NATS/1.0\r\nA: b\r\n\r\n";
/// What servers that take less than others take.
pub(super) const SERVER_LIMITS: [usize; 3] = [60, 500, 4000];
/// The least payload: the message's number.
pub(super) const NUMBER_BYTES: usize = 10;

/// What a link has been given, and what it said of it.
#[derive(Debug, Default)]
pub(super) struct Account {
    accepted: u64,
    pub(super) rejected: u64,
    /// Accepted messages without a fate, in order.
    unsettled: VecDeque<u64>,
    told: Totals,
    /// Messages that came over more than one connection: of each SUB.
    twice: BTreeSet<(u64, u64)>,
}

/// The truth, and what was found to differ from it.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The first invariant that did not hold.
    pub(super) failure: Option<String>,
    pub(super) is_told: bool,
    pub(super) now: Micros,
    /// Sum of all that happened, to compare two runs.
    pub(super) trace: u64,
    pub(super) counts: Counts,
    pub(super) messages: Vec<Published>,
    pub(super) accounts: Vec<Account>,
    /// What each queue group has got.
    grouped: BTreeSet<(Vec<u8>, u64)>,
    /// What each receiver gets next over each connection: a place in what the server sent for its SUB. What two
    /// connections of a move bring can be told apart in more than one way, of which all are kept.
    cursors: BTreeMap<usize, BTreeSet<BTreeMap<usize, usize>>>,
    /// Receivers that joined a SUB which a connection had already: from where on they get it is not known.
    joined: BTreeSet<(usize, usize)>,
}

/// How much runs went through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) steps: u64,
    pub(super) published: u64,
    pub(super) processed: u64,
    pub(super) in_doubt: u64,
    pub(super) discarded: u64,
    pub(super) delivered: u64,
    pub(super) twice: u64,
    pub(super) requests: u64,
    pub(super) connects: u64,
    pub(super) disconnects: u64,
    pub(super) moves: u64,
    pub(super) flushes: u64,
    pub(super) micros: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.published += other.published;
        self.processed += other.processed;
        self.in_doubt += other.in_doubt;
        self.discarded += other.discarded;
        self.delivered += other.delivered;
        self.twice += other.twice;
        self.requests += other.requests;
        self.connects += other.connects;
        self.disconnects += other.disconnects;
        self.moves += other.moves;
        self.flushes += other.flushes;
        self.micros += other.micros;
    }
}

impl Oracle {
    pub(super) fn new(links: usize, is_told: bool) -> Self {
        let accounts = (0..links).map(|_| Account::default()).collect();
        Self { accounts, is_told, ..Self::default() }
    }

    /// Notes that something is not as it must be.
    pub(super) fn fail(&mut self, failure: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(failure());
        }
    }

    /// Requires something.
    pub(super) fn require(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.fail(failure);
        }
    }

    /// Prints what happens, if it is to be.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>10.3} ms  {}", self.now as f64 / 1000.0, what());
        }
    }

    /// Adds to the trace.
    pub(super) fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    /// A message that nobody has published yet; its number.
    pub(super) fn message(&mut self, link: Option<usize>, subject: &[u8], payload_bytes: usize) -> u64 {
        let payload_bytes = payload_bytes.max(NUMBER_BYTES);
        self.messages.push(Published {
            link,
            subject: subject.to_vec(),
            reply: false,
            headers: false,
            payload_bytes,
            at: self.now,
            sequence: 0,
            fate: Fate::None,
            written_on: None,
            is_received: false,
        });
        self.messages.len() as u64 - 1
    }

    /// What it carries: its number, and bytes that follow from it.
    pub(super) fn payload(&self, number: u64) -> Vec<u8> {
        let length = self.messages[number as usize].payload_bytes;
        let mut payload = format!("{number:0NUMBER_BYTES$}").into_bytes();
        payload.extend((NUMBER_BYTES..length).map(|index| (index as u64 * 31 + number) as u8));
        payload
    }

    /// Whose payload this is. It must be whole.
    pub(super) fn number_of(&mut self, payload: &[u8]) -> Option<u64> {
        let number: Option<u64> =
            payload.get(..NUMBER_BYTES).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let known = number.filter(|number| *number < self.messages.len() as u64);
        let is_whole = known.is_some_and(|number| self.payload(number) == payload);
        self.require(is_whole, || format!("message {number:?} of {} bytes is not as it was", payload.len()));
        known.filter(|_| is_whole)
    }

    /// The link has accepted a message.
    pub(super) fn accepted(&mut self, number: u64) {
        let message = &mut self.messages[number as usize];
        let Some(link) = message.link else { return };
        let account = &mut self.accounts[link];
        message.sequence = account.accepted;
        message.fate = Fate::Pending;
        account.accepted += 1;
        account.unsettled.push_back(number);
        self.counts.published += 1;
    }

    /// Those that have no fate yet.
    pub(super) fn unsettled(&self, link: usize) -> Vec<u64> {
        self.accounts[link].unsettled.iter().copied().collect()
    }

    /// A message was written to a connection as a whole.
    pub(super) fn written(&mut self, number: u64, link: usize, connection: usize) {
        let message = &mut self.messages[number as usize];
        let before = message.written_on.replace(connection);
        let (fate, owner) = (message.fate, message.link);
        self.require(owner == Some(link), || format!("message {number} is written by link {link}"));
        self.require(before.is_none(), || {
            format!("message {number} is written to connection {connection}, and was to {before:?}")
        });
        self.require(fate == Fate::Pending, || format!("message {number} is written, and was {fate:?}"));
    }

    /// A server has got a message.
    pub(super) fn received(&mut self, number: u64, connection: usize) {
        let message = &mut self.messages[number as usize];
        let again = std::mem::replace(&mut message.is_received, true);
        let written_on = message.written_on;
        self.require(!again, || format!("message {number} was received twice"));
        self.require(written_on == Some(connection), || format!("message {number} came from nowhere"));
    }

    /// Compares what a link says of all its messages with what is known of them. `payload_bytes_max`: what the
    /// connection takes that is current. `is_connected`: there is one.
    pub(super) fn settle(
        &mut self,
        link: usize,
        totals: Totals,
        payload_bytes_max: usize,
        is_connected: bool,
    ) {
        let told = std::mem::replace(&mut self.accounts[link].told, totals);
        let account = &self.accounts[link];
        let (accepted, rejected) = (account.accepted, account.rejected);
        self.require((totals.accepted, totals.rejected) == (accepted, rejected), || {
            format!("link {link} counts {totals:?}, of {accepted} accepted and {rejected} rejected messages")
        });
        self.take_fates(link, totals.processed - told.processed, Fate::Processed);
        let in_doubt = totals.in_doubt - told.in_doubt;
        let oversized = totals.discarded_oversized - told.discarded_oversized;
        // A connection is opened and cut at once, or it is cut and another one takes over at once.
        if is_connected {
            self.take_fates(link, in_doubt, Fate::InDoubt);
        }
        let is_right = oversized == 0 || self.discard_oversized(link, oversized, payload_bytes_max);
        self.require(is_right, || {
            format!("{oversized} messages are discarded for their size, and are no such")
        });
        if !is_connected {
            self.take_fates(link, in_doubt, Fate::InDoubt);
        }
        let unsent = totals.discarded_unsent - told.discarded_unsent;
        if unsent > 0 {
            let left = std::mem::take(&mut self.accounts[link].unsettled);
            self.require(left.len() as u64 == unsent, || {
                format!("{unsent} messages are discarded unsent, {} were left", left.len())
            });
            for number in left {
                self.messages[number as usize].fate = Fate::Discarded;
            }
        }
        self.counts.processed += totals.processed - told.processed;
        self.counts.in_doubt += totals.in_doubt - told.in_doubt;
        self.counts.discarded += oversized + unsent;
    }

    /// The next so many messages of a link have this fate.
    fn take_fates(&mut self, link: usize, count: u64, fate: Fate) {
        for _ in 0..count {
            let Some(number) = self.accounts[link].unsettled.pop_front() else {
                return self.fail(|| format!("link {link} counts one more {fate:?} than it has"));
            };
            self.messages[number as usize].fate = fate;
            let is_received = self.messages[number as usize].is_received;
            self.require(fate != Fate::Processed || is_received, || {
                format!("message {number} is told to be processed, and no server has it")
            });
        }
    }

    /// So many queued messages were too large: those beyond what the connection takes, or took when it was opened and
    /// its server had not taken that back yet. Whether there are as many.
    fn discard_oversized(&mut self, link: usize, count: u64, payload_bytes_max: usize) -> bool {
        let messages = &mut self.messages;
        let unsettled = &mut self.accounts[link].unsettled;
        let is_over = |number: u64, limit: usize| messages[number as usize].total_bytes() > limit;
        let beyond = |limit: usize| unsettled.iter().filter(|number| is_over(**number, limit)).count() as u64;
        let limits = std::iter::once(payload_bytes_max).chain(SERVER_LIMITS);
        let Some(limit) = limits.into_iter().find(|limit| beyond(*limit) == count) else { return false };
        let (over, kept): (Vec<u64>, Vec<u64>) =
            unsettled.iter().partition(|number| is_over(**number, limit));
        *unsettled = kept.into();
        for number in over {
            messages[number as usize].fate = Fate::Discarded;
        }
        true
    }

    /// A receiver got a message. `sent` is what servers have sent for its SUB, by connection, the newest first.
    pub(super) fn delivered<'a>(
        &mut self,
        receiver: usize,
        number: u64,
        sent: impl Iterator<Item = (usize, &'a [u64])>,
    ) {
        self.counts.delivered += 1;
        self.mix(number);
        let before = self.cursors.remove(&receiver).unwrap_or_else(|| BTreeSet::from([BTreeMap::new()]));
        let mut after = BTreeSet::new();
        for (connection, sent) in sent {
            if self.joined.contains(&(receiver, connection)) {
                if sent.contains(&number) {
                    after.extend(before.iter().cloned());
                }
                continue;
            }
            for cursors in &before {
                let next = cursors.get(&connection).copied().unwrap_or(0);
                if sent.get(next) == Some(&number) {
                    let mut cursors = cursors.clone();
                    cursors.insert(connection, next + 1);
                    after.insert(cursors);
                }
            }
        }
        if !after.is_empty() {
            self.cursors.insert(receiver, after);
            return;
        }
        self.fail(|| format!("receiver {receiver} got message {number} out of order, or it was not sent"));
    }

    /// A receiver has joined a SUB that this connection has already.
    pub(super) fn joined(&mut self, receiver: usize, connection: usize) {
        self.joined.insert((receiver, connection));
    }

    /// A receiver got a message again.
    pub(super) fn delivered_again(&mut self, link: usize, sid: u64, number: u64) {
        self.accounts[link].twice.insert((sid, number));
    }

    /// Possible duplicates must have been counted.
    pub(super) fn check_overlap(&mut self, link: usize, overlap: u64) {
        let twice = self.accounts[link].twice.len() as u64;
        self.require(twice <= overlap, || {
            format!("{twice} messages came twice to link {link}, which counts {overlap}")
        });
    }

    pub(super) fn twice(&self) -> u64 {
        self.accounts.iter().map(|account| account.twice.len() as u64).sum()
    }

    /// A queue group got a message: no member may get it again.
    pub(super) fn delivered_to_group(&mut self, group: Vec<u8>, number: u64) {
        let shown = String::from_utf8_lossy(&group).into_owned();
        let is_new = self.grouped.insert((group, number));
        self.require(is_new, || format!("queue group {shown} got message {number} twice"));
    }
}
