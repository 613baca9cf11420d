//! The time on a shard, and waiting with a limit.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures_lite::future;

use crate::{Elapsed, transport};

/// The time. Whatever a link does goes by this one, so that a simulation can have its own.
#[inline]
pub(crate) fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = transport::simulated::now() {
        return now;
    }
    Instant::now()
}

/// Runs `future` for at most `limit`; then drops it.
pub(crate) async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    future::or(async { Ok(future.await) }, async {
        transport::sleep(limit).await;
        Err(Elapsed { waited: limit })
    })
    .await
}
