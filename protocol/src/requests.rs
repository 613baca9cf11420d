//! Requests in flight: reply tokens and deadlines.
//!
//! Deadlines lie in a heap. A request that ends early leaves its deadline there; such leftovers
//! are dropped when they come up, or all at once when they outnumber the live ones. So each is
//! touched a constant number of times, and the heap is never longer than twice the most requests
//! that were in flight, plus 64.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::time::Instant;

use crate::error::RequestsFull;
use crate::slab::{Key, Slab};

/// Requests by reply token: a token is the last part of the subject that the answer comes to.
#[derive(Clone, Debug)]
pub struct Requests<T> {
    slab: Slab<T>,
    deadlines: BinaryHeap<Reverse<(Instant, Key)>>,
}

/// Names a request in flight. As text: 1 to 11 of `0-9A-Za-z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestToken(Key);

impl<T> Requests<T> {
    /// No requests, and room for `max_in_flight` of them, or for
    /// [`SLOTS_MAX`](crate::limits::SLOTS_MAX) if that is less. Memory is taken as they come.
    pub fn new(max_in_flight: usize) -> Self {
        Self { slab: Slab::new(max_in_flight), deadlines: BinaryHeap::new() }
    }

    /// Adds a request.
    ///
    /// # Errors
    /// As many as allowed are in flight; the value is dropped.
    pub fn insert(&mut self, deadline: Instant, value: T) -> Result<RequestToken, RequestsFull> {
        let max = self.slab.max();
        let key = self.slab.insert(value).ok_or(RequestsFull { max })?;
        if self.deadlines.len() >= 2 * self.slab.len() + LEFTOVERS_MIN {
            let slab = &self.slab;
            self.deadlines.retain(|Reverse((_, key))| slab.get(*key).is_some());
        }
        self.deadlines.push(Reverse((deadline, key)));
        Ok(RequestToken(key))
    }

    /// The request with this token, which goes on: more answers may come. `None` if it was never given
    /// out, or its request has ended.
    pub fn find(&self, token: &[u8]) -> Option<(RequestToken, &T)> {
        let token = RequestToken::parse(token)?;
        self.slab.get(token.0).map(|value| (token, value))
    }

    /// The request in flight, if there is but one. An answer whose subject was rewritten on its way
    /// has no token, and can only be for this one.
    pub fn only(&self) -> Option<(RequestToken, &T)> {
        if self.len() != 1 {
            return None;
        }
        self.slab.iter().next().map(|(key, value)| (RequestToken(key), value))
    }

    /// Ends the request with this token: its answer is here. `None` if it was never given out, or
    /// its request has ended.
    pub fn take(&mut self, token: &[u8]) -> Option<T> {
        self.slab.remove(RequestToken::parse(token)?.0)
    }

    /// Ends a request whose answer is of no interest any more.
    pub fn cancel(&mut self, token: RequestToken) -> Option<T> {
        self.slab.remove(token.0)
    }

    /// The earliest deadline of a request in flight.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((deadline, key))) = self.deadlines.peek() {
            if self.slab.get(*key).is_some() {
                return Some(*deadline);
            }
            self.deadlines.pop();
        }
        None
    }

    /// Ends one request whose deadline is `now` or earlier, and frees its place. Call it until
    /// `None`.
    pub fn expire(&mut self, now: Instant) -> Option<T> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse((_, key)) = self.deadlines.pop()?;
        self.slab.remove(key)
    }

    /// Ends all requests, whether or not the iterator is read: the link is gone. Their tokens find
    /// nothing from then on.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.deadlines.clear();
        let ended: Vec<T> = self.slab.keys().into_iter().filter_map(|key| self.slab.remove(key)).collect();
        ended.into_iter()
    }

    /// How many are in flight.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether none is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RequestToken {
    /// Appends the token's text.
    pub fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text(&mut [0; TEXT_BYTES_MAX]));
    }

    /// The token with this text. Each token has but one.
    fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text[0] == DIGITS[0] {
            return None;
        }
        text.iter()
            .try_fold(0_u64, |key, byte| {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'A'..=b'Z' => byte - b'A' + 10,
                    b'a'..=b'z' => byte - b'a' + 36,
                    _ => return None,
                };
                key.checked_mul(DIGITS.len() as u64)?.checked_add(u64::from(digit))
            })
            .map(Self)
    }

    fn text(self, buffer: &mut [u8; TEXT_BYTES_MAX]) -> &[u8] {
        let mut key = self.0;
        let mut start = TEXT_BYTES_MAX;
        // Eleven digits of base 62 hold any u64.
        while key > 0 && start > 0 {
            start -= 1;
            buffer[start] = DIGITS[(key % DIGITS.len() as u64) as usize];
            key /= DIGITS.len() as u64;
        }
        &buffer[start..]
    }
}

impl fmt::Display for RequestToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&String::from_utf8_lossy(self.text(&mut [0; TEXT_BYTES_MAX])))
    }
}

/// Deadlines of ended requests that are not worth a sweep.
const LEFTOVERS_MIN: usize = 64;
const TEXT_BYTES_MAX: usize = 11;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LEFTOVERS_MIN, Requests};

    #[test]
    fn deadlines_of_ended_requests_do_not_pile_up() {
        let now = Instant::now();
        let mut requests = Requests::new(100);
        let kept: Vec<_> =
            (0..10).map(|_| requests.insert(now + Duration::from_secs(1), ()).expect("room")).collect();
        for round in 0..100_000 {
            let token = requests.insert(now + Duration::from_secs(2 + round), ()).expect("room");
            assert_eq!(requests.cancel(token), Some(()));
            assert!(requests.deadlines.len() <= 2 * 11 + LEFTOVERS_MIN);
        }
        assert_eq!(requests.next_deadline(), Some(now + Duration::from_secs(1)));
        assert!(kept.into_iter().all(|token| requests.cancel(token).is_some()));
        assert_eq!(requests.next_deadline(), None);
        assert!(requests.deadlines.is_empty());
    }
}
