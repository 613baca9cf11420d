//! CPU time of the calling thread and of the process, by the scheduler's own count.
//!
//! [`crate::usage::Meter`] reads `getrusage`, which on some kernels counts in ticks of 4 ms; what is measured here
//! is shorter.

use std::time::Duration;

/// CPU time that the calling thread has used, user and system.
#[must_use]
pub fn of_thread() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of this process have used, user and system.
#[must_use]
pub fn of_process() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable and of the type that clock_gettime fills.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "clock_gettime fails only for a clock that does not exist");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_both_clocks_and_sleep_in_neither() {
        // What passes between the two counts for the process.
        let process = of_process();
        let thread = of_thread();
        let mut sum = 0_u64;
        while of_thread() - thread < Duration::from_micros(200) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(of_process() - process >= Duration::from_micros(200));
        let before = of_thread();
        std::thread::sleep(Duration::from_millis(20));
        assert!(of_thread() - before < Duration::from_millis(20));
    }
}
