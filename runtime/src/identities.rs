//! Under which configured cluster a server was seen, so that two of them are not the same one.

use std::collections::HashMap;

/// Marks of one cluster, at most. A server has another id after each restart, and may name any address: when more come,
/// what was seen before is forgotten, and seen again with what the servers say next.
pub(crate) const MARKS_PER_CLUSTER_MAX: usize = 1024;

/// What servers were known by, and the cluster that each mark was seen under first.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    clusters: HashMap<String, usize>,
}

impl Identities {
    /// A server of this cluster bears these marks, of which the first [`MARKS_PER_CLUSTER_MAX`] count. Returns the
    /// other cluster that one was seen under, and that mark.
    pub(crate) fn see(
        &mut self,
        cluster: usize,
        marks: impl IntoIterator<Item = String>,
    ) -> Result<(), (usize, String)> {
        let mut count = self.clusters.values().filter(|seen| **seen == cluster).count();
        for mark in marks.into_iter().take(MARKS_PER_CLUSTER_MAX) {
            match self.clusters.get(&mark) {
                Some(seen) if *seen == cluster => {}
                Some(seen) => return Err((*seen, mark)),
                None => {
                    if count == MARKS_PER_CLUSTER_MAX {
                        self.forget(cluster);
                        count = 0;
                    }
                    self.clusters.insert(mark, cluster);
                    count += 1;
                }
            }
        }
        Ok(())
    }

    /// Takes back what was seen of a cluster.
    pub(crate) fn forget(&mut self, cluster: usize) {
        self.clusters.retain(|_, seen| *seen != cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(numbers: std::ops::Range<usize>) -> impl Iterator<Item = String> {
        numbers.map(|number| format!("address {number}"))
    }

    #[test]
    fn a_server_of_two_clusters_is_found() {
        let mut identities = Identities::default();
        assert_eq!(identities.see(0, marks(0..3)), Ok(()));
        assert_eq!(identities.see(0, marks(2..5)), Ok(()));
        assert_eq!(identities.see(1, marks(5..7)), Ok(()));
        assert_eq!(identities.see(1, marks(4..9)), Err((0, "address 4".to_owned())));
        identities.forget(0);
        assert_eq!(identities.see(1, marks(0..9)), Ok(()));
    }

    #[test]
    fn servers_that_name_ever_new_addresses_take_no_more_memory() {
        let mut identities = Identities::default();
        identities.see(1, marks(1_000_000..1_000_010)).unwrap();
        for round in 0..20 {
            identities.see(0, marks(round * 700..(round + 1) * 700)).unwrap();
            assert!(identities.clusters.len() <= MARKS_PER_CLUSTER_MAX + 10);
        }
        identities.see(0, marks(100_000..200_000)).unwrap();
        assert!(identities.clusters.len() <= MARKS_PER_CLUSTER_MAX + 10);
        // Another cluster's are not forgotten for it.
        assert_eq!(identities.see(0, marks(1_000_005..1_000_006)), Err((1, "address 1000005".to_owned())));
    }
}
