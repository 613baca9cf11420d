//! Whether two sets of values differ by more than chance: ranks alone, no assumption about their distribution.

/// The middle value, or the mean of the two in the middle; none of nothing.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Above so many values the distribution is taken to be normal.
const EXACT_MAX: usize = 60;

/// The chance that two samples of the same distribution lie at least as far apart as these: the two-sided test
/// of Mann and Whitney, exact for up to [`EXACT_MAX`] values, ties included. One when a set is empty.
pub(super) fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(a, b);
    let sum: usize = ranks[..a.len()].iter().sum();
    if ranks.len() <= EXACT_MAX { exact(&ranks, a.len(), sum) } else { normal(&ranks, a.len(), sum) }
}

/// The chance that so few values of the same distribution as `a` lie as far from it as `b`: Student's, two-sided, of
/// the logarithms, since times are wrong by factors. One when that cannot be said.
pub(super) fn outlying(a: &[f64], b: &[f64]) -> f64 {
    if a.len() < 2 || b.is_empty() || a.iter().chain(b).any(|value| *value <= 0.0) {
        return 1.0;
    }
    let logs = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<f64>>();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (of_a, of_b) = (logs(a), logs(b));
    let (mean_a, freedom) = (mean(&of_a), of_a.len() - 1);
    let variance = of_a.iter().map(|value| (value - mean_a).powi(2)).sum::<f64>() / freedom as f64;
    let distance = (mean(&of_b) - mean_a).abs();
    if distance == 0.0 {
        return 1.0;
    }
    let scale = (variance * (1.0 / of_a.len() as f64 + 1.0 / of_b.len() as f64)).sqrt();
    student(distance / scale, freedom)
}

/// The part of Student's distribution that is further from zero than `t`, which is not negative (Abramowitz and
/// Stegun, 26.7.3 and 26.7.4).
fn student(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2 == 1;
    let (mut term, mut series) = if is_odd { (cosine, 0.0) } else { (1.0, 0.0) };
    let mut power = usize::from(is_odd);
    while power + 2 <= freedom {
        series += term;
        power += 2;
        term *= cosine * cosine * (power - 1) as f64 / power as f64;
    }
    let within = if is_odd { (angle + sine * series) * std::f64::consts::FRAC_2_PI } else { sine * series };
    (1.0 - within).clamp(0.0, 1.0)
}

/// The ranks of all values, those of `a` first, from 1 and times two, so that the mean rank of ties is whole.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let rank = |value: &f64| {
        let below = all.iter().filter(|other| other.total_cmp(value).is_lt()).count();
        let same = all.iter().filter(|other| other.total_cmp(value).is_eq()).count();
        2 * below + same + 1
    };
    all.iter().map(rank).collect()
}

/// Of all ways to choose as many ranks, the part whose sum is at least as far from the middle as `sum`.
fn exact(ranks: &[usize], chosen: usize, sum: usize) -> f64 {
    let most: usize = ranks.iter().sum();
    // ways[n][s]: in how many ways n ranks of those seen so far have the sum s.
    let mut ways = vec![vec![0.0_f64; most + 1]; chosen + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for count in (1..=chosen).rev() {
            for total in (*rank..=most).rev() {
                ways[count][total] += ways[count - 1][total - rank];
            }
        }
    }
    // The mean of the sums is most * chosen / ranks; times the number of ranks, all is whole.
    let distance = |total: usize| (total * ranks.len()).abs_diff(most * chosen);
    let far: f64 =
        (0..=most).filter(|total| distance(*total) >= distance(sum)).map(|total| ways[chosen][total]).sum();
    let all: f64 = ways[chosen].iter().sum();
    (far / all).min(1.0)
}

/// The same from the normal distribution with the mean and the variance of the sum, half a step nearer.
fn normal(ranks: &[usize], chosen: usize, sum: usize) -> f64 {
    let (count, chosen) = (ranks.len() as f64, chosen as f64);
    let mean_rank = ranks.iter().sum::<usize>() as f64 / count;
    let spread: f64 = ranks.iter().map(|rank| (*rank as f64 - mean_rank).powi(2)).sum();
    let variance = chosen * (count - chosen) / (count * (count - 1.0)) * spread;
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = ((sum as f64 - mean_rank * chosen).abs() - 1.0).max(0.0);
    (2.0 * upper_tail(distance / variance.sqrt())).min(1.0)
}

