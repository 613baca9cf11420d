//! Two nodes that know each other, and what must be as it was after a stranger tried something.

use std::net::SocketAddr;

use croupier::{NodeStanding, RegistryConfig, RegistryStats, testing::LocalCluster};

use super::peer::{Peer, Shown, until_agreed};
use crate::support::{Permit, permit, wait_for};

/// The types that both nodes offer.
const KINDS: [&str; 3] = ["dealer", "cashier", "guard"];

/// The node that is attacked, and one that belongs there.
pub(super) struct Siege {
    victim: Peer,
    friend: Peer,
    shown: Shown,
    servers: LocalCluster,
    _permit: Permit,
}

/// What each kind of refusal has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) channel: u64,
    pub(super) hello_timeout: u64,
    pub(super) other_cluster: u64,
    pub(super) frame: u64,
    pub(super) violation: u64,
}

impl Refused {
    fn of(stats: &RegistryStats) -> Refused {
        Refused {
            channel: stats.refused_channel,
            hello_timeout: stats.refused_hello_timeout,
            other_cluster: stats.refused_other_cluster,
            frame: stats.refused_frame,
            violation: stats.refused_violation,
        }
    }

    fn plus(self, other: Refused) -> Refused {
        Refused {
            channel: self.channel + other.channel,
            hello_timeout: self.hello_timeout + other.hello_timeout,
            other_cluster: self.other_cluster + other.other_cluster,
            frame: self.frame + other.frame,
            violation: self.violation + other.violation,
        }
    }
}

impl Siege {
    /// Starts both on two shards each, with what `configure` makes of their registry.
    pub(super) fn begin(configure: impl Fn() -> RegistryConfig) -> Siege {
        let permit = permit(4);
        let servers = LocalCluster::start(1).unwrap();
        let victim = Peer::start(servers.builder(), "victim", 2, configure());
        let friend = Peer::start(servers.builder(), "friend", 2, configure().seed(victim.address()));
        for (kind, count) in KINDS.into_iter().zip([3, 5, 20]) {
            victim.offer(kind, 0..count);
            friend.offer(kind, 0..count);
            victim.until_shown(kind, "friend", count);
        }
        until_agreed(&[&victim, &friend], &KINDS);
        let shown = victim.shown(&KINDS);
        Siege { victim, friend, shown, servers, _permit: permit }
    }

    pub(super) fn servers(&self) -> &LocalCluster {
        &self.servers
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.victim.address()
    }

    pub(super) fn victim(&self) -> &Peer {
        &self.victim
    }

    /// Has the stranger try, and expects exactly these refusals, everything else as it was, and `opened` links
    /// that were open before they ended.
    pub(super) fn withstands<T>(
        &self,
        what: &str,
        expected: Refused,
        opened: u64,
        attack: impl FnOnce(SocketAddr) -> T,
    ) -> T {
        let before = self.victim.stats();
        let told = attack(self.address());
        let expected_now = Refused::of(&before).plus(expected);
        wait_for(&format!("the refusal of {what}"), || {
            let now = self.victim.stats();
            let has_closed = now.links_closed == before.links_closed + opened;
            (Refused::of(&now) == expected_now && has_closed).then_some(())
        });
        self.is_as_before(what);
        let now = self.victim.stats();
        assert_eq!(Refused::of(&now), expected_now, "{what}");
        assert_eq!(
            now.links_closed,
            before.links_closed + opened,
            "{what}: a link that belongs there closed"
        );
        assert_eq!(now.name_conflicts, before.name_conflicts, "{what}");
        told
    }

    /// Asserts that both nodes show what they did, and hold each other to be alive.
    pub(super) fn is_as_before(&self, what: &str) {
        assert_eq!(self.victim.shown(&KINDS), self.shown, "{what}");
        assert_eq!(self.friend.shown(&KINDS), self.shown, "{what}");
        assert_eq!(self.victim.standing("friend"), Some(NodeStanding::Up), "{what}");
        assert_eq!(self.friend.standing("victim"), Some(NodeStanding::Up), "{what}");
    }

    /// Shows that the registry still works, and ends it.
    pub(super) fn lifted(self) {
        self.friend.offer("afterwards", 0..7);
        self.victim.until_shown("afterwards", "friend", 7);
        self.friend.end();
        self.victim.until_standing("friend", None);
        self.victim.end();
    }
}
