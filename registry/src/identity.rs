//! Who a node is: the hash of its name, its epoch, and one process's instance id.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

/// The 128-bit hash (xxh3, seed 0) of a node's configured name. It stands for the node in frames and logs.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeKey([u8; 16]);

impl NodeKey {
    /// The key of the node with this name.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self(xxh3_128(name.as_bytes()).to_le_bytes())
    }

    /// The key as it travels.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// A key as it came in a frame.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_le_bytes(self.0))
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One life of a node: a restart takes a higher epoch, and with it new, empty logs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch(u64);

impl Epoch {
    /// The highest epoch that a frame may name; what follows it must fit.
    pub const MAX: Self = Self(u64::MAX >> 1);

    /// Milliseconds since the Unix epoch at the process's start, shifted left by 20, and 20 random bits.
    ///
    /// Only the low 43 bits of `unix_ms` are used (they last beyond the year 2248), only the low 20 of `random`.
    #[must_use]
    pub const fn at_start(unix_ms: u64, random: u32) -> Self {
        Self(((unix_ms << 20) | (random as u64 & 0xF_FFFF)) & Self::MAX.0)
    }

    /// The number as it travels.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// An epoch as it came in a frame; `None` if it is above [`Epoch::MAX`].
    #[must_use]
    pub const fn from_wire(epoch: u64) -> Option<Self> {
        if epoch <= Self::MAX.0 { Some(Self(epoch)) } else { None }
    }

    /// A higher epoch for a node whose clock cannot give one: in the millisecond after this one, with 20 random bits.
    /// Without them two lives that are told the same would be one. Near [`Epoch::MAX`] it is the next one.
    #[must_use]
    pub const fn after(self, random: u32) -> Self {
        match ((self.0 >> 20) + 1).checked_mul(1 << 20) {
            Some(start) if start <= Self::MAX.0 => Self(start | (random as u64 & 0xF_FFFF)),
            _ => self.next(),
        }
    }

    /// The least epoch above this one, or [`Epoch::MAX`] itself, which nothing follows.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 < Self::MAX.0 { Self(self.0 + 1) } else { self }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A random number that tells two live processes of one name apart.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProcessId(u128);

impl ProcessId {
    /// From 128 random bits.
    #[must_use]
    pub const fn from_random(bits: u128) -> Self {
        Self(bits)
    }

    /// The number as it travels.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_orders_by_time_before_chance() {
        assert!(Epoch::at_start(1000, 0xF_FFFF) < Epoch::at_start(1001, 0));
        assert_eq!(Epoch::at_start(1, 2).get(), (1 << 20) | 2);
        assert_eq!(Epoch::at_start(0, u32::MAX).get(), 0xF_FFFF);
    }

    #[test]
    fn no_epoch_above_the_highest_is_taken_from_a_frame() {
        assert_eq!(Epoch::from_wire(u64::MAX), None);
        assert_eq!(Epoch::from_wire(Epoch::MAX.get()), Some(Epoch::MAX));
        assert_eq!(Epoch::MAX.next(), Epoch::MAX);
        assert_eq!(Epoch::at_start(7, 7).next().get(), ((7 << 20) | 7) + 1);
    }

    #[test]
    fn a_higher_epoch_is_random_as_long_as_there_is_room() {
        assert_eq!(Epoch::at_start(7, 9).after(5), Epoch::at_start(8, 5));
        assert_eq!(Epoch::MAX.after(5), Epoch::MAX);
        let last = Epoch(Epoch::MAX.0 - 1);
        assert_eq!(last.after(5), Epoch::MAX);
    }

    #[test]
    fn the_key_of_a_name_is_frozen() {
        assert_eq!(NodeKey::of_name("node-1").to_string(), GOLDEN_NODE_1);
    }

    const GOLDEN_NODE_1: &str = "902d3ff26efbf6811c0133ef2e5f450f";
}
