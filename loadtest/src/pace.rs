//! How fast a run sends: at one rate, at several one after the other, or whenever the last message has arrived.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quantity::{QuantityError, Rate, grouped, parse_count};

/// When a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// Open loop: at its time, whatever became of those before it.
    Steady(Rate),
    /// Open loop, in steps of equal length.
    Ramp(Ramp),
    /// Closed loop: with so many under way, the next when one of them has arrived.
    Closed { concurrency: usize },
}

/// Rates in equal steps, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ramp {
    first: Rate,
    last: Rate,
    steps: u64,
}

/// Each has histograms on each shard, and a row in the report.
const STEPS_MAX: u64 = 100;

const FORM: QuantityError = QuantityError::Form { form: "RATE..RATE/STEPS", example: "10k..200k/10" };

impl Pace {
    /// Messages a second over the whole of it, or what there is of it in a closed loop: nothing.
    pub(crate) fn per_second(self) -> f64 {
        match self {
            Self::Steady(rate) => rate.per_second() as f64,
            Self::Ramp(ramp) => {
                ramp.rates().map(|rate| rate.per_second() as f64).sum::<f64>() / ramp.steps as f64
            }
            Self::Closed { .. } => 0.0,
        }
    }

    pub(crate) fn is_closed(self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steady(rate) => write!(f, "{rate}"),
            Self::Ramp(ramp) => write!(f, "{} to {} in {} steps", ramp.first, ramp.last, ramp.steps),
            Self::Closed { concurrency } => {
                write!(f, "a closed loop of {} under way", grouped(*concurrency as u64))
            }
        }
    }
}

impl Ramp {
    /// Reads `10k..200k/10`: from, to, and the number of steps.
    pub(crate) fn parse(text: &str) -> Result<Self, QuantityError> {
        let (rates, steps) = text.split_once('/').ok_or(FORM)?;
        let (first, last) = rates.split_once("..").ok_or(FORM)?;
        if [first, last, steps].contains(&"") {
            return Err(FORM);
        }
        Ok(Self {
            first: Rate::parse(first)?,
            last: Rate::parse(last)?,
            steps: parse_count(steps, 2..=STEPS_MAX)?,
        })
    }

    /// Of each step.
    pub(crate) fn rates(self) -> impl ExactSizeIterator<Item = Rate> {
        let (first, last) = (i128::from(self.first.per_second()), i128::from(self.last.per_second()));
        let gaps = i128::from(self.steps) - 1;
        (0..self.steps as u32).map(move |step| {
            let rate = first + (last - first) * i128::from(step) / gaps;
            Rate::of(u64::try_from(rate).unwrap_or(1).max(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(text: &str) -> Vec<u64> {
        Ramp::parse(text).expect(text).rates().map(Rate::per_second).collect()
    }

    #[test]
    fn a_ramp_has_equal_steps_and_both_its_ends() {
        assert_eq!(rates("10k..200k/2"), [10_000, 200_000]);
        assert_eq!(rates("10..20/6"), [10, 12, 14, 16, 18, 20]);
        assert_eq!(rates("3k..1k/3"), [3_000, 2_000, 1_000]);
        assert_eq!(rates("5..5/3"), [5, 5, 5]);
    }

    #[test]
    fn what_is_no_ramp_is_refused() {
        for text in
            ["", "10k", "10k..20k", "10k..20k/1", "10k..20k/101", "..20k/2", "10k../2", "0..5/2", "a..b/2"]
        {
            assert!(Ramp::parse(text).is_err(), "{text:?} was accepted");
        }
        for half in ["", "10k", "10k..", "10k..20k", "10k..20k/", "..20k/2"] {
            let error = Ramp::parse(half).expect_err(half).to_string();
            assert_eq!(error, "the form is RATE..RATE/STEPS, as in 10k..200k/10", "{half:?}");
        }
    }

    #[test]
    fn a_pace_tells_its_mean_rate() {
        assert_eq!(Pace::Steady(Rate::of(500)).per_second(), 500.0);
        assert_eq!(Pace::Ramp(Ramp::parse("1k..3k/3").expect("a ramp")).per_second(), 2_000.0);
        assert_eq!(Pace::Closed { concurrency: 4 }.per_second(), 0.0);
    }

    #[test]
    fn a_pace_is_told_in_words() {
        let ramp = Pace::Ramp(Ramp::parse("1k..3k/3").expect("a ramp"));
        assert_eq!(ramp.to_string(), "1 000/s to 3 000/s in 3 steps");
        assert_eq!(Pace::Closed { concurrency: 64 }.to_string(), "a closed loop of 64 under way");
    }
}
