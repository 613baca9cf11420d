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

#[cfg(test)]
mod tests {
    use super::*;

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
