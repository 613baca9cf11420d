//! Who is gone: silence, cut streams, and what others find.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::membership::graves::End;
use crate::membership::{LinkId, Member, Membership, MembershipOutput, NodeStanding, REDIAL_INTERVAL};
use crate::wire::v1::{ByeReason, Frame, Reach};
use crate::{MemberChange, NodeKey};

/// What was found of a node whose stream ended.
#[derive(Debug)]
pub(super) struct Confirmation {
    nonce: u64,
    refused_here: bool,
    refused_by: BTreeSet<NodeKey>,
}

/// A ping on behalf of somebody else.
#[derive(Debug)]
pub(super) struct Favour {
    asker: LinkId,
    asker_nonce: u64,
    target: NodeKey,
    nonce: u64,
    pub(super) until: Instant,
}

impl Membership {
    /// A stream ended: the node is suspected, dialled at once, and others are asked.
    pub(super) fn suspect_cut(&mut self, key: NodeKey, now: Instant) {
        self.suspect(key, now);
        let wait = REDIAL_INTERVAL + self.chance.up_to(REDIAL_INTERVAL);
        if let Some(member) = self.members.get_mut(&key) {
            let is_short = now.saturating_duration_since(member.linked_at) < REDIAL_INTERVAL;
            member.redials = 0;
            member.short_links = if is_short { member.short_links.saturating_add(1) } else { 0 };
            // Two that refuse each other for whatever reason must not do nothing else.
            member.dial_due = if member.short_links <= SHORT_LINKS_MAX { now } else { now + wait };
        }
        self.ask_others(key);
        self.dial(now);
        self.conclude(key, now);
    }

    /// This node's dial was refused: its host is there, and the node is not.
    pub(super) fn dial_refused(&mut self, key: NodeKey, now: Instant) {
        if let Some(confirmation) = self.members.get_mut(&key).and_then(|member| member.confirmation.as_mut())
        {
            confirmation.refused_here = true;
        }
        self.conclude(key, now);
    }

    pub(super) fn handle_ack(
        &mut self,
        from: NodeKey,
        nonce: u64,
        target: NodeKey,
        reach: Reach,
        now: Instant,
    ) {
        if target == from {
            self.challenge_answered(from, nonce);
            let done: Vec<Favour> = self.favours.extract_if(.., |favour| favour.nonce == nonce).collect();
            for favour in done {
                self.report(&favour, Reach::Answered);
            }
            return;
        }
        let confirmation = self.members.get_mut(&target).and_then(|member| member.confirmation.as_mut());
        let Some(confirmation) = confirmation.filter(|confirmation| confirmation.nonce == nonce) else {
            return;
        };
        match reach {
            Reach::Refused => {
                confirmation.refused_by.insert(from);
                self.conclude(target, now);
            }
            Reach::Answered => self.others_reach(target, now),
            Reach::Silent => {}
        }
    }

    /// A suspect lives, if not for this node: it is served and flagged, and asked for again before the time is over.
    fn others_reach(&mut self, key: NodeKey, now: Instant) {
        let deadline = now + self.suspicion_time();
        let suspect = self.members.get_mut(&key).filter(|member| member.standing == NodeStanding::Suspect);
        let Some(member) = suspect else { return };
        member.confirmation = None;
        member.deadline = Some(deadline);
        if let Some(link) = member.link.take() {
            // Silent for so long, and the node speaks to others: whatever this link was, a new one is better.
            member.dial_due = now;
            self.close(link, ByeReason::Duplicate);
            self.dial(now);
        }
    }

    /// Somebody asks whether a node is there.
    pub(super) fn handle_ping_req(&mut self, asker: LinkId, asker_nonce: u64, target: NodeKey, now: Instant) {
        let link = self.members.get(&target).and_then(|member| member.link);
        let nonce = self.chance.next();
        let favour = Favour { asker, asker_nonce, target, nonce, until: now + FAVOUR_TIME };
        match link {
            None => self.report(&favour, Reach::Refused),
            Some(_) if self.favours.len() >= FAVOURS_MAX => self.report(&favour, Reach::Silent),
            Some(link) => {
                self.send(link, Frame::Ping { nonce });
                self.favours.push(favour);
            }
        }
    }

    pub(super) fn favours_link_closed(&mut self, target: NodeKey) {
        let done: Vec<Favour> = self.favours.extract_if(.., |favour| favour.target == target).collect();
        for favour in done {
            self.report(&favour, Reach::Refused);
        }
    }

    pub(super) fn expire_favours(&mut self, now: Instant) {
        let done: Vec<Favour> = self.favours.extract_if(.., |favour| favour.until <= now).collect();
        for favour in done {
            self.report(&favour, Reach::Silent);
        }
    }

    fn report(&mut self, favour: &Favour, reach: Reach) {
        if self.links.contains_key(&favour.asker) {
            let (nonce, target) = (favour.asker_nonce, favour.target);
            self.send(favour.asker, Frame::Ack { nonce, target, reach });
        }
    }

