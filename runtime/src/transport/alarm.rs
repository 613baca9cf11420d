//! Timers: one sleep, and one re-armable alarm for each link.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use glommio::timer::Timer;

/// The shortest sleep that reaches the reactor, which polls I/O only when no task is runnable.
const SLEEP_MIN: Duration = Duration::from_nanos(100);

/// Sleeps at least `duration`, and always long enough for I/O to be polled.
pub(crate) async fn sleep(duration: Duration) {
    Timer::new(duration.max(SLEEP_MIN)).await;
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
        let wait = deadline.saturating_duration_since(now).max(SLEEP_MIN);
        let mut timer = Timer::new(wait);
        match Pin::new(&mut timer).poll(cx) {
            Poll::Pending => self.armed = Some((now + wait, timer)),
            Poll::Ready(_) => {
                // Due already: the task is to run again after the reactor has been polled.
                self.armed = None;
                cx.waker().wake_by_ref();
            }
        }
    }
}
