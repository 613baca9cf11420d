//! The NATS client protocol without I/O: bytes and `now` come in, bytes and events go out.
//!
//! This crate knows no socket, no clock, no thread and no future. Whoever drives it owns the
//! buffers and the time:
//!
//! 1. Feed one input: [`Connection::handle_input`] with the bytes not yet consumed, or
//!    [`Connection::handle_timeout`] when [`Connection::poll_timeout`] is due. Bytes that wait in a
//!    socket go first: a PONG that lies unread must not look like silence.
//! 2. Drain every output: act on the [`Event`], drop `consumed` bytes, repeat until
//!    [`Progress::Incomplete`]; then [`Connection::poll_transmit`] once.
//! 3. Wait for more bytes, a timeout or a caller.
//!
//! Nothing a peer sends makes this crate panic, and no message makes it allocate: a message is a
//! [`MessageFrame`], slices of the caller's own buffer. What is remembered between two calls is a
//! few numbers, so memory never follows a size that was only announced.
//!
//! ```
//! use std::time::Instant;
//! use croupier_protocol::{Connection, ConnectionConfig, ConnectionError, Event, Progress, Sid, encode};
//!
//! // A server's first bytes, as a socket would give them: sooner or later, in pieces of any size.
//! let input = b"INFO {\"max_payload\":1048576} \r\nPONG\r\nMSG greetings 1 5\r\nhello\r\nMSG greet";
//! let now = Instant::now();
//! let mut connection = Connection::new(ConnectionConfig::default(), now);
//! let mut out = Vec::new();
//! let (mut at, mut received) = (0, Vec::new());
//! while let Progress::Event { event, consumed } = connection.handle_input(&input[at..], now)? {
//!     match event {
//!         Event::ServerInfo { first: true } => {
//!             connection.connect(&mut out);
//!             encode::subscribe(&mut out, b"greetings", None, Sid::from_raw(1));
//!             connection.ping(&mut out, now);
//!         }
//!         Event::Message(message) => received.push(message.payload),
//!         _ => {}
//!     }
//!     at += consumed;
//! }
//! connection.poll_transmit(&mut out, now);
//! assert!(out.ends_with(b"SUB greetings 1\r\nPING\r\n"));
//! assert_eq!(received, [b"hello"]);
//! assert_eq!(&input[at..], b"MSG greet", "the beginning of the next input");
//! # Ok::<(), ConnectionError>(())
//! ```
#![forbid(unsafe_code)]

pub mod client_operation;
pub mod connect_options;
pub mod connection;
pub mod control_line;
pub mod decoder;
pub mod encode;
pub mod error;
pub mod headers;
pub mod info;
pub mod limits;
mod message_line;
pub mod requests;
pub mod server_error;
pub mod sid;
mod slab;
pub mod subject;
pub mod subscriptions;

pub use client_operation::{ClientOperation, ClientOperationKind, next_client_operation};
pub use connect_options::ConnectOptions;
pub use connection::{Connection, ConnectionConfig, ConnectionState, Event, PingId, Progress, TimeoutReason};
pub use control_line::{ControlLine, Expected};
pub use decoder::{Decoded, Decoder, MessageFrame, Operation};
pub use error::{
    ConnectionError, DecodeError, HeaderError, InfoError, RequestsFull, SubjectError, SubscriptionsFull,
};
pub use headers::{Headers, Status, status_code};
pub use info::ServerInfo;
pub use limits::DecoderLimits;
pub use requests::{RequestToken, Requests};
pub use server_error::{PermissionAction, ServerError};
pub use sid::Sid;
pub use subject::{QueueGroup, Subject};
pub use subscriptions::{Delivery, Subscribed, Subscriptions};
