//! Who gets in: Hellos, stale epochs, and two live nodes of one name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fault::{self, Fault};
use crate::membership::graves::End;
use crate::membership::{LinkId, Member, Membership, MembershipOutput, NodeStanding, Notice};
use crate::wire::Hello;
use crate::wire::v1::{ByeReason, Frame};
use crate::{Epoch, MemberChange, NodeKey};

/// A Hello that waits until the node that it would replace has shown whether it lives.
#[derive(Debug)]
pub(super) struct Challenge {
    link: LinkId,
    dialled: bool,
    hello: Box<Hello>,
    /// The link of the old one, and the nonce of the Ping on it.
    old_link: LinkId,
    nonce: u64,
    pub(super) until: Instant,
}

impl Membership {
    /// Takes the Hello of a new link; `dialled` says whether this node opened it.
    pub fn handle_hello(&mut self, link: LinkId, hello: Hello, dialled: bool, now: Instant) {
        let key = hello.key();
        // A dial that led to its node is over, whatever the address was.
        self.dials.remove(&hello.address);
        if hello.cluster != self.config.cluster {
            return self.close(link, ByeReason::OtherCluster);
        }
        if key == self.me {
            return self.hello_of_own_name(link, &hello, now);
        }
        if self.conflict_until.is_some() {
            // The peer may have taken this node in already; with any other reason it would dial again and again.
            return self.close(link, ByeReason::Leaving);
        }
        let member = self.members.get(&key);
        let remembered = member
            .filter(|member| member.process.is_some())
            .map(|member| member.epoch)
            .max(self.graves.epoch_of(key));
        let rival = member
            .filter(|member| member.process.is_some_and(|process| process != hello.process))
            .and_then(|member| member.link);
        if let Some(old_link) = rival {
            return self.challenge(link, dialled, hello, old_link, now);
        }
        let is_stale = remembered.is_some_and(|epoch| hello.epoch < epoch);
        if (is_stale || self.graves.has_left(key, hello.epoch))
            && !fault::is_built_in(Fault::LowerEpochsAccepted)
        {
            return self.tell_stale(link, remembered.unwrap_or(hello.epoch));
        }
        let same_life = member.filter(|member| member.epoch == hello.epoch);
        let is_gone = |member: &&Member| member.process.is_some() && member.standing == NodeStanding::Down;
        let latest = same_life.filter(is_gone).map(|member| member.hello);
        if latest.or(self.graves.hello_of(key, hello.epoch)).is_some_and(|latest| hello.number < latest) {
            // It was slower than what was said after it. If the node lives, it begins again.
            return self.close(link, ByeReason::Duplicate);
        }
        if let Some(old_link) = same_life.and_then(|member| member.link) {
            // Two dials that crossed: both sides keep the one of the node with the lesser key.
            let ours_stays = self.me < key;
            let old_was_dialled = same_life.is_some_and(|member| member.dialled);
            if old_was_dialled != dialled && dialled != ours_stays {
                return self.close(link, ByeReason::Duplicate);
            }
            self.close(old_link, ByeReason::Duplicate);
        }
        self.admit(link, hello, dialled, now);
    }

    fn admit(&mut self, link: LinkId, hello: Hello, dialled: bool, now: Instant) {
        let key = hello.key();
        let name: Arc<str> = hello.name.as_str().into();
        let old = self.members.remove(&key);
        if let Some(old_link) = old
            .as_ref()
            .and_then(|old| old.link)
            .filter(|_| old.as_ref().is_some_and(|old| old.epoch != hello.epoch))
        {
            self.close(old_link, ByeReason::Duplicate);
        }
        let same_life = old.filter(|old| old.epoch == hello.epoch && old.standing != NodeStanding::Candidate);
        let counter = same_life.as_ref().map_or(0, |old| old.counter);
        let latest = same_life.as_ref().map_or(0, |old| old.hello);
        let short_links = same_life.as_ref().map_or(0, |old| old.short_links);
        self.graves.remove(key);
        self.links.insert(link, key);
        let member = Member {
            name: Arc::clone(&name),
            address: hello.address,
            epoch: hello.epoch,
            first_epoch: hello.first_epoch,
            process: Some(hello.process),
            hello: hello.number.max(latest),
            standing: NodeStanding::Up,
            link: Some(link),
            linked_at: now,
            short_links,
            redials: 0,
            dialled,
            counter,
            heard_at: now,
            deadline: None,
            dial_due: now,
            confirmation: None,
        };
        self.members.insert(key, member);
        self.graves.cluster_has(self.members.len() + 1);
        self.changed(MemberChange::Up { name, epoch: hello.epoch, advertised: hello.versions });
        self.outputs.push_back(MembershipOutput::Accept { link, peer: key });
        self.send_records(link);
    }

    /// A peer remembers a higher epoch of this node than it has: its clock was set back.
    pub(super) fn handle_stale_epoch(&mut self, link: LinkId, remembered: Epoch, now: Instant) {
        if !self.links.contains_key(&link) {
            self.close(link, ByeReason::Duplicate);
        }
        if remembered < self.epoch || remembered.next() == remembered {
            return;
        }
        // The upper half, since the lower bits of the nonces travel.
        self.epoch = remembered.after((self.chance.next() >> 32) as u32);
        self.changed(MemberChange::Renewed(self.epoch));
        self.outputs.push_back(MembershipOutput::Notice(Notice::EpochWasStale { epoch: self.epoch }));
        self.reconnect_all(now, ByeReason::Duplicate);
        self.seeds_due = now;
    }

