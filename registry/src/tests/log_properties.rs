//! Properties of a log's merge, each shrunk to the events that break it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::limits::{ChunkLimits, LogLimits};
use crate::{
    Applied, Change, Chunk, ChunkError, Cursor, Delta, Log, MalformedChunk, Partition, Put, Removal, Seal,
    Service, ServiceBuilder, ServiceKey, Version,
};

proptest! {
    #[test]
    fn a_replica_in_step_is_exact_at_every_version(events in events(), at in 0_usize..60) {
        let mut owner = Log::new(ROOMY);
        let mut replica = Log::new(ROOMY);
        let mut cursor = Cursor::new(0, 0);
        for (number, event) in events.iter().enumerate() {
            act(&mut owner, event);
            if number % (at + 1) == 0 {
                follow(&owner, &mut replica, &mut cursor, &ChunkLimits::default());
                prop_assert!(replica.is_exact());
                prop_assert_eq!(state(&replica), state(&owner));
            }
        }
    }

    #[test]
    fn a_transfer_in_small_chunks_ends_exact(before in events(), missed in events(), chunk in 1_usize..4) {
        let limits = ChunkLimits { events_max: chunk, bytes: 1 << 20 };
        let mut owner = Log::new(TIGHT);
        let mut replica = Log::new(TIGHT);
        let mut cursor = Cursor::new(0, 0);
        for event in &before { act(&mut owner, event); }
        follow(&owner, &mut replica, &mut cursor, &limits);
        for event in &missed { act(&mut owner, event); }
        let changes = follow(&owner, &mut replica, &mut cursor, &limits);
        prop_assert!(replica.is_exact());
        prop_assert_eq!(state(&replica), state(&owner));
        prop_assert!(replica.removals_len() <= TIGHT.removals_most);
        // What it reports is what happened: replayed on the state before, it leads to the state after.
        let mut follower: BTreeMap<_, _> = BTreeMap::new();
        let mut old = Log::new(TIGHT);
        let mut other = Cursor::new(0, 0);
        let mut rewound = Log::new(TIGHT);
        for event in &before { act(&mut rewound, event); }
        for change in follow(&rewound, &mut old, &mut other, &limits).iter().chain(&changes) {
            match change {
                Change::Put { service, previous } => {
                    let was = follower.insert(service.key(), service.clone());
                    prop_assert_eq!(was.as_ref(), previous.as_ref());
                }
                Change::Removed { service } => {
                    prop_assert_eq!(follower.remove(&service.key()), Some(service.clone()));
                }
            }
        }
        let held: BTreeMap<_, _> = owner.entries().map(|(_, s)| (s.key(), s.clone())).collect();
        prop_assert_eq!(follower, held);
    }

    #[test]
    fn any_order_and_repetition_of_chunks_leads_to_one_state(
        events in events(), order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        // Deltas from every version to the end, and chunked ones; the last chance goes through all in order.
        let mut owner = Log::new(ROOMY);
        let mut chunks = Vec::new();
        for event in &events {
            act(&mut owner, event);
            for from in [0, owner.known() / 2, owner.known().saturating_sub(1)] {
                chunks.extend(Cursor::new(from, from).next_chunk(&owner, &SMALL));
            }
        }
        let mut replica = Log::new(ROOMY);
        for index in order {
            if let Some(chunk) = chunks.get(index.index(chunks.len().max(1))) {
                let once = apply(&mut replica, chunk);
                let (after_once, known) = (state(&replica), replica.known());
                if once.is_ok() {
                    prop_assert_eq!(apply(&mut replica, chunk), Ok(Applied::Nothing));
                }
                prop_assert_eq!(state(&replica), after_once);
                prop_assert_eq!(replica.known(), known);
            }
        }
        let mut cursor = Cursor::new(replica.known(), replica.content());
        follow(&owner, &mut replica, &mut cursor, &SMALL);
        prop_assert_eq!(state(&replica), state(&owner));
    }

    #[test]
    fn a_relay_serves_as_well_as_the_owner(events in events(), more in events()) {
        let mut owner = Log::new(TIGHT);
        let (mut relay, mut last) = (Log::new(TIGHT), Log::new(TIGHT));
        let (mut to_relay, mut to_last) = (Cursor::new(0, 0), Cursor::new(0, 0));
        for part in [&events, &more] {
            for event in part { act(&mut owner, event); }
            follow(&owner, &mut relay, &mut to_relay, &SMALL);
            follow(&relay, &mut last, &mut to_last, &SMALL);
            prop_assert!(last.is_exact());
            prop_assert_eq!(state(&last), state(&owner));
        }
    }

    #[test]
    fn a_malformed_delta_is_refused(events in events(), spoil in 0_usize..9) {
        let mut owner = Log::new(ROOMY);
        for event in &events { act(&mut owner, event); }
        let Some(Chunk::Delta(mut delta)) = Cursor::new(0, 0).next_chunk(&owner, &ChunkLimits::default()) else {
            return Ok(());
        };
        prop_assert_eq!(delta.check(partition()), Ok(()));
        let key = ServiceKey::new(KIND, b"x").unwrap();
        let beyond = delta.to + 1;
        match spoil {
            0 => delta.to = delta.horizon + 1,
            1 => delta.from = delta.to + 1,
            2 => delta.removals_from = delta.horizon + 1,
            3 => delta.removals.push(Removal { version: beyond, key }),
            4 => delta.puts.push(Put { version: beyond, service: service(0, 0) }),
            5 => delta.puts.insert(0, Put { version: delta.from, service: service(0, 0) }),
            6 => match (delta.puts.first(), delta.removals.first()) {
                (Some(put), _) => delta.removals.insert(0, Removal { version: put.version, key }),
                (_, Some(removal)) => delta.puts.push(Put { version: removal.version, service: service(0, 0) }),
                _ => return Ok(()),
            },
            7 => delta.horizon = u64::MAX,
            _ => {
                delta.to = beyond;
                delta.horizon = delta.horizon.max(beyond);
                let foreign = ServiceBuilder::new("another kind", "i").build().unwrap();
                delta.puts.push(Put { version: beyond, service: foreign });
            }
        }
        prop_assert!(delta.check(partition()).is_err());
    }
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let mut owner = Log::new(ROOMY);
    for number in 0..5 {
        owner.put(service(number, 0)).unwrap();
    }
    let mut replica = Log::new(ROOMY);
    let chunk = Cursor::new(3, 3).next_chunk(&owner, &SMALL).unwrap();
    assert_eq!(apply(&mut replica, &chunk), Err(ChunkError::Gap { from: 3, have: 0 }));
    assert_eq!((replica.known(), replica.len()), (0, 0));
}

