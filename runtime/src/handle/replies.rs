//! The replies to one request in the hands of another thread.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures_channel::oneshot;
use futures_core::Stream;

use crate::{OwnedMessage, RepliesEnd, RequestError};

/// As [`Replies`](crate::Replies), for any thread.
#[must_use = "dropping the replies ends them"]
pub struct HandleReplies {
    receiver: Pin<Box<async_channel::Receiver<Result<OwnedMessage, RequestError>>>>,
    end: Arc<OnceLock<RepliesEnd>>,
    /// Its drop tells the shard, and can neither fail nor be full.
    _held: oneshot::Sender<()>,
}

impl HandleReplies {
    pub(super) fn new(
        receiver: async_channel::Receiver<Result<OwnedMessage, RequestError>>,
        end: Arc<OnceLock<RepliesEnd>>,
        held: oneshot::Sender<()>,
    ) -> Self {
        HandleReplies { receiver: Box::pin(receiver), end, _held: held }
    }

    /// The next reply, or `None` when a limit is reached.
    pub async fn next(&mut self) -> Option<Result<OwnedMessage, RequestError>> {
        self.receiver.recv().await.ok()
    }

    /// As [`Replies::end`](crate::Replies::end).
    pub fn end(&self) -> Option<RepliesEnd> {
        self.end.get().copied()
    }
}

impl Stream for HandleReplies {
    type Item = Result<OwnedMessage, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for HandleReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleReplies").field("end", &self.end()).finish_non_exhaustive()
    }
}
