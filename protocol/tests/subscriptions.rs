//! The table of subscriptions: ids that are never mistaken, counts that end, a new connection.

use std::collections::BTreeMap;

use croupier_protocol::{Delivery, QueueGroup, Sid, Subject, Subscriptions};
use proptest::prelude::*;

#[test]
fn a_message_finds_its_subscription() {
    let mut table = Subscriptions::new();
    let first = table.insert(subject("a"), None, 'a').expect("room");
    let second = table.insert(subject("b.>"), QueueGroup::new("q").ok(), 'b').expect("room");
    assert_ne!(first, second);
    assert_eq!(table.deliver(first), Delivery::Live(&mut 'a'));
    assert_eq!(table.deliver(second), Delivery::Live(&mut 'b'));
    let subscribed = table.get(second).expect("there");
    assert_eq!((subscribed.received(), subscribed.max(), subscribed.value), (1, None, 'b'));
    assert_eq!(subscribed.subject, "b.>");
    table.get_mut(first).expect("there").value = 'c';
    assert_eq!(table.remove(first).map(|subscribed| subscribed.value), Some('c'));
    assert!(table.remove(first).is_none() && table.get(first).is_none());
    assert_eq!((table.len(), table.is_empty()), (1, false));
}

#[test]
fn a_late_message_never_reaches_the_next_one_in_its_place() {
    let mut table = Subscriptions::new();
    let mut sid = table.insert(subject("a"), None, 0).expect("room");
    let mut past = Vec::new();
    for round in 1..1000 {
        assert!(table.remove(sid).is_some());
        past.push(sid);
        sid = table.insert(subject("a"), None, round).expect("room");
        assert_eq!(table.len(), 1);
        for &late in past.iter().rev().take(20) {
            assert_eq!(table.deliver(late), Delivery::Unknown);
            assert!(
                table.get(late).is_none() && table.get_mut(late).is_none() && table.remove(late).is_none()
            );
            assert!(!table.set_max(late, 5));
        }
        assert_eq!(table.deliver(sid), Delivery::Live(&mut { round }));
    }
    // It is the place that is reused, not the number.
    assert!(past.iter().all(|past| past.raw() & 0xff_ffff == sid.raw() & 0xff_ffff));
}

#[test]
fn numbers_that_were_never_given_out_find_nothing() {
    let mut table = Subscriptions::new();
    assert_eq!(table.deliver(Sid::from_raw(1)), Delivery::Unknown);
    let sid = table.insert(subject("a"), None, ()).expect("room");
    for raw in [0, 2, 1 << 24, (1 << 24) + 1, 0xff_ffff, u64::MAX, u64::MAX - 1, 1 << 63] {
        assert_ne!(raw, sid.raw());
        assert_eq!(table.deliver(Sid::from_raw(raw)), Delivery::Unknown, "{raw}");
    }
}

#[test]
fn the_last_message_says_so() {
    let mut table = Subscriptions::new();
    let sid = table.insert(subject("a"), None, ()).expect("room");
    assert!(table.set_max(sid, 3));
    assert_eq!(table.deliver(sid), Delivery::Live(&mut ()));
    assert_eq!(table.deliver(sid), Delivery::Live(&mut ()));
    assert_eq!(table.deliver(sid), Delivery::Last(&mut ()));
    assert_eq!(table.deliver(sid), Delivery::Unknown);
    assert_eq!(table.get(sid).map(|subscribed| subscribed.received()), Some(3));

    let sid = table.insert(subject("a"), None, ()).expect("room");
    table.deliver(sid);
    assert!(!table.set_max(sid, 1), "it has had them all");
    assert_eq!(table.deliver(sid), Delivery::Unknown);
}

#[test]
fn a_new_connection_is_told_what_is_left() {
    let mut table = Subscriptions::new();
    let plain = table.insert(subject("a"), None, ()).expect("room");
    let removed = table.insert(subject("b"), None, ()).expect("room");
    let queue = table.insert(subject("c.*"), QueueGroup::new("q").ok(), ()).expect("room");
    let limited = table.insert(subject("d"), None, ()).expect("room");
    let over = table.insert(subject("e"), None, ()).expect("room");
    table.remove(removed);
    assert!(table.set_max(limited, 5) && table.set_max(over, 1));
    table.deliver(limited);
    table.deliver(limited);
    table.deliver(over);
    let mut out = Vec::new();
    table.resubscribe(&mut out);
    let expected = format!("SUB a {plain}\r\nSUB c.* q {queue}\r\nSUB d {limited}\r\nUNSUB {limited} 3\r\n");
    assert_eq!(String::from_utf8(out), Ok(expected));
}

proptest! {
    /// Compared with a map from ids to values.
    #[test]
    fn the_table_is_a_map(steps in proptest::collection::vec((0..4_u8, any::<prop::sample::Index>()), 1..200)) {
        let mut table = Subscriptions::new();
        let mut model: BTreeMap<u64, usize> = BTreeMap::new();
        let mut given = Vec::new();
        for (value, (kind, pick)) in steps.into_iter().enumerate() {
            if kind < 2 || given.is_empty() {
                let sid = table.insert(subject("a"), None, value).expect("room");
                prop_assert!(!given.contains(&sid), "{} given out twice", sid);
                given.push(sid);
                model.insert(sid.raw(), value);
            } else {
                let sid = given[pick.index(given.len())];
                if kind == 2 {
                    prop_assert_eq!(table.remove(sid).map(|subscribed| subscribed.value), model.remove(&sid.raw()));
                }
                let mut expected = model.get(&sid.raw()).copied();
                let expected = expected.as_mut().map_or(Delivery::Unknown, Delivery::Live);
                prop_assert_eq!(table.deliver(sid), expected);
            }
            prop_assert_eq!(table.len(), model.len());
        }
        let held: BTreeMap<_, _> = table.iter().map(|(sid, subscribed)| (sid.raw(), subscribed.value)).collect();
        prop_assert_eq!(held, model);
    }
}

fn subject(text: &str) -> Subject {
    Subject::pattern(text).expect("a pattern")
}
