//! Every bound of this crate, with its reason.

/// Longest control line in bytes, its end included, of every operation but INFO.
pub const CONTROL_LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest INFO line in bytes, its end included. A server of a large cluster lists many addresses.
pub const INFO_BYTES_MAX: usize = 1024 * 1024;
/// Largest inbound message in bytes, headers included: as much as a nats-server can be told to allow.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most digits of a size, leading zeros included; nats-server itself takes no more.
pub const SIZE_DIGITS_MAX: usize = 9;
/// Most digits of a subscription id: those of `u64::MAX`.
pub const SID_DIGITS_MAX: usize = 20;
/// Longest subject, reply or queue group that we send, in bytes. Two of them and the numbers fit
/// in a line of 4096 bytes, which is what a nats-server accepts unless told otherwise.
pub const SUBJECT_BYTES_MAX: usize = 2000;
/// Most headers of one message: memory spent on them stays in proportion to the bytes received.
pub const HEADER_COUNT_MAX: usize = 4096;
/// Most addresses that are kept of one INFO; the rest are ignored.
pub const CONNECT_URLS_MAX: usize = 256;
/// Most bytes that are kept of a server's error text.
pub const SERVER_ERROR_TEXT_BYTES_MAX: usize = 256;
/// Most PONGs owed at a time; PINGs beyond it, without an output in between, share an answer.
pub const PONGS_OWED_MAX: u32 = 16 * 1024;
/// Most subscriptions, and most requests in flight, of one table: an index has 24 bits, of which
/// the first and the last value are never used.
pub const SLOTS_MAX: usize = (1 << 24) - 2;
/// How many times longer a server may leave PINGs unanswered as long as it sends something else:
/// the PONG may stand behind a long backlog on a slow link.
pub const TALKING_SERVER_GRACE: u32 = 10;

/// What a [`Decoder`](crate::Decoder) takes from a peer before it calls it a protocol error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderLimits {
    /// Longest line in bytes, its end included, other than INFO. Default 64 KiB. The caller's
    /// buffer must be able to hold it.
    pub control_line_bytes_max: usize,
    /// Longest INFO line in bytes, its end included. Default 1 MiB.
    pub info_bytes_max: usize,
    /// Largest message in bytes, headers and payload together. Default 64 MiB; what has more than
    /// nine digits is refused whatever stands here.
    pub payload_bytes_max: usize,
}

impl Default for DecoderLimits {
    fn default() -> Self {
        Self {
            control_line_bytes_max: CONTROL_LINE_BYTES_MAX,
            info_bytes_max: INFO_BYTES_MAX,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
        }
    }
}
