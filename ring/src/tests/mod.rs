//! Properties of whole rings: what a table promises, whatever the members.

mod cells;
mod clusters;
mod golden;
mod slots;

use std::collections::BTreeMap;

use crate::error::RingError;
use crate::hash::hash_key;
use crate::{RingClass, ServiceRing};

/// Identity and units.
pub(crate) type List = Vec<(Box<[u8]>, u32)>;

/// `prefix-0` and so on, each with so many units.
pub(crate) fn list(prefix: &str, members: usize, units: u32) -> List {
    (0..members).map(|number| (format!("{prefix}-{number}").into_bytes().into(), units)).collect()
}

pub(crate) fn service_ring(class: RingClass, list: &List) -> Result<ServiceRing, RingError> {
    let builder = ServiceRing::builder(class);
    list.iter().fold(builder, |builder, (identity, units)| builder.member(identity, *units)).build()
}

/// Hashes of `count` keys, the same at each call.
pub(crate) fn key_hashes(count: u32) -> impl Iterator<Item = u64> {
    (0..count).map(|key| hash_key(&key.to_le_bytes()))
}

/// How the members changed in a random history.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Join(u8, u32),
    Leave(usize),
    Reweight(usize, u32),
}

pub(crate) mod strategy {
    //! Random members and histories.

    use proptest::prelude::*;

    use super::{Change, List};

    /// Members with different identities of one byte and a half.
    pub(crate) fn members(count: std::ops::Range<usize>, units_max: u32) -> impl Strategy<Value = List> {
        proptest::collection::btree_map(any::<u16>(), 1..=units_max, count).prop_map(|map| {
            map.into_iter().map(|(name, units)| (format!("{name:x}").into_bytes().into(), units)).collect()
        })
    }

    pub(crate) fn history(length: usize, units_max: u32) -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            2 => (any::<u8>(), 1..=units_max).prop_map(|(name, units)| Change::Join(name, units)),
            2 => any::<usize>().prop_map(Change::Leave),
            1 => (any::<usize>(), 1..=units_max).prop_map(|(index, units)| Change::Reweight(index, units)),
        ];
        proptest::collection::vec(change, 1..=length)
    }
}

/// Plays a history on a ring and on a plain map, and returns the map's members. Changes that the ring must refuse
/// (a taken name, the last one leaving) are checked to be refused.
pub(crate) fn play<Ring>(
    ring: &mut Ring,
    start: &List,
    history: &[Change],
    join: impl Fn(&mut Ring, &[u8], u32) -> Result<usize, RingError>,
    leave: impl Fn(&mut Ring, usize) -> Result<(), RingError>,
    reweight: impl Fn(&mut Ring, usize, u32) -> Result<(), RingError>,
) -> List {
    let mut model: BTreeMap<usize, (Box<[u8]>, u32)> = start.iter().cloned().enumerate().collect();
    let nth = |model: &BTreeMap<usize, _>, number: usize| {
        *model.keys().nth(number % model.len()).expect("in range")
    };
    for change in history {
        match change {
            Change::Join(name, units) => {
                let identity: Box<[u8]> = format!("join {name}").into_bytes().into();
                let taken = model.values().any(|(other, _)| *other == identity);
                match join(ring, &identity, *units) {
                    Ok(index) => {
                        let free =
                            (0..).find(|index| !model.contains_key(index)).expect("there is a free index");
                        assert_eq!(index, free);
                        assert!(!taken);
                        model.insert(index, (identity, *units));
                    }
                    Err(error) => {
                        assert!(taken);
                        assert_eq!(error, RingError::DuplicateIdentity { identity });
                    }
                }
            }
            Change::Leave(number) => {
                let index = nth(&model, *number);
                let expected = if model.len() == 1 { Err(RingError::NoMembers) } else { Ok(()) };
                assert_eq!(leave(ring, index), expected);
                if model.len() > 1 {
                    model.remove(&index);
                }
            }
            Change::Reweight(number, units) => {
                let index = nth(&model, *number);
                assert_eq!(reweight(ring, index, *units), Ok(()));
                model.get_mut(&index).expect("in the model").1 = *units;
            }
        }
    }
    model.into_values().collect()
}
