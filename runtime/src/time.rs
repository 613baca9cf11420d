//! Waiting with a limit, on a shard.

use std::{future::Future, time::Duration};

use futures_lite::future;

use crate::{Elapsed, transport};

/// Runs `future` for at most `limit`; then drops it.
pub(crate) async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    future::or(async { Ok(future.await) }, async {
        transport::sleep(limit).await;
        Err(Elapsed { waited: limit })
    })
    .await
}
