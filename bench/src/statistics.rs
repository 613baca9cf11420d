//! The arithmetic over rounds.

/// The middle of a set of measurements, and its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median: of an even number of values, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of these values; `None` without any. A value that is no number counts as the largest.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let upper = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[upper] } else { (sorted[upper - 1] + sorted[upper]) / 2.0 };
        Some(Self { median, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], median: f64, least: f64, most: f64) {
        assert_eq!(Spread::of(values.iter().copied()), Some(Spread { median, least, most }), "{values:?}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        check(&[3.0], 3.0, 3.0, 3.0);
        check(&[4.0, 1.0], 2.5, 1.0, 4.0);
        check(&[9.0, 1.0, 2.0], 2.0, 1.0, 9.0);
        check(&[1.0, 100.0, 3.0, 2.0], 2.5, 1.0, 100.0);
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Spread::of([]), None);
    }
}
