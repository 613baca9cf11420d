//! Timers: one sleep, and one re-armable alarm for each link.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

#[cfg(not(test))]
use super::lookout::Timer;
#[cfg(test)]
use super::simulated::Timer;

/// The shortest sleep: one that is over only after a look at the sockets.
const SLEEP_MIN: Duration = Duration::from_nanos(100);

/// Sleeps at least `duration`, and always long enough for I/O to be polled.
pub(crate) async fn sleep(duration: Duration) {
    let mut timer = None;
    poll_fn(|cx| match &mut timer {
        None => {
            timer = Some(pending_timer(duration, cx).1);
            Poll::Pending
        }
        Some(timer) => Pin::new(timer).poll(cx),
    })
    .await;
}

/// A timer that is not due yet, and how long it runs. One that is due at its first poll would return
/// to its task without a look at the sockets.
fn pending_timer(duration: Duration, cx: &mut Context<'_>) -> (Duration, Timer) {
    let mut wait = duration.max(SLEEP_MIN);
    loop {
        let mut timer = Timer::new(wait);
        if Pin::new(&mut timer).poll(cx).is_pending() {
            return (wait, timer);
        }
        wait *= 2;
    }
}

/// A timer that its task arms again and again.
///
/// A later deadline leaves the armed one as it is: the task is then woken early, finds nothing due and
/// arms again. That costs a wake now and then, where moving the timer would cost every turn.
#[derive(Default)]
pub(crate) struct Alarm {
    armed: Option<(Instant, Timer)>,
}

impl Alarm {
    /// Makes sure that the task is woken no later than `deadline`.
    pub(crate) fn arm(&mut self, deadline: Instant, now: Instant, cx: &mut Context<'_>) {
        if let Some((armed, _)) = &self.armed
            && *armed <= deadline
            && *armed > now
        {
            return;
        }
        let (wait, timer) = pending_timer(deadline.saturating_duration_since(now), cx);
        self.armed = Some((now + wait, timer));
    }
}
