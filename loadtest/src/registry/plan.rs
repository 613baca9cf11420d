//! What each node of a registry run does, as a function of numbers: every process knows the plan of all.
//!
//! A node begins with its entries, which stay, and a pool of [`POOL`] services that change. Its change
//! number k is, by k mod 3: add a service at the back of the pool, update the one in its middle, remove the
//! one at its front. So each service of the pool is added, updated and removed once, with about
//! 3 x POOL / 2 changes between two of its own: they are never merged on their way unless a node is that
//! far behind. What an observer sees, a service and what became of it, names the change.

use serde::{Deserialize, Serialize};

/// Services of a node that change.
pub(crate) const POOL: u64 = 64;

/// Types over which the entries are spread, and those over which the pool is.
pub(crate) const ENTRY_KINDS: u64 = 16;
pub(crate) const CHANGE_KINDS: u64 = 8;

/// What a change does to a service of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add { serial: u64 },
    Update { serial: u64 },
    Remove { serial: u64 },
}

/// One service of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Item {
    Entry(u64),
    Pool(u64),
}

/// The change of a node that has this number among its own.
pub(crate) fn change(number: u64) -> Change {
    let cycle = number / 3;
    match number % 3 {
        0 => Change::Add { serial: cycle + POOL },
        1 => Change::Update { serial: cycle + POOL / 2 },
        _ => Change::Remove { serial: cycle },
    }
}

/// The number of the change that adds a service; none for those of the first pool.
pub(crate) fn addition_of(serial: u64) -> Option<u64> {
    serial.checked_sub(POOL)?.checked_mul(3)
}

/// The number of the change that updates a service; none for the older half of the first pool.
pub(crate) fn update_of(serial: u64) -> Option<u64> {
    serial.checked_sub(POOL / 2)?.checked_mul(3)?.checked_add(1)
}

/// The number of the change that removes a service.
pub(crate) fn removal_of(serial: u64) -> Option<u64> {
    serial.checked_mul(3)?.checked_add(2)
}

/// The pool's services after so many changes.
pub(crate) fn pool_after(made: u64) -> std::ops::Range<u64> {
    let (added, removed) = (made.div_ceil(3), made / 3);
    removed..POOL + added
}

/// The last of the first `made` changes that wrote a service of the pool; none when none did.
pub(crate) fn last_written(serial: u64, made: u64) -> Option<u64> {
    let is_made = |number: &u64| *number < made;
    update_of(serial).filter(is_made).or(addition_of(serial).filter(is_made))
}

impl Item {
    /// The type of service that it is of.
    pub(crate) fn kind(self) -> String {
        match self {
            Self::Entry(number) => entry_kind(number % ENTRY_KINDS),
            Self::Pool(serial) => change_kind(serial % CHANGE_KINDS),
        }
    }

    /// Its id within its node and type.
    pub(crate) fn id(self) -> String {
        match self {
            Self::Entry(number) => format!("e{number}"),
            Self::Pool(serial) => format!("p{serial}"),
        }
    }

    /// Reads an id.
    pub(crate) fn of_id(id: &[u8]) -> Option<Self> {
        let (letter, digits) = std::str::from_utf8(id).ok()?.split_at_checked(1)?;
        let number = digits.parse().ok()?;
        match letter {
            "e" => Some(Self::Entry(number)),
            "p" => Some(Self::Pool(number)),
            _ => None,
        }
    }
}

/// All types of a run.
pub(crate) fn kinds() -> impl Iterator<Item = String> {
    (0..ENTRY_KINDS).map(entry_kind).chain((0..CHANGE_KINDS).map(change_kind))
}

fn entry_kind(number: u64) -> String {
    format!("loadtest.entry.{number}")
}

fn change_kind(number: u64) -> String {
    format!("loadtest.change.{number}")
}

/// The name of node `number`, which counts from 0.
pub(crate) fn node_name(number: usize) -> String {
    format!("n{}", number + 1)
}

/// The number of a node from its name.
pub(crate) fn node_number(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse::<usize>().ok()?.checked_sub(1)
}

/// The value that a service carries: the number of the change that wrote it.
pub(crate) fn value_of(change: Option<u64>) -> String {
    change.map_or_else(|| "none".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_plan_is_the_same_forwards_and_backwards() {
        // The pool, as a node that follows the plan has it: each service with the change that wrote it.
        let mut pool: BTreeMap<u64, Option<u64>> = (0..POOL).map(|serial| (serial, None)).collect();
        for number in 0..2_000 {
            assert_eq!(pool.keys().copied().collect::<Vec<_>>(), pool_after(number).collect::<Vec<_>>());
            for (serial, written) in &pool {
                assert_eq!(last_written(*serial, number), *written, "service {serial} after {number}");
            }
            match change(number) {
                Change::Add { serial } => {
                    assert_eq!(pool.insert(serial, Some(number)), None);
                    assert_eq!(addition_of(serial), Some(number));
                }
                Change::Update { serial } => {
                    *pool.get_mut(&serial).expect("an update is of a service that is there") = Some(number);
                    assert_eq!(update_of(serial), Some(number));
                }
                Change::Remove { serial } => {
                    assert!(pool.remove(&serial).is_some());
                    assert_eq!(removal_of(serial), Some(number));
                }
            }
        }
    }

    #[test]
    fn names_and_ids_are_read_back() {
        for item in [Item::Entry(0), Item::Entry(999), Item::Pool(17)] {
            assert_eq!(Item::of_id(item.id().as_bytes()), Some(item));
            assert!(kinds().any(|kind| kind == item.kind()));
        }
        for id in [&b""[..], b"e", b"x1", b"e-1", b"\xff\xff", "é1".as_bytes()] {
            assert_eq!(Item::of_id(id), None, "{id:?}");
        }
        assert_eq!((node_number(&node_name(0)), node_number(&node_name(41))), (Some(0), Some(41)));
        assert_eq!((node_number("n0"), node_number("w1"), node_number("n")), (None, None, None));
    }

    #[test]
    fn no_number_can_overflow() {
        for serial in [u64::MAX, u64::MAX / 3 + 1] {
            assert_eq!(removal_of(serial), None);
            assert_eq!((addition_of(u64::MAX), update_of(u64::MAX)), (None, None));
        }
    }
}
