//! The machine's monotonic clock as a number that processes can tell each other.

use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`: the same clock in every process of the machine.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut time = std::mem::MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to a `timespec` of our own; all-zero bytes are a valid one, so it is
    // initialised whether or not the call writes to it.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr());
        time.assume_init()
    };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A duration as whole nanoseconds, at most the largest number.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A time on the run's clock as people are told it everywhere: in seconds since the measured phase began, which in the
/// warm-up are negative. The times of faults count from there too.
pub(crate) fn measured_s(at_nanos: u64, measured_from_nanos: u64) -> f64 {
    (at_nanos as f64 - measured_from_nanos as f64) / 1e9
}

/// When a line of progress is due after this time on the run's clock: at whole seconds of the measured phase, and of the
/// warm-up before it.
pub(crate) fn next_second_nanos(at_nanos: u64, measured_from_nanos: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let begin = measured_from_nanos % SECOND;
    match at_nanos.checked_sub(begin) {
        None => begin,
        Some(since) => begin + (since / SECOND + 1) * SECOND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_progress_are_due_at_whole_seconds_of_the_measured_phase() {
        const MILLI: u64 = 1_000_000;
        for (measured_from_ms, expected) in [
            (0, [1.0, 2.0, 3.0]),
            (2_000, [-1.0, 0.0, 1.0]),
            (500, [0.0, 1.0, 2.0]),
            (2_300, [-2.0, -1.0, 0.0]),
        ] {
            let measured_from = measured_from_ms * MILLI;
            let mut at = 0;
            let told = [(); 3].map(|()| {
                at = next_second_nanos(at, measured_from);
                measured_s(at, measured_from)
            });
            assert_eq!(told, expected, "{measured_from_ms}");
            // However late the one before was.
            assert_eq!(next_second_nanos(at + 900 * MILLI, measured_from), at + 1_000 * MILLI);
        }
    }

    #[test]
    fn the_clock_never_goes_back() {
        let mut before = monotonic_nanos();
        assert!(before > 0);
        for _ in 0..1_000 {
            let after = monotonic_nanos();
            assert!(after >= before);
            before = after;
        }
    }
}
