//! Requests in flight: tokens, deadlines, places.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use croupier_protocol::{RequestToken, Requests, RequestsFull};
use proptest::prelude::*;

#[test]
fn an_answer_ends_its_request_once() {
    let now = Instant::now();
    let mut requests = Requests::new(10);
    let first = text(requests.insert(now, 'a').expect("room"));
    let second = text(requests.insert(now, 'b').expect("room"));
    assert_ne!(first, second);
    assert_eq!(requests.take(&second), Some('b'));
    assert_eq!(requests.take(&second), None);
    assert_eq!(requests.take(&first), Some('a'));
    assert!(requests.is_empty());
    assert_eq!(requests.next_deadline(), None);
}

#[test]
fn only_so_many_are_in_flight() {
    let now = Instant::now();
    let mut requests = Requests::new(2);
    let first = requests.insert(now, 1).expect("room");
    requests.insert(now, 2).expect("room");
    assert_eq!(requests.insert(now, 3), Err(RequestsFull { max: 2 }));
    assert_eq!(requests.cancel(first), Some(1));
    assert_eq!(requests.cancel(first), None);
    assert!(requests.insert(now, 3).is_ok());
    assert_eq!(requests.len(), 2);
    assert_eq!(Requests::<()>::new(0).insert(now, ()), Err(RequestsFull { max: 0 }));
}

#[test]
fn requests_expire_in_the_order_of_their_deadlines_and_free_their_places() {
    let now = Instant::now();
    let at = |milliseconds| now + Duration::from_millis(milliseconds);
    let mut requests = Requests::new(3);
    let late = requests.insert(at(30), 30).expect("room");
    requests.insert(at(10), 10).expect("room");
    let middle = requests.insert(at(20), 20).expect("room");
    assert_eq!(requests.next_deadline(), Some(at(10)));
    assert_eq!(requests.expire(at(9)), None);
    assert_eq!(requests.expire(at(10)), Some(10));
    assert_eq!(requests.next_deadline(), Some(at(20)));
    assert_eq!(requests.cancel(middle), Some(20));
    assert_eq!(requests.next_deadline(), Some(at(30)));
    assert_eq!((requests.expire(at(100)), requests.expire(at(100))), (Some(30), None));
    assert_eq!(requests.len(), 0);
    for deadline in 1..4 {
        assert!(requests.insert(at(deadline), deadline).is_ok(), "a timed-out request frees its place");
    }
    assert_eq!(requests.take(&text(late)), None, "a late answer finds nothing");
}

#[test]
fn a_late_answer_never_ends_the_next_request_in_its_place() {
    let now = Instant::now();
    let mut requests = Requests::new(1);
    let mut past = Vec::<Vec<u8>>::new();
    for round in 0..1000 {
        let token = requests.insert(now, round).expect("room");
        for late in past.iter().rev().take(20) {
            assert_eq!(requests.take(late), None);
        }
        assert!(!past.contains(&text(token)));
        past.push(text(token));
        let ended = if round % 2 == 0 { requests.take(&text(token)) } else { requests.expire(now) };
        assert_eq!(ended, Some(round));
    }
}

#[test]
fn a_token_is_short_plain_text() {
    let mut requests = Requests::new(usize::MAX);
    for value in 0..5000 {
        let token = requests.insert(Instant::now(), value).expect("room");
        let text = text(token);
        assert!((1..=11).contains(&text.len()) && text.iter().all(u8::is_ascii_alphanumeric));
        assert_eq!(token.to_string().into_bytes(), text);
        if value % 3 == 0 {
            assert_eq!(requests.take(&text), Some(value));
        }
    }
}

#[test]
fn text_that_is_no_token_finds_nothing() {
    let mut requests = Requests::new(10);
    assert_eq!(text(requests.insert(Instant::now(), ()).expect("room")), b"1");
    for token in
        ["", "0", "01", "001", "2", "1 ", "-1", "1.", "zzzzzzzzzzz", "zzzzzzzzzzzz", "LygHa16AHYF", "é", "\0"]
    {
        assert_eq!(requests.take(token.as_bytes()), None, "{token:?}");
    }
    assert_eq!(requests.take(b"1"), Some(()));
}

