//! Work that blocks, away from the shard.

use std::{io, thread};

use futures_channel::oneshot;

/// Runs `work` on a thread of its own, called `name`. Whoever drops the future leaves the thread to end by
/// itself.
pub(crate) async fn off_shard<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (answer, answered) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody listens when the link was closed meanwhile.
        let _unheard = answer.send(work());
    })?;
    answered.await.map_err(|_| io::Error::other("the thread died"))
}