    /// Another live node of this name was there first.
    pub(super) fn handle_name_conflict(&mut self, now: Instant) {
        if self.conflict_until.is_none() {
            self.outputs.push_back(MembershipOutput::Notice(Notice::NameConflict));
        }
        self.conflict_until = Some(now + CONFLICT_INTERVAL);
        // To the others this one leaves; theirs is the other one.
        self.reconnect_all(now, ByeReason::Leaving);
    }

    /// Closes every link; those who were Up stay so here until their deadlines, unless they come back.
    fn reconnect_all(&mut self, now: Instant, reason: ByeReason) {
        for (link, key) in std::mem::take(&mut self.links) {
            self.outputs.push_back(MembershipOutput::Close { link, reason });
            if let Some(member) = self.members.get_mut(&key).filter(|member| member.link == Some(link)) {
                member.link = None;
                member.dial_due = now;
            }
        }
    }

    fn hello_of_own_name(&mut self, link: LinkId, hello: &Hello, now: Instant) {
        if hello.process == self.process {
            return self.close(link, ByeReason::Duplicate);
        }
        // The other one gets the same Hellos the other way round, and decides alike.
        if (hello.first_epoch, hello.process) < (self.first_epoch, self.process) {
            self.close(link, ByeReason::Duplicate);
            self.handle_name_conflict(now);
        } else {
            self.close(link, ByeReason::NameConflict);
        }
    }

    /// The peer closes the link once it has heard; if it never does, the link was not opened in time. To close it
    /// here would lose what the peer says at this very moment: that this node's own epoch is stale, too.
    fn tell_stale(&mut self, link: LinkId, remembered: Epoch) {
        self.stale_hellos += 1;
        if !fault::is_built_in(Fault::NoStaleEpoch) {
            self.send(link, Frame::StaleEpoch { remembered });
        }
    }

    // Two live nodes of one name.

    fn challenge(&mut self, link: LinkId, dialled: bool, hello: Hello, old_link: LinkId, now: Instant) {
        if self.challenges.len() >= CHALLENGES_MAX {
            return self.close(link, ByeReason::Duplicate);
        }
        let nonce = self.chance.next();
        self.send(old_link, Frame::Ping { nonce });
        let (hello, until) = (Box::new(hello), now + CHALLENGE_TIME);
        self.challenges.push(Challenge { link, dialled, hello, old_link, nonce, until });
    }

    /// The old one lives. Of the two, the one that began first stays.
    pub(super) fn challenge_answered(&mut self, peer: NodeKey, nonce: u64) {
        let answered = |challenge: &Challenge| challenge.nonce == nonce && challenge.hello.key() == peer;
        let Some(at) = self.challenges.iter().position(answered) else { return };
        let challenge = self.challenges.swap_remove(at);
        let Some(old) = self.members.get(&peer) else { return };
        let (newer, hello) = (challenge.link, &challenge.hello);
        if old.process.is_some_and(|process| (old.first_epoch, process) < (hello.first_epoch, hello.process))
        {
            return self.close(newer, ByeReason::NameConflict);
        }
        let (old_link, old_epoch) = (challenge.old_link, old.epoch);
        if hello.epoch < old_epoch {
            // It was there first; but does it live, or was its Hello only slow? If it takes a higher epoch, it does.
            return self.tell_stale(newer, old_epoch);
        }
        self.close(old_link, ByeReason::NameConflict);
        self.bury(peer, End::Left);
        self.close(newer, ByeReason::Duplicate);
    }

    pub(super) fn challenge_link_closed(&mut self, link: LinkId, now: Instant) {
        self.challenges.retain(|challenge| challenge.link != link);
        let mut is_decided = false;
        for challenge in self.challenges.iter_mut().filter(|challenge| challenge.old_link == link) {
            challenge.until = now;
            is_decided = true;
        }
        if is_decided {
            let old = self.links.remove(&link).and_then(|key| self.members.get_mut(&key));
            if let Some(member) = old {
                member.link = None;
            }
            self.decide_challenges(now);
        }
    }

    /// Where the old one kept silent, the new one takes its place.
    pub(super) fn decide_challenges(&mut self, now: Instant) {
        while let Some(at) = self.challenges.iter().position(|challenge| now >= challenge.until) {
            let challenge = self.challenges.swap_remove(at);
            let key = challenge.hello.key();
            if let Some(link) = self.members.get_mut(&key).and_then(|member| member.link.take()) {
                self.close(link, ByeReason::Duplicate);
            }
            self.handle_hello(challenge.link, *challenge.hello, challenge.dialled, now);
        }
    }

    /// Takes a node out of the members, and remembers its epoch.
    pub(super) fn bury(&mut self, key: NodeKey, end: End) {
        if let Some(member) = self.members.remove(&key) {
            if member.process.is_some() {
                self.graves.bury(key, member.epoch, end, member.hello);
            }
            self.changed(MemberChange::Dropped(key));
        }
    }
}

/// How long an old life has to answer before a new one takes its place.
const CHALLENGE_TIME: Duration = Duration::from_millis(500);
/// Most Hellos that wait for that.
const CHALLENGES_MAX: usize = 64;
/// How long a node waits that found its name taken.
const CONFLICT_INTERVAL: Duration = Duration::from_secs(10);
