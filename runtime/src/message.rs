//! Messages as they are received: a view for handlers, and one to keep.

use std::{cell::OnceCell, fmt, rc::Rc};

use bytes::Bytes;
use croupier_protocol::{HeaderError, Headers, MessageFrame, Subject};

use crate::{ClusterName, Payload, PublishError, cluster_link::Link};

/// A received message. It shares the bytes that were read and copies nothing.
///
/// It stays on its shard; `OwnedMessage::from` makes one that may leave it.
#[derive(Clone)]
pub struct Message {
    topic: Subject,
    reply: Option<Subject>,
    headers: Option<Bytes>,
    payload: Bytes,
    link: Rc<Link>,
}

impl Message {
    /// The parts of `frame`, as slices of the chunk it stands in.
    pub(crate) fn from_frame(
        frame: &MessageFrame<'_>,
        chunk: &Bytes,
        literal: Option<&Subject>,
        link: &Rc<Link>,
    ) -> Message {
        Message {
            topic: literal.cloned().unwrap_or_else(|| Subject::from_wire(chunk.slice_ref(frame.subject))),
            reply: frame.reply.map(|reply| Subject::from_wire(chunk.slice_ref(reply))),
            headers: frame.headers.map(|headers| chunk.slice_ref(headers)),
            payload: chunk.slice_ref(frame.payload),
            link: Rc::clone(link),
        }
    }

    /// The same with memory of its own, so that it pins no chunk.
    pub(crate) fn copied(frame: &MessageFrame<'_>, literal: Option<&Subject>, link: &Rc<Link>) -> Message {
        let topic = if literal.is_some() { &[][..] } else { frame.subject };
        let parts =
            [topic, frame.reply.unwrap_or_default(), frame.headers.unwrap_or_default(), frame.payload];
        let mut copy = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            copy.extend_from_slice(part);
        }
        let mut copy = Bytes::from(copy);
        let mut next = |part: &[u8]| copy.split_to(part.len());
        let topic = next(parts[0]);
        Message {
            topic: literal.cloned().unwrap_or_else(|| Subject::from_wire(topic)),
            reply: frame.reply.map(|reply| Subject::from_wire(next(reply))),
            headers: frame.headers.map(&mut next),
            payload: next(frame.payload),
            link: Rc::clone(link),
        }
    }

    /// The subject that it was published to.
    pub fn topic(&self) -> &Subject {
        &self.topic
    }

    /// What it carries.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Where an answer is expected, if one is.
    pub fn reply(&self) -> Option<&Subject> {
        self.reply.as_ref()
    }

    /// The cluster that it came from.
    pub fn cluster(&self) -> ClusterName {
        self.link.cluster().clone()
    }

    /// Its headers, parsed at each call.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when what the publisher sent are no NATS headers; the payload is untouched.
    pub fn headers(&self) -> Result<Option<Headers>, HeaderError> {
        self.headers.as_deref().map(Headers::parse).transpose()
    }

    /// Answers on the link that the message came from; the reply subject is not hashed. Does nothing
    /// when no answer is expected.
    ///
    /// # Errors
    ///
    /// As [`Shard::publish`](crate::Shard::publish).
    pub fn respond<'a>(&self, payload: impl Into<Payload<'a>>) -> Result<(), PublishError> {
        match &self.reply {
            Some(reply) => self.link.respond(reply.as_bytes(), None, payload.into()),
            None => Ok(()),
        }
    }

    /// As [`Message::respond`], with headers.
    ///
    /// # Errors
    ///
    /// As [`Message::respond`].
    pub fn respond_with_headers<'a>(
        &self,
        headers: &Headers,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        match &self.reply {
            Some(reply) => self.link.respond(reply.as_bytes(), Some(headers), payload.into()),
            None => Ok(()),
        }
    }

    /// The payload, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.payload
    }

    /// Answers as a server does when nobody is there.
    pub(crate) fn refuse(&self) {
        if let Some(reply) = &self.reply {
            self.link.refuse(reply.as_bytes());
        }
    }

    pub(crate) fn into_parts(self) -> (Subject, Option<Subject>, Option<Bytes>, Bytes, ClusterName) {
        let cluster = self.link.cluster().clone();
        (self.topic, self.reply, self.headers, self.payload, cluster)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("reply", &self.reply)
            .field("payload_bytes", &self.payload.len())
            .field("cluster", self.link.cluster())
            .finish_non_exhaustive()
    }
}

/// A message where it was read, made once for all who get it.
pub(crate) struct Arrival<'a> {
    pub(crate) frame: MessageFrame<'a>,
    pub(crate) chunk: &'a Bytes,
    /// The topic of everybody who gets it, if that is not a wildcard.
    literal: Option<&'a Subject>,
    link: &'a Rc<Link>,
    topic: OnceCell<Subject>,
    reply: OnceCell<Subject>,
}

