//! The set of live versions in a range: it tells a receiver what to delete when the removals are forgotten.

use crate::delta::ascend;
use crate::limits::{SEAL_VERSIONS_MAX, VERSION_MAX};
use crate::{MalformedChunk, Version};

/// All versions in (`low`, `high`] that are still live; parts from 0 to `target` make a whole Seal.
///
/// After it the receiver knows `target`, as if it had seen every removal up to it. An entry costs one or two bytes,
/// and no payload is sent twice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seal {
    /// The version that the whole Seal leads to.
    pub target: Version,
    /// The version before the first of this part.
    pub low: Version,
    /// The last version of this part.
    pub high: Version,
    /// As in a [`Delta`](crate::Delta): the sender's state at this part.
    pub horizon: Version,
    /// Ascending.
    pub live: Vec<Version>,
}

impl Seal {
    /// Checks the meaning of a Seal that came from outside.
    ///
    /// # Errors
    ///
    /// If it is none that a log can have sent.
    pub fn check(&self) -> Result<(), MalformedChunk> {
        let Self { target, low, high, horizon, .. } = *self;
        if low > high || high > target || target > horizon || horizon > VERSION_MAX {
            return Err(MalformedChunk::Range { from: low, to: high, horizon });
        }
        if low == high && high != target {
            return Err(MalformedChunk::Range { from: low, to: high, horizon });
        }
        let mut previous = low;
        self.live.iter().try_for_each(|version| ascend(&mut previous, *version, high))
    }

    /// The live versions as they travel: each as the distance from the one before (the first from `low`), seven bits
    /// a byte, the lowest first, the eighth bit set if more follow.
    #[must_use]
    pub fn packed_live(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(self.live.len() + self.live.len() / 4);
        let mut previous = self.low;
        for version in &self.live {
            let mut distance = version - previous;
            while distance >= 0x80 {
                packed.push((distance & 0x7F) as u8 | 0x80);
                distance >>= 7;
            }
            packed.push(distance as u8);
            previous = *version;
        }
        packed
    }

    /// Undoes [`Seal::packed_live`].
    ///
    /// # Errors
    ///
    /// If a distance is cut, zero, written longer than it must be, or leads beyond `high`, or there are too many.
    pub fn unpack_live(low: Version, high: Version, packed: &[u8]) -> Result<Vec<Version>, MalformedChunk> {
        // One version takes at least one byte, so memory follows what was received.
        let mut live = Vec::with_capacity(packed.len().min(SEAL_VERSIONS_MAX));
        let mut version = low;
        let mut at = 0;
        while at < packed.len() {
            let start = at;
            let bad = MalformedChunk::PackedVersion { offset: start };
            let mut distance = 0_u64;
            for shift in (0..u64::BITS).step_by(7) {
                let byte = *packed.get(at).ok_or_else(|| bad.clone())?;
                at += 1;
                let bits = u64::from(byte & 0x7F);
                if (bits << shift) >> shift != bits || (shift > 0 && byte == 0) {
                    return Err(bad);
                }
                distance |= bits << shift;
                if byte & 0x80 == 0 {
                    break;
                }
                if shift + 7 >= u64::BITS {
                    return Err(bad);
                }
            }
            version =
                version.checked_add(distance).filter(|next| *next > version && *next <= high).ok_or(bad)?;
            if live.len() >= SEAL_VERSIONS_MAX {
                return Err(MalformedChunk::TooManyVersions);
            }
            live.push(version);
        }
        Ok(live)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_versions_come_back(low in 0_u64..1 << 40, distances in prop::collection::vec(
            prop_oneof![1_u64..300, 1_u64..1 << 40], 0..100,
        )) {
            let mut high = low;
            let live: Vec<_> = distances.iter().map(|distance| { high += distance; high }).collect();
            let seal = Seal { target: high, low, high, horizon: high, live };
            prop_assert_eq!(Seal::unpack_live(low, high, &seal.packed_live()).unwrap(), seal.live);
        }

        #[test]
        fn any_bytes_unpack_to_ascending_versions_or_an_error(
            low in 0_u64..1000, length in 0_u64..u64::MAX >> 3, bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let high = low + length;
            if let Ok(live) = Seal::unpack_live(low, high, &bytes) {
                let seal = Seal { target: high, low, high, horizon: high, live };
                prop_assert!(seal.live.is_sorted_by(|a, b| a < b));
                prop_assert!(seal.live.iter().all(|version| (low + 1..=high).contains(version)));
                prop_assert_eq!(seal.packed_live(), bytes);
            }
        }
    }

    #[test]
    fn a_part_lists_a_bounded_number_of_versions() {
        let unpack = |bytes: usize| Seal::unpack_live(0, VERSION_MAX, &vec![1; bytes]).map(|live| live.len());
        assert_eq!(unpack(SEAL_VERSIONS_MAX), Ok(SEAL_VERSIONS_MAX));
        assert_eq!(unpack(SEAL_VERSIONS_MAX + 1), Err(MalformedChunk::TooManyVersions));
    }

    #[test]
    fn a_distance_has_one_form_and_64_bits() {
        let refused: [(&[u8], usize); 7] = [
            (&[0], 0),
            (&[0x80], 0),
            (&[0x80, 0], 0),
            (&[1, 0x81, 0], 1),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02], 0),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x81, 1], 0),
            (&[11], 0),
        ];
        for (packed, offset) in refused {
            let error = Seal::unpack_live(90, 100, packed).unwrap_err();
            assert_eq!(error, MalformedChunk::PackedVersion { offset }, "{packed:?}");
        }
        assert_eq!(Seal::unpack_live(90, 100, &[1, 9]).unwrap(), [91, 100]);
    }
}
