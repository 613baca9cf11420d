//! Requests over a link: one inbox with a wildcard for all of them, and who waits for what comes there.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use croupier_protocol::{
    Headers, MessageFrame, RequestToken, Sid, Subject, Subscriptions, encode, status_code,
};

use super::{
    Destination, Link, LinkStatus, Wire,
    reply::{AwaitedReply, Reply},
    reply_queue::{AwaitedReplies, RepliesEnd, ReplyLimits, ReplyQueue},
};
use crate::{Message, Payload, RequestError, message::Arrival, receiver::Delivered, stats::add, time};

/// Requests that one link has in flight, at most. All of them may be polled by one task, and the executor
/// counts the wakers of a task in an i16.
pub(super) const IN_FLIGHT_MAX: usize = 1 << 14;
/// The code of an answer that says that nobody is there.
const NO_RESPONDERS_CODE: u16 = 503;
/// Random characters in the prefix of a link's inbox.
const INBOX_RANDOM_CHARS: usize = 16;

/// Where replies come. Its SUB is written ahead of the first request.
pub(super) struct Inbox {
    pub(super) subject: Subject,
    /// What stands before the token.
    prefix_bytes: usize,
    pub(super) sid: Sid,
    pub(super) is_live: Cell<bool>,
}

impl Inbox {
    pub(super) fn new(subscriptions: &mut Subscriptions<Wire>, prefix: &str) -> Inbox {
        let mut subject = prefix.as_bytes().to_vec();
        subject.push(b'.');
        subject.extend((0..INBOX_RANDOM_CHARS).map(|_| fastrand::alphanumeric() as u8));
        subject.extend_from_slice(b".*");
        let subject = Subject::from_wire(subject.into());
        let sid = subscriptions
            .insert(subject.clone(), None, Wire::Inbox)
            .expect("a new table has room for its first entry");
        let prefix_bytes = subject.as_bytes().len() - 1;
        Inbox { subject, prefix_bytes, sid, is_live: Cell::new(false) }
    }

    fn prefix(&self) -> &[u8] {
        &self.subject.as_bytes()[..self.prefix_bytes]
    }
}

/// Who waits for the replies to one token.
pub(super) enum Asker {
    /// The first reply ends the request.
    One(Rc<Reply>),
    /// Replies come until the asker has had enough.
    Many(Rc<ReplyQueue>),
}

impl Asker {
    /// The request's time is over.
    pub(super) fn expire(&self, link: &Link) {
        match self {
            // The caller knows how long it waited.
            Asker::One(reply) => {
                add(&link.counters.requests_timed_out, 1);
                reply.finish(Err(RequestError::Timeout {
                    cluster: link.cluster.clone(),
                    waited: Duration::ZERO,
                }));
            }
            Asker::Many(replies) => {
                // Where many may answer, their time is over when all have.
                add(&link.counters.requests_timed_out, u64::from(!replies.is_answered()));
                replies.finish(RepliesEnd::Timeout);
            }
        }
    }

    /// The link was cut while the request was under way.
    pub(super) fn cut_off(&self, link: &Link) {
        let error = RequestError::Disconnected { cluster: link.cluster.clone(), sent: true };
        match self {
            Asker::One(reply) => {
                add(&link.counters.requests_cut_off, 1);
                reply.finish(Err(error));
            }
            Asker::Many(replies) => {
                add(&link.counters.requests_cut_off, u64::from(!replies.is_answered()));
                replies.fail(error);
            }
        }
    }
}

impl Link {
    /// Sends a request and waits for its reply. A link that is down refuses at once; one whose first
    /// try is under way is waited for.
    pub(crate) async fn request(
        self: &Rc<Self>,
        subject: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let begun = time::now();
        let reply = Rc::new(Reply::default());
        let asker = Asker::One(Rc::clone(&reply));
        let token = self.ask(begun + timeout, asker, subject, headers, payload).await?;
        let awaited = AwaitedReply { link: Rc::clone(self), token, reply };
        let outcome = awaited.received().await;
        match outcome {
            Ok(_) => self.latencies.request(time::now() - begun),
            Err(RequestError::Timeout { cluster, .. }) => {
                return Err(RequestError::Timeout { cluster, waited: timeout });
            }
            Err(_) => {}
        }
        outcome
    }

