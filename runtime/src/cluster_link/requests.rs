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
use crate::{Message, Payload, RequestError, message::Arrival, receiver::Delivered, stats::add};

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
            Asker::One(reply) => reply
                .finish(Err(RequestError::Timeout { cluster: link.cluster.clone(), waited: Duration::ZERO })),
            Asker::Many(replies) => replies.finish(RepliesEnd::Timeout),
        }
    }

    /// The link was cut while the request was under way.
    pub(super) fn cut_off(&self, link: &Link) {
        let error = RequestError::Disconnected { cluster: link.cluster.clone(), sent: true };
        match self {
            Asker::One(reply) => reply.finish(Err(error)),
            Asker::Many(replies) => replies.fail(error),
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
        let deadline = self.until_connected(timeout).await?;
        let reply = Rc::new(Reply::default());
        let token = self.expect_replies(deadline, Asker::One(Rc::clone(&reply)))?;
        let awaited = AwaitedReply { link: Rc::clone(self), token, reply };
        self.ask(token, subject, headers, payload)?;
        match awaited.received().await {
            Err(RequestError::Timeout { cluster, .. }) => {
                Err(RequestError::Timeout { cluster, waited: timeout })
            }
            outcome => outcome,
        }
    }

    /// Sends a request, and has all its replies come until one of the limits is reached.
    pub(crate) async fn request_many(
        self: &Rc<Self>,
        subject: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
        limits: ReplyLimits,
    ) -> Result<AwaitedReplies, RequestError> {
        let deadline = self.until_connected(limits.timeout).await?;
        let silence = limits.silence;
        let asked = Subject::from_wire(Bytes::copy_from_slice(subject));
        let queue = Rc::new(ReplyQueue::new(asked, limits));
        let is_over = queue.is_over();
        let token = self.expect_replies(deadline, Asker::Many(Rc::clone(&queue)))?;
        let awaited = AwaitedReplies::new(Rc::clone(self), token, queue, silence);
        self.ask(token, subject, headers, payload)?;
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
        let nobody = nobody.then(|| RequestError::NoResponders { cluster: self.cluster.clone() });
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

    /// When a request that may take `timeout` has to be over, once the link's first try has succeeded.
    async fn until_connected(&self, timeout: Duration) -> Result<Instant, RequestError> {
        let begun = Instant::now();
        let tried = crate::time::timeout(timeout, self.first_try()).await;
        if matches!(tried, Ok(LinkStatus::Connected)) {
            return Ok(begun + timeout);
        }
        Err(RequestError::Disconnected { cluster: self.cluster.clone(), sent: false })
    }

    fn expect_replies(&self, deadline: Instant, asker: Asker) -> Result<RequestToken, RequestError> {
        self.requests
            .borrow_mut()
            .insert(deadline, asker)
            .map_err(|full| RequestError::TooMany { cluster: self.cluster.clone(), limit: full.max })
    }

    fn ask(
        &self,
        token: RequestToken,
        subject: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
    ) -> Result<(), RequestError> {
        let inbox = self.reply_subject(token);
        Ok(self.publish(&Destination::Subject { subject, reply: Some(&inbox), headers }, payload)?)
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
