//! A subscription's id on the wire.

use std::fmt;

/// Names a subscription on the wire: a slab index in the low 24 bits and its generation above, so
/// that a message finds its subscription without hashing and a late one finds nothing.
///
/// A server can send any number; one that [`Subscriptions`](crate::Subscriptions) did not give out
/// is merely unknown to it. Text beyond `u64::MAX` reads as `u64::MAX`, which is never given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid(pub(crate) u64);

impl Sid {
    /// The id with this number.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number as it stands on the wire.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