/// The part of the standard normal distribution above `z`, which is not negative (Abramowitz and Stegun, 26.2.17;
/// the error is below 1e-7).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let coefficients = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let series = coefficients.iter().rev().fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    series * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::mix;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    /// Values of the tables of the test, and two with ties that were counted by hand.
    #[test]
    fn the_chance_is_that_of_the_tables() {
        let close = |a: &[f64], b: &[f64], expected: f64| {
            let found = mann_whitney(a, b);
            assert!((found - expected).abs() < 1e-9, "{a:?} {b:?}: {found}, not {expected}");
            assert!((mann_whitney(b, a) - expected).abs() < 1e-9, "the order of the sets does not matter");
        };
        close(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0], 2.0 / 252.0);
        close(&[1.0, 2.0, 3.0, 4.0, 6.0], &[5.0, 7.0, 8.0, 9.0, 10.0], 4.0 / 252.0);
        close(&[1.0], &[2.0, 3.0, 4.0], 0.5);
        close(&[1.0, 1.0, 1.0], &[1.0, 1.0], 1.0);
        close(&[1.0, 1.0], &[2.0, 2.0], 2.0 / 6.0);
        assert_eq!(mann_whitney(&[], &[1.0]), 1.0);
    }

    #[test]
    fn students_chance_is_that_of_the_tables() {
        for (freedom, t, expected) in [
            (1, 63.657, 0.01),
            (2, 9.925, 0.01),
            (3, 5.841, 0.01),
            (4, 4.604, 0.01),
            (4, 2.776, 0.05),
            (5, 4.032, 0.01),
            (9, 3.250, 0.01),
            (30, 2.750, 0.01),
            (120, 1.980, 0.05),
        ] {
            assert!((student(t, freedom) - expected).abs() < 1e-4, "{freedom} {t}: {}", student(t, freedom));
        }
        assert_eq!((student(0.0, 4), student(f64::INFINITY, 5)), (1.0, 0.0));
    }

    #[test]
    fn values_that_say_nothing_have_a_chance_of_one() {
        for (a, b) in
            [(&[1.0][..], &[5.0][..]), (&[1.0, 2.0], &[]), (&[0.0, 1.0], &[5.0]), (&[3.0, 3.0], &[3.0])]
        {
            assert_eq!(outlying(a, b), 1.0, "{a:?} {b:?}");
        }
        assert_eq!(outlying(&[3.0, 3.0], &[4.0]), 0.0);
    }

    #[test]
    fn many_values_are_judged_alike_by_both_ways() {
        let value = |number: u64, shift: f64| (mix(number) % 1_000) as f64 + shift;
        for shift in [0.0, 50.0, 200.0] {
            let a: Vec<f64> = (0..30).map(|number| value(number, 0.0)).collect();
            let b: Vec<f64> = (100..130).map(|number| value(number, shift)).collect();
            let ranks = doubled_ranks(&a, &b);
            let sum = ranks[..30].iter().sum();
            let (exact, normal) = (exact(&ranks, 30, sum), normal(&ranks, 30, sum));
            assert!((exact - normal).abs() < 0.01, "shift {shift}: {exact} {normal}");
        }
    }

    #[test]
    fn sets_of_the_same_distribution_seldom_differ() {
        let mut differing = 0;
        for seed in 0..1_000_u64 {
            let values: Vec<f64> =
                (0..10).map(|number| (mix(seed * 10 + number) % 1_000_000) as f64).collect();
            differing += u32::from(mann_whitney(&values[..5], &values[5..]) <= 0.01);
        }
        // 2 of 252 by its definition; 8 of 1000 with a standard deviation of 2.8.
        assert!(differing <= 20, "{differing} of 1000");
    }
}