#[test]
fn a_seal_that_lists_what_is_missing_changes_nothing_and_the_second_one_restarts() {
    let mut replica = Log::new(ROOMY);
    let mut owner = Log::new(ROOMY);
    owner.put(service(1, 0)).unwrap();
    owner.put(service(2, 0)).unwrap();
    let fill = Delta {
        from: 0,
        to: 2,
        horizon: 2,
        removals_from: 1,
        puts: owner.entries().take(1).map(|(version, s)| Put { version, service: s.clone() }).collect(),
        removals: Vec::new(),
    };
    assert_eq!(replica.apply_delta(&fill, &mut Vec::new()), Ok(Applied::Filled));
    let seal = Seal { target: 2, low: 0, high: 2, horizon: 2, live: vec![1, 2] };
    let missing = |restarted| Err(ChunkError::SealMissing { version: 2, restarted });
    assert_eq!(replica.apply_seal(&seal, &mut Vec::new()), missing(false));
    assert_eq!((replica.known(), replica.len()), (0, 1));
    let mut changes = Vec::new();
    assert_eq!(replica.apply_seal(&seal, &mut changes), missing(true));
    assert_eq!((replica.known(), replica.content(), replica.len()), (0, 0, 0));
    assert_eq!(changes, [Change::Removed { service: service(1, 0) }]);
}

#[test]
fn the_quota_holds_for_owner_and_replica() {
    let limits = LogLimits { entries_max: 2, ..ROOMY };
    let (mut large, mut small, mut replica) = (Log::new(ROOMY), Log::new(limits), Log::new(limits));
    for number in 0..3 {
        large.put(service(number, 0)).unwrap();
    }
    small.put(service(0, 0)).unwrap();
    small.put(service(1, 0)).unwrap();
    assert!(small.put(service(2, 0)).is_err());
    assert_eq!(small.put(service(1, 1)), Ok(3));
    let chunk = Cursor::new(0, 0).next_chunk(&large, &ChunkLimits::default()).unwrap();
    assert_eq!(apply(&mut replica, &chunk), Err(ChunkError::Quota { entries: 3, entries_max: 2 }));
    assert_eq!((replica.known(), replica.len()), (0, 0));
}

