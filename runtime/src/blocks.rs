//! How often and how long a shard has not yielded: written by the watchdog, read by anybody.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// The counts of one shard. Only the watchdog writes them.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    count: AtomicU64,
    now_ms: AtomicU64,
    /// Whether the time that goes on is counted already.
    is_counted: AtomicBool,
    longest_ms: AtomicU64,
}

impl Blocks {
    /// Notes for how long the shard has been blocked by now. Returns whether with this it has been blocked for
    /// as long as `limit`, and had not been before.
    pub(crate) fn blocked(&self, duration: Duration, limit: Duration) -> bool {
        // Half a billion years fit.
        let (ms, limit_ms) = (duration.as_millis() as u64, limit.as_millis() as u64);
        self.now_ms.store(ms, Ordering::Relaxed);
        if ms < limit_ms {
            return false;
        }
        self.longest_ms.fetch_max(ms, Ordering::Relaxed);
        let begins = !self.is_counted.swap(true, Ordering::AcqRel);
        self.count.fetch_add(u64::from(begins), Ordering::Relaxed);
        begins
    }

    /// Notes that the shard yields. Returns for how long it had not.
    pub(crate) fn yielded(&self) -> Duration {
        self.is_counted.store(false, Ordering::Release);
        Duration::from_millis(self.now_ms.swap(0, Ordering::Relaxed))
    }

    /// Whether the shard is blocked, and that is counted.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is_counted.load(Ordering::Acquire)
    }

    /// Times that the shard was blocked for as long as the limit.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// For how long it has been blocked by now; zero when it is not.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Ordering::Relaxed))
    }

    /// The longest of those times.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_counts_once_and_only_from_the_limit_on() {
        let blocks = Blocks::default();
        let (ms, limit) = (Duration::from_millis, Duration::from_millis(500));
        let told: Vec<bool> = [50, 450, 500, 550, 2000].map(|at| blocks.blocked(ms(at), limit)).into();
        assert_eq!(told, [false, false, true, false, false]);
        assert_eq!((blocks.count(), blocks.now(), blocks.longest()), (1, ms(2000), ms(2000)));
        assert_eq!(blocks.yielded(), ms(2000));
        assert_eq!(blocks.now(), Duration::ZERO);
        assert!(!blocks.blocked(ms(499), limit));
        blocks.yielded();
        assert!(blocks.blocked(ms(600), limit));
        assert_eq!((blocks.count(), blocks.longest()), (2, ms(2000)));
    }
}
