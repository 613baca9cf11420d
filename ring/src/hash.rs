//! The hash of keys and identities, and the darts that units throw.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Hash of a key: xxh3, 64 bits, seed 0.
///
/// The top bits choose the slot (or the first cell), the low 32 bits are left to [`home_shard`]; one hash
/// therefore serves both.
#[inline]
#[must_use]
pub fn hash_key(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The home shard, `0..shards`, of a key with this [`hash_key`]. It uses the low 32 bits only, which no ring uses
/// to choose a slot.
///
/// # Panics
///
/// If `shards` is 0.
#[inline]
#[must_use]
pub fn home_shard(key_hash: u64, shards: u32) -> usize {
    assert!(shards > 0, "a node has at least one shard");
    (((key_hash & 0xFFFF_FFFF) * u64::from(shards)) >> 32) as usize
}

/// The finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): a
/// bijection in which each bit of the input changes half of the output.
#[inline]
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// What a member's darts start from. It stands for the identity in fingerprints.
pub(crate) fn member_seed(identity: &[u8], ring_seed: u64) -> u64 {
    xxh3_64_with_seed(identity, ring_seed)
}

/// What the darts of the unit `number` (from 0) of a member start from.
pub(crate) fn unit_hash(member_seed: u64, number: u32) -> u64 {
    mix(member_seed ^ (u64::from(number) + 1).wrapping_mul(UNIT_STEP))
}

/// The raw dart of a unit in a round. Its top bits are the place, what follows decides between rivals.
#[inline]
pub(crate) fn dart(unit: u64, round: u32) -> u64 {
    mix(unit.wrapping_add(u64::from(round).wrapping_mul(ROUND_STEP)))
}

/// Odd, so that the steps of 2^64 units all differ.
const UNIT_STEP: u64 = 0xD6E8_FEB8_6659_FD93;
/// 2^64 over the golden ratio, odd: the step of splitmix64.
const ROUND_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_the_finaliser_of_splitmix64() {
        // The first outputs of the reference generator with seed 1234567.
        let outputs =
            [6457827717110365317_u64, 3203168211198807973, 9817491932198370423, 4593380528125082431];
        for (output, step) in outputs.into_iter().zip(1_u64..) {
            assert_eq!(mix(1234567_u64.wrapping_add(ROUND_STEP.wrapping_mul(step))), output);
        }
    }

    #[test]
    fn a_home_shard_is_below_the_number_of_shards_and_uses_the_low_half_only() {
        for shards in [1, 2, 3, 7, 64, 1024] {
            assert_eq!(home_shard(0, shards), 0);
            assert_eq!(home_shard(u64::MAX, shards), shards as usize - 1);
            assert_eq!(home_shard(0xFFFF_FFFF_0000_0000, shards), 0);
        }
    }

    #[test]
    fn home_shards_are_even() {
        let mut counts = [0_u32; 6];
        for key in 0_u32..60_000 {
            counts[home_shard(hash_key(&key.to_le_bytes()), 6)] += 1;
        }
        // Standard deviation of each count: 91.
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
