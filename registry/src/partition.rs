//! The unit of work and of transfer: all services of a type are in one partition.

use xxhash_rust::xxh3::xxh3_64;

/// How many partitions there are: a constant of the wire.
pub const PARTITIONS: usize = 256;

/// One of the [`PARTITIONS`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Partition(u8);

impl Partition {
    /// The partition of a service type: the low 8 bits of its xxh3 with seed 0.
    #[must_use]
    pub fn of_kind(kind: &[u8]) -> Self {
        Self((xxh3_64(kind) & 0xFF) as u8)
    }

    /// The partition with this number; `None` above 255.
    #[must_use]
    pub fn from_wire(number: u16) -> Option<Self> {
        u8::try_from(number).ok().map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The same number, to index an array of [`PARTITIONS`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Which shard of `shards` owns it. Nodes may differ in their number of shards: what travels is the partition.
    ///
    /// # Panics
    ///
    /// If `shards` is 0.
    #[must_use]
    pub const fn shard(self, shards: usize) -> usize {
        self.0 as usize % shards
    }

    /// All of them, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// Those of one shard of `shards`, ascending.
    pub fn of_shard(shard: usize, shards: usize) -> impl Iterator<Item = Self> {
        Self::all().filter(move |partition| partition.shard(shards) == shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_one_shard() {
        for shards in [1, 2, 3, 4, 64, 300] {
            let mut seen = [0_u8; PARTITIONS];
            for shard in 0..shards {
                for partition in Partition::of_shard(shard, shards) {
                    seen[partition.index()] += 1;
                }
            }
            assert_eq!(seen, [1; PARTITIONS], "{shards} shards");
        }
    }

    #[test]
    fn the_partitions_of_types_are_frozen() {
        let numbers = ["uploader", "resizer", ""].map(|kind| Partition::of_kind(kind.as_bytes()).get());
        // The last is the low byte of the published 2d06800538d394c2, the hash of nothing.
        assert_eq!(numbers, [85, 135, 0xC2]);
    }
}
