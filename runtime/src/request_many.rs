//! Requests that many may answer: until when replies are awaited, and the replies as a stream.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use croupier_protocol::Headers;
use futures_core::Stream;

use crate::{
    Message, Payload, RepliesEnd, RequestError,
    cluster_link::{AwaitedReplies, ReplyLimits},
    config::LimitsConfig,
};

/// Until when the replies to one request are awaited; the first limit that is reached ends them. Without any,
/// all replies of `limits.request_timeout` come.
///
/// ```
/// use std::time::Duration;
/// use croupier::RequestManyOptions;
///
/// // At most ten, and no longer than 50 ms after the last one.
/// let options = RequestManyOptions::new().replies(10).silence(Duration::from_millis(50));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until something is asked with them"]
pub struct RequestManyOptions {
    replies: Option<u64>,
    silence: Option<Duration>,
    sentinel: Option<Bytes>,
    timeout: Option<Duration>,
    headers: Option<Headers>,
}

impl RequestManyOptions {
    /// All replies that come within `limits.request_timeout`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends after so many replies. 0 sends the request and awaits none: the stream has ended, and what comes is
    /// counted as stray.
    pub fn replies(mut self, count: u64) -> Self {
        self.replies = Some(count);
        self
    }

    /// Ends when no reply has come for so long after the last one was taken. The first one is awaited for
    /// the whole timeout.
    pub fn silence(mut self, longest: Duration) -> Self {
        self.silence = Some(longest);
        self
    }

    /// Ends with a reply that has exactly this payload, often an empty one. It is not handed out.
    pub fn sentinel<'a>(mut self, payload: impl Into<Payload<'a>>) -> Self {
        self.sentinel = Some(payload.into().into_bytes());
        self
    }

    /// Ends after so long in any case, instead of `limits.request_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Headers of the request.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = Some(headers);
        self
    }

    pub(crate) fn request_headers(&self) -> Option<&Headers> {
        self.headers.as_ref()
    }

    pub(crate) fn limits(&self, limits: &LimitsConfig) -> ReplyLimits {
        ReplyLimits {
            replies_max: self.replies.unwrap_or(u64::MAX),
            silence: self.silence,
            sentinel: self.sentinel.clone(),
            timeout: self.timeout.unwrap_or(limits.request_timeout),
            queue: limits.subscriber_queue.clone(),
        }
    }
}

/// The replies to one request, in the order in which they came. Dropping it ends them: what comes later is
/// counted as stray.
///
/// Replies wait in a queue with the bounds of `limits.subscriber_queue`; what does not fit is dropped and counted, and
/// [`Event::SlowSubscriber`](crate::Event::SlowSubscriber) tells of the first. An error is the last item: nobody
/// listens to the topic, or the link was cut and no more replies can come.
#[must_use = "dropping the replies ends them"]
pub struct Replies(AwaitedReplies);

impl Replies {
    pub(crate) fn new(awaited: AwaitedReplies) -> Self {
        Replies(awaited)
    }

    /// The next reply, or `None` when a limit is reached.
    pub async fn next(&mut self) -> Option<Result<Message, RequestError>> {
        poll_fn(|cx| self.0.poll_next(cx)).await
    }

    /// Which limit has ended the replies. `None` while they go on, and after an error. Replies that came
    /// before may still wait.
    pub fn end(&self) -> Option<RepliesEnd> {
        self.0.end()
    }

    /// Replies that were dropped because the queue was full. Exact; they count as replies.
    pub fn lagged(&self) -> u64 {
        self.0.lagged()
    }
}

impl Stream for Replies {
    type Item = Result<Message, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("end", &self.end())
            .field("lagged", &self.lagged())
            .finish_non_exhaustive()
    }
}
