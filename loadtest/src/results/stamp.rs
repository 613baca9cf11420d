//! The time of a run, as UTC, for names of folders and for people.

use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: u64 = 86_400;

/// A second of the proleptic Gregorian calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
}

impl Stamp {
    /// This time, without its fraction; before 1970 it is 1970.
    pub(crate) fn of(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (year, month, day) = date(seconds / SECONDS_A_DAY);
        Self { year, month, day, second_of_day: seconds % SECONDS_A_DAY }
    }

    /// `20261122T074503Z`: sorts by time, and fits every file system.
    pub(crate) fn compact(self) -> String {
        let (hour, minute, second) = self.clock();
        format!("{:04}{:02}{:02}T{hour:02}{minute:02}{second:02}Z", self.year, self.month, self.day)
    }

    /// `2026-11-22T07:45:03Z`, as RFC 3339 has it.
    pub(crate) fn extended(self) -> String {
        let (hour, minute, second) = self.clock();
        format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", self.year, self.month, self.day)
    }

    fn clock(self) -> (u64, u64, u64) {
        let second = self.second_of_day;
        (second / 3_600, second / 60 % 60, second % 60)
    }
}

/// Year, month and day of a number of days since 1970. A year is taken to begin in March, so that the leap day
/// is its last; 400 years have 146097 days.
fn date(days: u64) -> (u64, u64, u64) {
    // Days from the first of March of the year 0 to 1970.
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn stamps_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let stamp = Stamp::of(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(stamp.extended(), expected);
            assert_eq!(stamp.compact(), expected.replace(['-', ':'], ""));
        }
    }

    #[test]
    fn days_follow_each_other_for_centuries() {
        let mut before = date(0);
        for days in 1..300_000 {
            let today = date(days);
            let is_next = match today {
                (year, 1, 1) => before == (year - 1, 12, 31),
                (year, month, 1) => before.0 == year && before.1 == month - 1 && before.2 >= 28,
                (year, month, day) => before == (year, month, day - 1),
            };
            assert!(is_next, "{before:?} {today:?}");
            before = today;
        }
    }
}
