//! What a stretch of work cost: CPU time of this process, and time by the wall.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// Runs from its making until it is read.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    of: Of,
    cpu: Duration,
    wall: Instant,
}

/// Whose CPU time is measured.
#[derive(Clone, Copy, Debug)]
enum Of {
    Process,
    Thread,
}

impl Meter {
    /// Starts to measure this process: every thread, also those that end meanwhile.
    pub fn start() -> Self {
        Self { of: Of::Process, cpu: cpu_so_far(Of::Process), wall: Instant::now() }
    }

    /// Starts to measure the calling thread, which must also be the one that reads the meter.
    pub fn start_on_thread() -> Self {
        Self { of: Of::Thread, cpu: cpu_so_far(Of::Thread), wall: Instant::now() }
    }

    /// CPU time used since the start, user and system together.
    pub fn cpu(&self) -> Duration {
        cpu_so_far(self.of).saturating_sub(self.cpu)
    }

    /// Time since the start.
    pub fn wall(&self) -> Duration {
        self.wall.elapsed()
    }
}

fn cpu_so_far(of: Of) -> Duration {
    let who = match of {
        Of::Process => libc::RUSAGE_SELF,
        Of::Thread => libc::RUSAGE_THREAD,
    };
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is writable and of the type that getrusage fills.
    let result = unsafe { libc::getrusage(who, usage.as_mut_ptr()) };
    assert_eq!(result, 0, "getrusage fails only for a bad pointer or selector");
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

    /// Works until this thread has used so much CPU time, which takes as long as it takes.
    fn work_for(cpu: Duration) {
        let meter = Meter::start_on_thread();
        let mut sum = 0_u64;
        while meter.cpu() < cpu {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }

    #[test]
    fn what_a_thread_uses_its_process_uses() {
        let process = Meter::start();
        work_for(Duration::from_millis(2));
        assert!(process.cpu() >= Duration::from_millis(1));
    }

    #[test]
    fn the_work_of_another_thread_is_the_process_s_alone() {
        let (process, thread) = (Meter::start(), Meter::start_on_thread());
        std::thread::spawn(|| work_for(Duration::from_millis(4))).join().unwrap();
        assert!(process.cpu() >= thread.cpu() + Duration::from_millis(2));
    }
}
