//! What happens to the links while a plan lasts.

use super::{
    oracle::SERVER_LIMITS,
    plan::{Act, MS, Micros, SECOND},
    world::{Happening, World},
};
use crate::transport::simulated::End;

impl World {
    /// One act of the plan, by weight.
    pub(super) fn act(&mut self) {
        let total: u32 = self.plan.acts.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.u32(..total);
        let chosen = self.plan.acts.iter().find(|(_, weight)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        let Some((act, _)) = chosen.copied() else { return };
        let link = self.random.usize(..self.links.len());
        self.oracle().mix(act as u64);
        if !matches!(act, Act::Publish | Act::Outside) {
            self.oracle().tell(|| format!("{act:?}"));
        }
        match act {
            Act::Publish => {
                let burst = if self.random.u8(..10) == 0 { 60 } else { 6 };
                for _ in 0..self.random.usize(1..=burst) {
                    self.publish_one(link);
                }
            }
            Act::PublishWait => self.publish_and_wait(link),
            Act::Subscribe => self.subscribe(link),
            Act::Unsubscribe => self.unsubscribe(),
            Act::UnsubscribeAfter => self.unsubscribe_after(),
            Act::Request => self.request(link),
            Act::RequestMany => self.request_many(link),
            Act::GiveUp => self.give_up(),
            Act::Flush => self.flush(link),
            Act::Renew => self.links[link].renew(),
            Act::Limits => self.change_limits(link),
            Act::Outside => self.publish_outside(),
            Act::End => self.links[link].close(),
            Act::Reset => self.cut_any(End::Reset),
            Act::Close => self.cut_any(End::Orderly),
            Act::Stall => self.stall(),
            Act::Garbage => self.garble(),
            Act::Complain | Act::Fatal => self.complain(act == Act::Fatal),
            Act::Kill | Act::Pause | Act::Dark | Act::LameDuck | Act::Info | Act::Shrink | Act::Refuse => {
                let server = self.random.usize(..self.servers.len());
                self.act_on(act, server);
            }
        }
    }

    fn act_on(&mut self, act: Act, server: usize) {
        if !self.is_well(server) {
            return;
        }
        let while_long = self.now() + self.some_time(2 * SECOND);
        match act {
            Act::Kill => self.kill(server, true),
            Act::Pause => {
                self.servers[server].is_paused = true;
                self.at(while_long, Happening::Heal { server });
            }
            Act::Dark => {
                self.servers[server].is_dark = true;
                self.at(while_long, Happening::Heal { server });
            }
            Act::LameDuck => self.go_lame(server),
            Act::Shrink => {
                self.servers[server].max_payload =
                    SERVER_LIMITS.get(self.random.usize(..4)).copied().unwrap_or(1 << 20);
                self.tell_all(server);
            }
            Act::Info => self.tell_all(server),
            // One who is always let in is left.
            _ if server > 0 => self.servers[server].refusals += self.random.u32(1..4),
            _ => {}
        }
    }

    /// Mostly short, sometimes long.
    fn some_time(&mut self, most: Micros) -> Micros {
        let most = if self.random.bool() { most } else { most / 10 };
        self.random.u64(MS..=most)
    }

    fn any_open(&mut self) -> Option<usize> {
        let open: Vec<usize> = self.live.iter().copied().filter(|peer| self.peers[*peer].is_open).collect();
        self.random.choice(open)
    }

    fn cut_any(&mut self, end: End) {
        if let Some(peer) = self.any_open() {
            self.oracle().tell(|| format!("connection {peer} is cut"));
            self.cut(peer, end);
        }
    }

    fn stall(&mut self) {
        let Some(peer) = self.any_open() else { return };
        let until = if self.random.bool() { Micros::MAX } else { self.now() + self.some_time(2 * SECOND) };
        let both = self.random.u8(..3);
        self.oracle().tell(|| format!("connection {peer} stalls until {until}, {both}"));
        if both != 0 {
            self.peers[peer].stalled_in = until;
        }
        if both != 1 {
            self.peers[peer].stalled_out = until;
        }
        self.peers[peer].was_stalled = true;
    }

    fn garble(&mut self) {
        let Some(peer) = self.any_open() else { return };
        let rubbish: &[u8] = match self.random.u8(..5) {
            0 => b"FOO\r\n",
            1 => b"MSG t.0 1 -1\r\n",
            2 => b"MSG t.0 1 2\r\nabcd",
            3 => b"INFO {\"max_payload\":\r\n",
            _ => b"MSG t.0 999999 2\r\nok\r\n+OK\r\n",
        };
        self.say(peer, rubbish);
    }

    fn complain(&mut self, is_fatal: bool) {
        let Some(peer) = self.any_open() else { return };
        if is_fatal {
            let text =
                ["Stale Connection", "maximum connections exceeded", "Slow Consumer"][self.random.usize(..3)];
            self.say_error(peer, text);
        } else {
            let text = [
                "-ERR 'Permissions Violation for Publish to \"t.0\"'\r\n",
                "-ERR 'Invalid Subject'\r\n",
                "-ERR 'Something that nobody has said before'\r\n",
                "-ERR\r\n",
            ][self.random.usize(..4)];
            self.say(peer, text.as_bytes());
        }
    }

    fn tell_all(&mut self, server: usize) {
        let clients = self.live.iter().copied();
        let clients =
            clients.filter(|peer| self.peers[*peer].server == server && self.peers[*peer].is_connected);
        for peer in clients.collect::<Vec<_>>() {
            self.say_info(peer, false);
        }
    }

    /// A server says that it goes away, gives its clients some time, and goes.
    fn go_lame(&mut self, server: usize) {
        let others = (0..self.servers.len()).filter(|other| *other != server);
        let is_alone =
            others.filter(|other| self.is_well(*other) && !self.servers[*other].is_lame).count() == 0;
        if self.servers[server].is_lame || (is_alone && self.plan.is_calm) {
            return;
        }
        self.servers[server].is_lame = true;
        self.tell_all(server);
        let grace = if self.plan.is_calm { 5 * SECOND } else { self.some_time(3 * SECOND) };
        self.at(self.now() + grace, Happening::Gone { server });
    }

    fn change_limits(&mut self, link: usize) {
        let mut limits = self.plan.configuration.limits.clone();
        limits.publish_buffer = self.random.usize(limits.publish_buffer / 2..=limits.publish_buffer);
        limits.max_payload = self.random.usize(limits.max_payload / 2..=limits.max_payload);
        self.node.limits.set(&limits);
        self.links[link].apply_limits(&limits);
    }
}
