//! SIGINT and SIGTERM: the first one ends the run in order, a second one at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

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
            // In this order, so that only the second signal finds the flag raised.
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
        let after_s = self.at_nanos.saturating_sub(measured_from_nanos) as f64 / 1e9;
        format!("interrupted by {name} after {after_s:.1} s of the measured phase")
    }
}

/// What a shell expects of a process that a signal ended.
pub(crate) fn exit_code(signal: usize) -> u8 {
    128 + u8::try_from(signal).unwrap_or(0)
}