#[test]
fn a_seal_takes_one_or_two_bytes_an_entry() {
    let mut owner = Log::new(LogLimits::default());
    for number in 0..10_000 {
        owner.put(service(number, 0)).unwrap();
    }
    for number in (0..10_000).step_by(3) {
        owner.remove(&service(number, 0).key()).unwrap();
    }
    let (seal, _) = owner.seal_after(0, owner.known(), usize::MAX, 0);
    assert_eq!(seal.check(), Ok(()));
    assert_eq!(seal.live.len(), 6666);
    assert_eq!(seal.packed_live().len(), 6666);
}

#[test]
fn a_type_lists_its_entries_and_disappears_with_the_last() {
    let mut log = Log::new(ROOMY);
    for (kind, id) in [("a", "1"), ("b", "1"), ("a", "2")] {
        log.put(ServiceBuilder::new(kind, id).build().unwrap()).unwrap();
    }
    assert_eq!(log.kinds().collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(log.entries_of_kind(b"a").count(), 2);
    log.remove(&ServiceKey::new(b"a", b"1").unwrap()).unwrap();
    assert_eq!(log.entries_of_kind(b"a").map(|(version, _)| version).collect::<Vec<_>>(), [3]);
    log.remove(&ServiceKey::new(b"a", b"2").unwrap()).unwrap();
    assert_eq!(log.kinds().collect::<Vec<_>>(), [b"b"]);
    assert_eq!(log.entries_of_kind(b"a").count(), 0);
    assert_eq!(log.remove(&ServiceKey::new(b"a", b"2").unwrap()), None);
    assert_eq!(log.known(), 5);
}

#[derive(Clone, Debug)]
struct Event {
    key: u64,
    value: u64,
    removes: bool,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0_u64..10, any::<u64>(), prop::bool::weighted(0.4));
    prop::collection::vec(event.prop_map(|(key, value, removes)| Event { key, value, removes }), 0..60)
}

fn act(owner: &mut Log, event: &Event) {
    let service = service(event.key, event.value);
    if event.removes {
        owner.remove(&service.key());
    } else {
        owner.put(service).unwrap();
    }
}

fn service(key: u64, value: u64) -> Service {
    ServiceBuilder::new(KIND, key.to_string()).meta("value", value.to_string()).build().unwrap()
}

/// Sends all there is; the bound proves that it ends.
fn follow(from: &Log, to: &mut Log, cursor: &mut Cursor, limits: &ChunkLimits) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..1000 {
        let Some(chunk) = cursor.next_chunk(from, limits) else { return changes };
        let result = match &chunk {
            Chunk::Delta(delta) => to.apply_delta(delta, &mut changes),
            Chunk::Seal(seal) => to.apply_seal(seal, &mut changes),
        };
        assert_ne!(result.unwrap(), Applied::Nothing);
    }
    panic!("a transfer without end");
}

fn apply(log: &mut Log, chunk: &Chunk) -> Result<Applied, ChunkError> {
    let checked: Result<(), MalformedChunk> = match chunk {
        Chunk::Delta(delta) => delta.check(partition()),
        Chunk::Seal(seal) => seal.check(),
    };
    checked.unwrap();
    match chunk {
        Chunk::Delta(delta) => log.apply_delta(delta, &mut Vec::new()),
        Chunk::Seal(seal) => log.apply_seal(seal, &mut Vec::new()),
    }
}

fn state(log: &Log) -> Vec<(Version, Service)> {
    log.entries().map(|(version, service)| (version, service.clone())).collect()
}

fn partition() -> Partition {
    Partition::of_kind(KIND)
}

const KIND: &[u8] = b"kind";
const ROOMY: LogLimits = LogLimits { removals_least: 1000, removals_most: 1000, entries_max: 1000 };
const TIGHT: LogLimits = LogLimits { removals_least: 4, removals_most: 4, entries_max: 1000 };
const SMALL: ChunkLimits = ChunkLimits { events_max: 3, bytes: 1 << 20 };