    /// Sends a request, and has all its replies come until one of the limits is reached.
    pub(crate) async fn request_many(
        self: &Rc<Self>,
        subject: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
        limits: ReplyLimits,
    ) -> Result<AwaitedReplies, RequestError> {
        let begun = time::now();
        let (deadline, silence) = (begun + limits.timeout, limits.silence);
        let asked = Subject::from_wire(Bytes::copy_from_slice(subject));
        let queue = Rc::new(ReplyQueue::new(asked, limits));
        let is_over = queue.is_over();
        let asker = Asker::Many(Rc::clone(&queue));
        let token = self.ask(deadline, asker, subject, headers, payload).await?;
        let awaited = AwaitedReplies::new(Rc::clone(self), token, queue, begun, silence);
        if is_over {
            // None is awaited from the start.
            self.cancel_request(token);
        }
        Ok(awaited)
    }

    pub(super) fn cancel_request(&self, token: RequestToken) {
        let cancelled = self.requests.borrow_mut().cancel(token);
        drop(cancelled);
    }

    /// Hands on what came to the inbox.
    pub(super) fn complete_request(self: &Rc<Self>, frame: MessageFrame<'_>, chunk: &Bytes) {
        let requests = self.requests.borrow();
        let found = match frame.subject.strip_prefix(self.inbox.prefix()) {
            Some(token) => requests.find(token),
            // A server that maps subjects between accounts may have rewritten it.
            None => requests.only(),
        };
        // The requester may have given up; then nobody waits.
        let Some((token, asker)) = found else {
            return add(&self.counters.stray, 1);
        };
        let nobody =
            frame.payload.is_empty() && frame.headers.and_then(status_code) == Some(NO_RESPONDERS_CODE);
        let nobody = nobody.then(|| {
            add(&self.counters.requests_no_responders, 1);
            RequestError::NoResponders { cluster: self.cluster.clone() }
        });
        match asker {
            Asker::One(reply) => {
                let reply = Rc::clone(reply);
                drop(requests);
                self.cancel_request(token);
                reply.finish(match nobody {
                    Some(error) => Err(error),
                    None => Ok(Message::from_frame(&frame, chunk, None, self)),
                });
            }
            Asker::Many(replies) => {
                let replies = Rc::clone(replies);
                drop(requests);
                if let Some(error) = nobody {
                    replies.fail(error);
                } else if let Delivered::Lagged { dropped, began } =
                    replies.deliver(&Arrival::new(frame, chunk, None, self))
                {
                    self.has_lagged(replies.receiver(), dropped, began);
                }
                if replies.is_over() {
                    self.cancel_request(token);
                }
            }
        }
    }

    /// Sends a request when the link's first try has succeeded, and gives it its place. A request that is not
    /// sent is counted, and leaves nothing.
    async fn ask(
        &self,
        deadline: Instant,
        asker: Asker,
        subject: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
    ) -> Result<RequestToken, RequestError> {
        let asked = match self.until_connected(deadline).await {
            Ok(()) => self.send(deadline, asker, subject, headers, payload),
            Err(error) => Err(error),
        };
        let counter = if asked.is_ok() { &self.counters.requests } else { &self.counters.requests_unsent };
        add(counter, 1);
        asked
    }

    async fn until_connected(&self, deadline: Instant) -> Result<(), RequestError> {
        if self.status.get() == LinkStatus::Connected {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(time::now());
        match time::timeout(left, self.first_try()).await {
            Ok(LinkStatus::Connected) => Ok(()),
            _ => Err(RequestError::Disconnected { cluster: self.cluster.clone(), sent: false }),
        }
    }

    fn send(
        &self,
        deadline: Instant,
        asker: Asker,
        subject: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
    ) -> Result<RequestToken, RequestError> {
        let token = self
            .requests
            .borrow_mut()
            .insert(deadline, asker)
            .map_err(|full| RequestError::TooMany { cluster: self.cluster.clone(), limit: full.max })?;
        let inbox = self.reply_subject(token);
        let to = Destination::Subject { subject, reply: Some(&inbox), headers };
        match self.publish(&to, payload) {
            Ok(()) => Ok(token),
            Err(error) => {
                self.cancel_request(token);
                Err(error.into())
            }
        }
    }

    /// The subject that a reply to this token comes to. The first call subscribes, ahead of the request.
    fn reply_subject(&self, token: RequestToken) -> Vec<u8> {
        if !self.inbox.is_live.replace(true) && self.status.get() == LinkStatus::Connected {
            let mut outbox = self.outbox.borrow_mut();
            encode::subscribe(outbox.control(), self.inbox.subject.as_bytes(), None, self.inbox.sid);
        }
        let mut subject = self.inbox.prefix().to_vec();
        token.write_to(&mut subject);
        subject
    }
}