    /// Suspects the silent, ends the suspects whose time is over, forgets the dead.
    pub(super) fn accuse(&mut self, now: Instant) {
        let suspect_after = self.suspect_after();
        let silent = |heard_at: Instant| now.saturating_duration_since(heard_at) >= suspect_after;
        let keys: Vec<NodeKey> = self.members.keys().copied().collect();
        for key in keys {
            let Some(member) = self.members.get(&key) else { continue };
            let is_over = member.deadline.is_some_and(|deadline| now >= deadline);
            let link = member.link;
            match member.standing {
                NodeStanding::Up if silent(member.heard_at) => {
                    self.suspect(key, now);
                    if let Some(link) = link {
                        let nonce = self.chance.next();
                        self.send(link, Frame::Ping { nonce });
                    }
                    self.ask_others(key);
                }
                NodeStanding::Suspect if is_over => self.node_down(key, now),
                NodeStanding::Suspect if self.ask_due(member).is_some_and(|due| now >= due) => {
                    self.ask_others(key);
                }
                NodeStanding::Down | NodeStanding::Candidate if is_over => self.bury(key, End::Forgotten),
                _ => {}
            }
        }
    }

    /// A call that comes late says that this node was stalled: time that it did not see counts for nobody.
    pub(super) fn excuse_own_lateness(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.beat_due);
        if late < STALL {
            return;
        }
        self.lateness = (self.lateness + LATENESS_PER_STALL).min(LATENESS_MAX);
        for member in self.members.values_mut() {
            member.heard_at = (member.heard_at + late).min(now);
            if member.standing == NodeStanding::Suspect {
                member.deadline = member.deadline.map(|deadline| deadline + late);
            }
        }
    }

    /// It says itself, or is found, to be gone: hidden at once.
    pub(super) fn node_down(&mut self, key: NodeKey, now: Instant) {
        let Some(member) = self.members.get_mut(&key) else { return };
        member.standing = NodeStanding::Down;
        member.deadline = Some(now + self.config.forget_after);
        member.confirmation = None;
        let link = member.link.take();
        self.changed(MemberChange::Down(key));
        if let Some(link) = link {
            self.close(link, ByeReason::Duplicate);
        }
    }

    /// It said Bye: dropped at once, and not dialled.
    pub(super) fn node_left(&mut self, key: NodeKey) {
        let link = self.members.get_mut(&key).and_then(|member| member.link.take());
        self.bury(key, End::Left);
        if let Some(link) = link {
            self.links.remove(&link);
            self.outputs.push_back(MembershipOutput::Close { link, reason: ByeReason::Leaving });
        }
    }

    pub(super) fn suspect_after(&self) -> Duration {
        self.config.suspect_after.max(4 * self.heartbeat()) * (1 + self.lateness)
    }

    pub(super) fn suspicion_time(&self) -> Duration {
        let nodes = (self.members.len() + 1) as f64;
        self.config.suspicion.mul_f64(nodes.log10().max(1.0)) * (1 + self.lateness)
    }

    /// When others are to be asked again for a suspect of which they had heard.
    pub(super) fn ask_due(&self, member: &Member) -> Option<Instant> {
        let waits = member.standing == NodeStanding::Suspect && member.confirmation.is_none();
        let deadline = member.deadline.filter(|_| waits)?;
        Some(deadline.checked_sub(self.suspicion_time() / 2).unwrap_or(deadline))
    }

    fn suspect(&mut self, key: NodeKey, now: Instant) {
        let time = self.suspicion_time();
        let Some(member) = self.members.get_mut(&key) else { return };
        if member.standing == NodeStanding::Up {
            member.standing = NodeStanding::Suspect;
            member.deadline = Some(now + time);
            self.changed(MemberChange::Suspect(key));
        }
    }

    fn ask_others(&mut self, key: NodeKey) {
        let nonce = self.chance.next();
        let Some(member) =
            self.members.get_mut(&key).filter(|member| member.standing == NodeStanding::Suspect)
        else {
            return;
        };
        member.confirmation = Some(Confirmation { nonce, refused_here: false, refused_by: BTreeSet::new() });
        let mut helpers = self.helpers(key);
        for _ in 0..HELPERS_MAX.min(helpers.len()) {
            let Some(link) = self.chance.pick(&helpers).copied() else { return };
            helpers.retain(|other| *other != link);
            self.send(link, Frame::PingReq { nonce, target: key });
        }
    }

    /// The links of the others that are Up.
    fn helpers(&self, key: NodeKey) -> Vec<LinkId> {
        let others = self.members.iter().filter(|(other, _)| **other != key);
        others.filter(|(_, member)| member.standing == NodeStanding::Up).filter_map(|(_, m)| m.link).collect()
    }

    /// Refused here, and by as many others as can be asked, up to two: it is Down.
    fn conclude(&mut self, key: NodeKey, now: Instant) {
        let others = self.helpers(key).len().min(CONFIRMATIONS);
        let confirmation = self.members.get(&key).and_then(|member| member.confirmation.as_ref());
        if confirmation.is_some_and(|found| found.refused_here && found.refused_by.len() >= others) {
            self.node_down(key, now);
        }
    }
}

/// Others that must find a node gone, too.
const CONFIRMATIONS: usize = 2;
/// After so many links in a row that ended soon, a node is not dialled at once.
pub(super) const SHORT_LINKS_MAX: u8 = 3;
/// Others that are asked.
const HELPERS_MAX: usize = 3;
/// How long a ping for somebody else may take.
const FAVOUR_TIME: Duration = Duration::from_millis(300);
/// Most such pings under way.
const FAVOURS_MAX: usize = 256;
/// Lateness that is a stall.
const STALL: Duration = Duration::from_millis(100);
/// Heartbeats in time that it takes to make up for a stall.
const LATENESS_PER_STALL: u32 = 2;
const LATENESS_MAX: u32 = 4;
