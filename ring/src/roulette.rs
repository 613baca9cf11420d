//! The md5 ring of Roulette 1.0, so that a migrating user keeps each topic on its cluster.
//!
//! A cluster is known by its position in the list, and has 512 points: bytes 8 to 15, little-endian, of the md5 of
//! its position and the point's number, both in decimal, one after the other with nothing between. The owner of a
//! topic is that of the first point strictly above the same hash of the topic, around the end. What follows from
//! that is kept on purpose: a cluster put in at the front moves nearly all topics, and as "1" and "11" make the
//! same name as "11" and "1", cluster 1 has a tenth of its share once there are 20. Of equal points the one of the
//! higher position counts.

use std::cmp::Reverse;

use md5::{Digest, Md5};

/// An immutable ring in the order of Roulette's `servers`.
#[derive(Clone, Debug)]
pub(crate) struct RouletteTable {
    /// (hash, cluster) in the order of the circle.
    points: Box<[(u64, u8)]>,
    clusters: usize,
}

impl RouletteTable {
    /// `clusters` is 1 to 256.
    pub(crate) fn new(clusters: usize) -> Self {
        assert!((1..=CLUSTERS_MAX).contains(&clusters));
        let names = (0..clusters).flat_map(|cluster| (0..POINTS_EACH).map(move |point| (cluster, point)));
        let mut points: Vec<(u64, u8)> = names
            .map(|(cluster, point)| (roulette_hash(format!("{cluster}{point}").as_bytes()), cluster as u8))
            .collect();
        points.sort_by_key(|&(hash, cluster)| (hash, Reverse(cluster)));
        RouletteTable { points: points.into(), clusters }
    }

    // Kept out of line: md5 would crowd the lookup of the other mode.
    #[inline(never)]
    pub(crate) fn owner(&self, key: &[u8]) -> usize {
        usize::from(self.points[self.first_point(key) % self.points.len()].1)
    }

    #[inline(never)]
    pub(crate) fn owners(&self, key: &[u8], count: usize) -> RouletteOwners<'_> {
        RouletteOwners {
            points: &self.points,
            first: self.first_point(key),
            steps: 0,
            left: count.min(self.clusters),
        }
    }

    pub(crate) fn clusters(&self) -> usize {
        self.clusters
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for (hash, cluster) in &self.points {
            hasher.update(&hash.to_le_bytes());
            hasher.update(&[*cluster]);
        }
        hasher.digest()
    }

    fn first_point(&self, key: &[u8]) -> usize {
        let hash = roulette_hash(key);
        self.points.partition_point(|&(point, _)| point <= hash)
    }
}

/// Distinct clusters as one meets them on the way around. Whether a point's cluster was met before is found by
/// looking back, which needs no memory; the way to n of N clusters has n points or a few more, unless n is near N.
#[derive(Clone, Debug)]
pub(crate) struct RouletteOwners<'a> {
    points: &'a [(u64, u8)],
    first: usize,
    steps: usize,
    left: usize,
}

impl Iterator for RouletteOwners<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let (cluster, steps) = next_cluster(self.points, self.first, self.steps);
        self.steps = steps;
        self.left -= 1;
        Some(cluster)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// The next cluster not met in the steps so far, and the steps with it. Each cluster has points of its own, so there
/// is one as long as not all were met.
#[inline(never)]
fn next_cluster(points: &[(u64, u8)], first: usize, mut steps: usize) -> (usize, usize) {
    let cluster_at = |step: usize| points[(first + step) % points.len()].1;
    loop {
        let cluster = cluster_at(steps);
        steps += 1;
        if (0..steps - 1).all(|step| cluster_at(step) != cluster) {
            return (usize::from(cluster), steps);
        }
    }
}

fn roulette_hash(bytes: &[u8]) -> u64 {
    let digest = Md5::digest(bytes);
    let upper: [u8; 8] = digest[8..].try_into().expect("an md5 has 16 bytes");
    u64::from_le_bytes(upper)
}

/// Roulette's `replicas`.
const POINTS_EACH: usize = 512;
/// As many as the tables of this crate know.
const CLUSTERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_vectors_of_roulette_hold() {
        let table = RouletteTable::new(3);
        let owners: Vec<usize> =
            (1..=7).map(|number| table.owner(format!("topic{number}").as_bytes())).collect();
        assert_eq!(owners, [0, 2, 2, 1, 1, 1, 0]);
    }

    #[test]
    fn distinct_clusters_begin_with_the_owner_and_are_all_met() {
        for clusters in [1, 2, 3, 20, 256] {
            let table = RouletteTable::new(clusters);
            for key in 0_u32..50 {
                let key = key.to_le_bytes();
                let owners: Vec<usize> = table.owners(&key, usize::MAX).collect();
                assert_eq!(owners[0], table.owner(&key));
                let mut sorted = owners.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..clusters).collect::<Vec<_>>());
            }
        }
    }

    /// R8, kept on purpose: what is measured of Roulette itself.
    #[test]
    fn with_twenty_clusters_one_has_a_tenth_of_its_share() {
        let table = RouletteTable::new(20);
        let mut counts = [0_u32; 20];
        for topic in 0..20_000 {
            counts[table.owner(format!("topic{topic}").as_bytes())] += 1;
        }
        assert!((80..130).contains(&counts[1]), "{counts:?}");
        assert!(counts.iter().enumerate().all(|(cluster, count)| cluster == 1 || *count > 800), "{counts:?}");
    }
}