impl<'a> Arrival<'a> {
    #[inline]
    pub(crate) fn new(
        frame: MessageFrame<'a>,
        chunk: &'a Bytes,
        literal: Option<&'a Subject>,
        link: &'a Rc<Link>,
    ) -> Self {
        Arrival { frame, chunk, literal, link, topic: OnceCell::new(), reply: OnceCell::new() }
    }

    /// A message that holds on to the chunk, and copies nothing.
    pub(crate) fn to_message(&self) -> Message {
        Message::from_frame(&self.frame, self.chunk, self.literal, self.link)
    }

    /// A message with memory of its own.
    pub(crate) fn copied(&self) -> Message {
        Message::copied(&self.frame, self.literal, self.link)
    }
}

/// A message as a handler sees it, in the bytes that were just read. Nothing is allocated for it.
pub struct MessageView<'a>(&'a Arrival<'a>);

impl<'a> MessageView<'a> {
    #[inline]
    pub(crate) fn new(arrival: &'a Arrival<'a>) -> Self {
        MessageView(arrival)
    }

    /// The subject that it was published to.
    pub fn topic(&self) -> &Subject {
        let Arrival { frame, chunk, literal, topic, .. } = self.0;
        match literal {
            Some(topic) => topic,
            None => topic.get_or_init(|| Subject::from_wire(chunk.slice_ref(frame.subject))),
        }
    }

    /// What it carries.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.0.frame.payload
    }

    /// Where an answer is expected, if one is.
    pub fn reply(&self) -> Option<&Subject> {
        let reply = self.0.frame.reply?;
        Some(self.0.reply.get_or_init(|| Subject::from_wire(self.0.chunk.slice_ref(reply))))
    }

    /// The cluster that it came from.
    pub fn cluster(&self) -> ClusterName {
        self.0.link.cluster().clone()
    }

    /// As [`Message::headers`].
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when what the publisher sent are no NATS headers.
    pub fn headers(&self) -> Result<Option<Headers>, HeaderError> {
        self.0.frame.headers.map(Headers::parse).transpose()
    }

    /// As [`Message::respond`].
    ///
    /// # Errors
    ///
    /// As [`Shard::publish`](crate::Shard::publish).
    pub fn respond<'p>(&self, payload: impl Into<Payload<'p>>) -> Result<(), PublishError> {
        match self.0.frame.reply {
            Some(reply) => self.0.link.respond(reply, None, payload.into()),
            None => Ok(()),
        }
    }

    /// As [`Message::respond_with_headers`].
    ///
    /// # Errors
    ///
    /// As [`Shard::publish`](crate::Shard::publish).
    pub fn respond_with_headers<'p>(
        &self,
        headers: &Headers,
        payload: impl Into<Payload<'p>>,
    ) -> Result<(), PublishError> {
        match self.0.frame.reply {
            Some(reply) => self.0.link.respond(reply, Some(headers), payload.into()),
            None => Ok(()),
        }
    }

    /// A message to keep. It holds on to the chunk, and copies nothing.
    pub fn to_message(&self) -> Message {
        self.0.to_message()
    }

    pub(crate) fn arrival(&self) -> &'a Arrival<'a> {
        self.0
    }

    /// Answers as a server does when nobody is there.
    pub(crate) fn refuse(&self) {
        if let Some(reply) = self.0.frame.reply {
            self.0.link.refuse(reply);
        }
    }
}

impl fmt::Debug for MessageView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageView")
            .field("topic", self.topic())
            .field("reply", &self.reply())
            .field("payload_bytes", &self.payload().len())
            .field("cluster", self.0.link.cluster())
            .finish_non_exhaustive()
    }
}

/// A message that any thread may hold.
#[derive(Clone, Debug)]
pub struct OwnedMessage {
    topic: Subject,
    reply: Option<Subject>,
    headers: Option<Bytes>,
    payload: Bytes,
    cluster: ClusterName,
}

impl OwnedMessage {
    /// The subject that it was published to.
    pub fn topic(&self) -> &Subject {
        &self.topic
    }

    /// What it carries.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Where an answer was expected, if one was.
    pub fn reply(&self) -> Option<&Subject> {
        self.reply.as_ref()
    }

    /// The cluster that it came from.
    pub fn cluster(&self) -> ClusterName {
        self.cluster.clone()
    }

    /// As [`Message::headers`].
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when what the publisher sent are no NATS headers.
    pub fn headers(&self) -> Result<Option<Headers>, HeaderError> {
        self.headers.as_deref().map(Headers::parse).transpose()
    }

    /// The payload, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.payload
    }
}

impl From<Message> for OwnedMessage {
    fn from(message: Message) -> Self {
        let (topic, reply, headers, payload, cluster) = message.into_parts();
        OwnedMessage { topic, reply, headers, payload, cluster }
    }
}
