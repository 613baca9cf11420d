//! What can be wrong with the members given to a ring.

use thiserror::Error;

/// Why a ring was not built or not changed. A ring that returns one of these is as it was before.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum RingError {
    /// A ring needs at least one member, so the last one cannot leave either.
    #[error("a ring needs at least one member")]
    NoMembers,
    /// Two members bear one identity.
    #[error("two members bear the identity {:?}", String::from_utf8_lossy(identity))]
    DuplicateIdentity {
        /// The identity in question.
        identity: Box<[u8]>,
    },
    /// An identity of no bytes names nobody.
    #[error("an identity has no bytes")]
    EmptyIdentity,
    /// The index belongs to no member.
    #[error("no member has the index {index}")]
    UnknownMember {
        /// The index asked for.
        index: usize,
    },
    /// A member without units would own nothing.
    #[error("member {:?} has weight 0", String::from_utf8_lossy(identity))]
    ZeroWeight {
        /// Whose weight it is.
        identity: Box<[u8]>,
    },
    /// A member asks for more units than one member may have.
    #[error(
        "member {:?} has {units} units, at most {units_max} are allowed",
        String::from_utf8_lossy(identity)
    )]
    WeightTooLarge {
        /// Whose weight it is.
        identity: Box<[u8]>,
        /// What was asked for.
        units: u32,
        /// The limit.
        units_max: u32,
    },
    /// The class has no room for so many members.
    #[error("{members} members, at most {members_max} fit into this class")]
    TooManyMembers {
        /// How many there would be.
        members: usize,
        /// The limit.
        members_max: usize,
    },
    /// The class has no room for so many units (cells: load above .85).
    #[error("{units} units, at most {units_max} fit into this class")]
    TooManyUnits {
        /// How many there would be.
        units: u64,
        /// The limit.
        units_max: u64,
    },
    /// Roulette's ring knows no weights.
    #[error(
        "member {:?} has {units} units, but the ring of roulette mode knows no weights",
        String::from_utf8_lossy(identity)
    )]
    RouletteWeight {
        /// Whose weight it is.
        identity: Box<[u8]>,
        /// What was asked for.
        units: u32,
    },
}
