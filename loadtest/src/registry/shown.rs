//! What a node lists, made comparable: how many services of each node, and a sum of their hashes.

use croupier::Service;
use xxhash_rust::xxh3::xxh3_64;

use super::plan::{Item, POOL, last_written, node_name, node_number, pool_after, value_of};
use super::protocol::Shown;

/// The key of the metadata that names the change which wrote a service.
pub(crate) const CHANGE_KEY: &str = "change";

/// Makes the metadata of a service 64 bytes, with the change's number and the lengths of both pairs.
pub(crate) const FILLER: (&str, &str) = ("filler", "0123456789abcdef0123456789abcdef");

impl Shown {
    fn nothing(node: usize, nodes: usize) -> Self {
        Self { node, services: vec![0; nodes + 1], fingerprint: 0 }
    }

    /// What `services` are to node `node`, one of `nodes`.
    pub(crate) fn of_services<'a>(
        node: usize,
        nodes: usize,
        services: impl Iterator<Item = &'a Service>,
    ) -> Self {
        let mut shown = Self::nothing(node, nodes);
        for service in services {
            let number = node_number(service.node()).filter(|number| *number < nodes);
            shown.services[number.unwrap_or(nodes)] += 1;
            let value = service.meta(CHANGE_KEY).unwrap_or_default();
            shown.add(service.node(), service.kind(), service.id(), value);
        }
        shown
    }

    /// What node `node` has to list when each node has made the changes that `made` says.
    pub(crate) fn expected(node: usize, entries: u64, made: &[u64]) -> Self {
        let mut shown = Self::nothing(node, made.len());
        for (number, made) in made.iter().enumerate() {
            let name = node_name(number);
            let of_entries = (0..entries).map(|entry| (Item::Entry(entry), None));
            let of_pool = pool_after(*made).map(|serial| (Item::Pool(serial), last_written(serial, *made)));
            for (item, written) in of_entries.chain(of_pool) {
                shown.services[number] += 1;
                shown.add(&name, item.kind().as_bytes(), item.id().as_bytes(), &value_of(written));
            }
        }
        shown
    }

    fn add(&mut self, node: &str, kind: &[u8], id: &[u8], value: &str) {
        let mut text = Vec::with_capacity(96);
        for part in [node.as_bytes(), kind, id, value.as_bytes()] {
            text.extend_from_slice(part);
            text.push(0);
        }
        self.fingerprint = self.fingerprint.wrapping_add(xxh3_64(&text));
    }
}

/// Services of one node while it makes no change.
pub(crate) fn services_of_node(entries: u64) -> u64 {
    entries + POOL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_depends_on_every_node_and_every_change() {
        let base = Shown::expected(0, 5, &[0, 0]);
        assert_eq!(base.services, [5 + POOL, 5 + POOL, 0]);
        assert_eq!(base.services[0], services_of_node(5));
        // One more service, one other value, one service less.
        for made in [[1, 0], [2, 0], [3, 0], [0, 3]] {
            assert_ne!(Shown::expected(0, 5, &made).fingerprint, base.fingerprint, "{made:?}");
        }
        assert_ne!(Shown::expected(0, 5, &[3, 0]), Shown::expected(0, 5, &[0, 3]));
        assert_eq!(Shown::expected(1, 5, &[3, 1]).services, [5 + POOL, 6 + POOL, 0]);
    }
}
