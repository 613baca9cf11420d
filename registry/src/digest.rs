//! A sum that tells whether two nodes have reached the same versions of a node's logs.

use xxhash_rust::xxh3::xxh3_128;

use crate::{Epoch, Partition, Version};

/// Sums of 128-bit hashes, so that each shard gives its part and no order matters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Digest(u128);

impl Digest {
    /// The digest of one log at a version. An empty log adds nothing.
    #[must_use]
    pub fn of_log(epoch: Epoch, partition: Partition, known: Version) -> Self {
        if known == 0 {
            return Self(0);
        }
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&epoch.get().to_le_bytes());
        bytes[8..16].copy_from_slice(&known.to_le_bytes());
        bytes[16] = partition.get();
        Self(xxh3_128(&bytes))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// As it travels.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// As it came.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

impl std::iter::Sum for Digest {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Self::plus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_in_any_order_and_differ_by_log_life_and_version() {
        let partition = Partition::of_kind(b"k");
        let digest = |ms, known| Digest::of_log(Epoch::at_start(ms, 0), partition, known);
        assert_eq!(digest(1, 0), Digest::default());
        assert_ne!(digest(1, 1), digest(1, 2));
        assert_ne!(digest(1, 1), digest(2, 1));
        let other = Digest::of_log(Epoch::at_start(1, 0), Partition::of_kind(b"other"), 1);
        assert_ne!(digest(1, 1), other);
        assert_eq!([digest(1, 1), other].into_iter().sum::<Digest>(), other.plus(digest(1, 1)));
        assert_eq!(Digest::from_bytes(other.to_bytes()), other);
    }
}
