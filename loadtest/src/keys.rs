//! Which key each call has, and which topic each message: all alike, or few of them often.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::quantity::QuantityError;
use crate::traffic::{below, mix};

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum KeyChoice {
    Uniform,
    /// The key of rank r has a weight of 1 / r^exponent.
    Zipf(f64),
}

/// The keys of a run, shared by its clones. The same seed gives the same keys in the same order.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    seed: u64,
    count: u64,
    /// For [`KeyChoice::Zipf`]: the cumulated weight up to each rank, the last of them 1.
    cumulated: Arc<[f64]>,
}

/// Beyond it nearly every call has the first key.
const EXPONENT_MAX: f64 = 5.0;

impl KeyChoice {
    /// Reads `uniform` or `zipf:1.1`.
    pub(crate) fn parse(text: &str) -> Result<Self, QuantityError> {
        if text == "uniform" {
            return Ok(Self::Uniform);
        }
        let exponent = text.strip_prefix("zipf:").and_then(|exponent| exponent.parse::<f64>().ok());
        match exponent.filter(|exponent| *exponent > 0.0 && *exponent <= EXPONENT_MAX) {
            Some(exponent) => Ok(Self::Zipf(exponent)),
            None => Err(QuantityError::Form {
                form: "uniform or zipf:EXPONENT, above 0 and at most 5",
                example: "zipf:1.1",
            }),
        }
    }

    /// As it is written.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Uniform => "uniform".to_owned(),
            Self::Zipf(exponent) => format!("zipf:{exponent}"),
        }
    }
}

impl Keys {
    /// `count` keys, at least one.
    pub(crate) fn new(choice: KeyChoice, count: usize, seed: u64) -> Self {
        let count = count.max(1);
        let mut cumulated = Vec::new();
        if let KeyChoice::Zipf(exponent) = choice {
            let mut sum = 0.0;
            for rank in 1..=count {
                sum += (rank as f64).powf(-exponent);
                cumulated.push(sum);
            }
            for weight in &mut cumulated {
                *weight /= sum;
            }
        }
        Self { seed, count: count as u64, cumulated: cumulated.into() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// The key of call or message `index`, by its number.
    pub(crate) fn key_of(&self, index: u64) -> u64 {
        let random = mix(self.seed ^ mix(index));
        if self.cumulated.is_empty() {
            return below(random, self.count);
        }
        // 53 bits are what a double holds.
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let rank = self.cumulated.partition_point(|weight| *weight <= share) as u64;
        rank.min(self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(choice: KeyChoice, count: usize) -> Vec<u32> {
        let keys = Keys::new(choice, count, 42);
        let mut hits = vec![0; count];
        for index in 0..100_000 {
            hits[keys.key_of(index) as usize] += 1;
        }
        hits
    }

    #[test]
    fn uniform_keys_are_all_alike() {
        // 1000 each, standard deviation 31: eight of them either way.
        assert!(hits(KeyChoice::Uniform, 100).iter().all(|hits| (750..1250).contains(hits)));
    }

    #[test]
    fn zipf_keys_have_their_shares() {
        let hits = hits(KeyChoice::Zipf(1.0), 4);
        // The shares of 1, 1/2, 1/3 and 1/4: 48 %, 24 %, 16 % and 12 %.
        for (hits, share) in hits.iter().zip([48_000, 24_000, 16_000, 12_000]) {
            assert!(hits.abs_diff(share) < 1_000, "{hits} of {share}");
        }
    }

    #[test]
    fn another_seed_gives_other_keys() {
        let of =
            |seed| (0..100).map(|i| Keys::new(KeyChoice::Uniform, 50, seed).key_of(i)).collect::<Vec<_>>();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn choices_are_read() {
        assert_eq!(KeyChoice::parse("uniform"), Ok(KeyChoice::Uniform));
        assert_eq!(KeyChoice::parse("zipf:1.1"), Ok(KeyChoice::Zipf(1.1)));
        for text in ["", "zipf", "zipf:", "zipf:0", "zipf:6", "zipf:x", "zipf:NaN", "zipf:-1", "normal"] {
            assert!(KeyChoice::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
