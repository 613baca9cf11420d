//! The open link to each peer, as one shard hears of it.
//!
//! While two nodes dial each other at once, two links to one peer may be open for a moment. They live on different
//! shards, so what they tell may come in any order; the order in which the membership accepted them decides.

use std::collections::BTreeMap;

use croupier_registry::{LinkId, NodeKey};

/// Which of the accepted links of a node it is, counted by the membership.
pub(crate) type Acceptance = u64;

/// The open link to each peer.
#[derive(Default)]
pub(super) struct OpenLinks(BTreeMap<NodeKey, (Acceptance, LinkId)>);

/// What a link that has opened is to a shard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// The only one to its peer.
    First,
    /// It takes the place of an older one.
    Replaces,
    /// A later one is open already: this one is about to close.
    Late,
}

impl OpenLinks {
    pub(super) fn opened(&mut self, peer: NodeKey, link: LinkId, acceptance: Acceptance) -> Opened {
        match self.0.get(&peer) {
            Some((later, _)) if *later > acceptance => return Opened::Late,
            _ => {}
        }
        match self.0.insert(peer, (acceptance, link)) {
            Some(_) => Opened::Replaces,
            None => Opened::First,
        }
    }

    /// Whether it was the one that counts.
    pub(super) fn closed(&mut self, peer: NodeKey, link: LinkId) -> bool {
        let was_open = self.of(peer) == Some(link);
        if was_open {
            self.0.remove(&peer);
        }
        was_open
    }

    pub(super) fn of(&self, peer: NodeKey) -> Option<LinkId> {
        self.0.get(&peer).map(|(_, link)| *link)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeKey, LinkId)> {
        self.0.iter().map(|(peer, (_, link))| (*peer, *link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: LinkId = LinkId(8);
    const LATER: LinkId = LinkId(3);

    fn peer() -> NodeKey {
        NodeKey::of_name("peer")
    }

    #[test]
    fn of_two_links_the_one_that_was_accepted_later_stays_in_whatever_order_they_are_heard_of() {
        enum Heard {
            Opened(LinkId, Acceptance),
            Closed(LinkId),
        }
        use Heard::{Closed, Opened};
        // Each link is heard of in order, for all that it tells comes from one shard.
        for heard in [
            [Opened(OLDER, 1), Closed(OLDER), Opened(LATER, 2)],
            [Opened(OLDER, 1), Opened(LATER, 2), Closed(OLDER)],
            [Opened(LATER, 2), Opened(OLDER, 1), Closed(OLDER)],
        ] {
            let mut links = OpenLinks::default();
            for event in heard {
                match event {
                    Opened(link, acceptance) => _ = links.opened(peer(), link, acceptance),
                    Closed(link) => _ = links.closed(peer(), link),
                }
            }
            assert_eq!(links.of(peer()), Some(LATER));
            assert_eq!(links.iter().collect::<Vec<_>>(), [(peer(), LATER)]);
            assert!(links.closed(peer(), LATER));
            assert_eq!(links.of(peer()), None);
        }
    }

    #[test]
    fn what_opens_is_the_first_or_replaces_or_comes_late() {
        let mut links = OpenLinks::default();
        assert_eq!(links.opened(peer(), OLDER, 1), Opened::First);
        assert_eq!(links.opened(peer(), LATER, 2), Opened::Replaces);
        assert_eq!(links.opened(peer(), OLDER, 1), Opened::Late);
        assert!(!links.closed(peer(), OLDER));
        assert_eq!(links.opened(NodeKey::of_name("another"), OLDER, 1), Opened::First);
    }
}
