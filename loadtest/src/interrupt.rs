//! SIGINT and SIGTERM: the first one ends the run in order, a second one at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::clock::measured_s;
use crate::live;

/// Remembers whether the run has been asked to stop, and by which signal.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Installs the handlers, for the life of the process.
    pub(crate) fn install() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let is_second = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // In this order, so that only the second signal finds the flag raised. It may come before the screen has
            // gone, and ends the process at once.
            let is_end = Arc::clone(&is_second);
            let rescue = move || {
                if is_end.load(Ordering::Relaxed) {
                    live::give_back();
                }
            };
            // SAFETY: it reads flags and makes two system calls that a handler may make; it neither locks nor allocates.
            unsafe { signal_hook::low_level::register(number, rescue) }?;
            signal_hook::flag::register_conditional_shutdown(
                number,
                exit_code(number as usize).into(),
                Arc::clone(&is_second),
            )?;
            signal_hook::flag::register(number, Arc::clone(&is_second))?;
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Self { signal })
    }

    /// The signal that asked to stop, if one has.
    pub(crate) fn signal(&self) -> Option<usize> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}

/// A run that was asked to stop while it was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interruption {
    pub(crate) signal: usize,
    /// On the run's clock.
    pub(crate) at_nanos: u64,
}

impl Interruption {
    /// Why the run proves nothing, whose measured phase began at this time.
    pub(crate) fn reason(&self, measured_from_nanos: u64) -> String {
        let name = if self.signal == SIGINT as usize { "SIGINT" } else { "SIGTERM" };
        format!("interrupted by {name} {}", self.when(measured_from_nanos))
    }

    /// A line for people, told at once.
    pub(crate) fn told(&self, measured_from_nanos: u64) -> String {
        format!("interrupted {}; collecting", self.when(measured_from_nanos))
    }

    fn when(&self, measured_from_nanos: u64) -> String {
        match measured_s(self.at_nanos, measured_from_nanos) {
            seconds if seconds < 0.0 => {
                format!("in the warm-up, {:.1} s before the measured phase", -seconds)
            }
            seconds => format!("after {seconds:.1} s of the measured phase"),
        }
    }
}

/// What a shell expects of a process that a signal ended.
pub(crate) fn exit_code(signal: usize) -> u8 {
    128 + u8::try_from(signal).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_says_in_which_phase_it_was() {
        let told = |at_ms: u64| {
            Interruption { signal: SIGINT as usize, at_nanos: at_ms * 1_000_000 }.reason(2_000_000_000)
        };
        assert_eq!(told(3_240), "interrupted by SIGINT after 1.2 s of the measured phase");
        assert_eq!(told(500), "interrupted by SIGINT in the warm-up, 1.5 s before the measured phase");
    }
}