#[test]
fn the_end_of_a_link_ends_them_all() {
    let now = Instant::now();
    let mut requests = Requests::new(10);
    let tokens: Vec<_> = (0..5).map(|value| text(requests.insert(now, value).expect("room"))).collect();
    requests.take(&tokens[1]);
    let mut ended: Vec<_> = requests.drain().collect();
    ended.sort_unstable();
    assert_eq!(ended, [0, 2, 3, 4]);
    assert_eq!((requests.len(), requests.next_deadline(), requests.expire(now)), (0, None, None));
    assert!(tokens.iter().all(|token| requests.take(token).is_none()));
    assert!(requests.insert(now, 9).is_ok());
    assert_eq!(requests.next_deadline(), Some(now));
}

#[test]
fn a_drain_ends_them_all_even_if_it_is_not_read_to_its_end() {
    let now = Instant::now();
    let mut requests = Requests::new(10);
    for value in 0..3 {
        requests.insert(now, value).expect("room");
    }
    assert!(requests.drain().next().is_some());
    assert_eq!(requests.len(), 0, "what is not read is dropped");
    assert_eq!(requests.expire(now), None);
}

proptest! {
    /// Compared with a map from tokens to deadlines.
    #[test]
    fn the_table_is_a_map(steps in proptest::collection::vec((0..8_u8, 0..50_u64, any::<prop::sample::Index>()), 1..400)) {
        let start = Instant::now();
        let mut now = start;
        let mut requests = Requests::new(20);
        let mut model: BTreeMap<Vec<u8>, (Instant, usize)> = BTreeMap::new();
        let mut given: Vec<RequestToken> = Vec::new();
        for (value, (kind, time, pick)) in steps.into_iter().enumerate() {
            match kind {
                0..=3 => {
                    let deadline = now + Duration::from_millis(time);
                    let inserted = requests.insert(deadline, value);
                    prop_assert_eq!(inserted.is_ok(), model.len() < 20);
                    if let Ok(token) = inserted {
                        given.push(token);
                        prop_assert!(model.insert(text(token), (deadline, value)).is_none());
                    }
                }
                4..=6 if !given.is_empty() => {
                    let token = given[pick.index(given.len())];
                    let ended = if kind == 4 { requests.cancel(token) } else { requests.take(&text(token)) };
                    prop_assert_eq!(ended, model.remove(&text(token)).map(|(_, value)| value));
                }
                _ => {
                    now += Duration::from_millis(time);
                    let mut last = start;
                    while let Some(value) = requests.expire(now) {
                        let (token, (deadline, _)) =
                            model.iter().find(|(_, (_, had))| *had == value).map(|(token, had)| (token.clone(), *had)).expect("in flight");
                        prop_assert!(last <= deadline && deadline <= now);
                        last = deadline;
                        model.remove(&token);
                    }
                    prop_assert!(model.values().all(|(deadline, _)| *deadline > now));
                }
            }
            prop_assert_eq!(requests.len(), model.len());
            prop_assert_eq!(requests.next_deadline(), model.values().map(|(deadline, _)| *deadline).min());
        }
    }
}

fn text(token: RequestToken) -> Vec<u8> {
    let mut out = Vec::new();
    token.write_to(&mut out);
    out
}

#[test]
fn a_request_that_is_found_goes_on_until_it_is_ended() {
    let now = Instant::now();
    let mut requests = Requests::new(10);
    let token = requests.insert(now, "many").expect("room");
    let text = token.to_string();
    for _ in 0..3 {
        assert_eq!(requests.find(text.as_bytes()), Some((token, &"many")));
    }
    assert_eq!(requests.find(b""), None);
    assert_eq!(requests.find(b"not.a.token"), None);
    assert_eq!(requests.cancel(token), Some("many"));
    assert_eq!(requests.find(text.as_bytes()), None);
}

#[test]
fn only_a_lone_request_is_the_only_one() {
    let now = Instant::now();
    let mut requests = Requests::new(10);
    assert_eq!(requests.only(), None);
    let first = requests.insert(now, "first").expect("room");
    let second = requests.insert(now, "second").expect("room");
    assert_eq!(requests.only(), None, "there are two");
    requests.cancel(first);
    assert_eq!(requests.only(), Some((second, &"second")));
    requests.cancel(second);
    assert_eq!(requests.only(), None);
}
