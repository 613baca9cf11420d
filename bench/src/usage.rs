//! What a stretch of work cost: CPU time of this process, and time by the wall.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// Runs from its making until it is read.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    cpu: Duration,
    wall: Instant,
}

impl Meter {
    /// Starts to measure.
    pub fn start() -> Self {
        Self { cpu: process_cpu(), wall: Instant::now() }
    }

    /// CPU time that all threads of this process have used since the start, user and system together.
    pub fn cpu(&self) -> Duration {
        process_cpu().saturating_sub(self.cpu)
    }

    /// Time since the start.
    pub fn wall(&self) -> Duration {
        self.wall.elapsed()
    }
}

/// CPU time of every thread of this process so far, also of those that have ended.
fn process_cpu() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is writable and of the type that getrusage fills.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    assert_eq!(result, 0, "getrusage(RUSAGE_SELF) fails only for a bad pointer or selector");
    // SAFETY: getrusage succeeded, so it has filled the whole structure.
    let usage = unsafe { usage.assume_init() };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_cpu_time() {
        let meter = Meter::start();
        let mut sum = 0_u64;
        // As long as it takes: a process that works gets CPU time sooner or later.
        while meter.cpu() < Duration::from_millis(1) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }
}
