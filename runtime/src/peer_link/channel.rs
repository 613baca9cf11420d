//! The channel between two nodes: bytes of frames in, encrypted records out, and back; no socket.

use std::mem;

use snow::{Builder, HandshakeState, TransportState};

use crate::secret::KEY_BYTES;

pub(crate) use crate::secret::KeyRing;

#[cfg(test)]
mod tests;

/// NN: no node has a key pair of its own. psk0: the shared key goes in first, so that an acceptor answers
/// nobody who lacks it. Each link has fresh keys, so recordings stay closed even to those who later learn
/// the secret, and no recording can be played again.
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Both sides hash it: a handshake of another protocol under the same secret is none of ours.
const PROLOGUE: &[u8] = b"croupier registry 1";
/// What each record costs beside its length.
const TAG_BYTES: usize = 16;
/// The big-endian length before each handshake message and each record.
const LENGTH_BYTES: usize = 2;
/// Either message of the handshake: a public key and the tag of an empty payload.
const HANDSHAKE_BYTES: usize = 32 + TAG_BYTES;
/// The longest record, without its length.
const RECORD_BYTES_MAX: usize = u16::MAX as usize;
/// Most plain bytes of a record.
pub(crate) const RECORD_PLAIN_BYTES_MAX: usize = RECORD_BYTES_MAX - TAG_BYTES;

/// Who opened the connection. The two sides must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Has dialled, and speaks first.
    Dialler,
    /// Has been dialled.
    Acceptor,
}

/// Why a channel ended. Nothing of the bytes at fault was given out, and the channel stays ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChannelError {
    /// The dialler's handshake fits none of our keys.
    #[error("the peer has none of this node's secrets")]
    WrongKey,
    /// The acceptor's answer is not one to our handshake: it was changed on the way, or is an old one.
    #[error("the peer's answer to the handshake is not genuine")]
    Handshake,
    /// What came first is no handshake, as its length says.
    #[error("a handshake has {HANDSHAKE_BYTES} bytes, not {bytes}: the peer has no secret, or is no node")]
    HandshakeLength {
        /// The announced length.
        bytes: usize,
    },
    /// A handshake came, and this node has no secret.
    #[error("the peer has a secret, and this node has none")]
    PeerEncrypts,
    /// A record is too short to hold anything. None can be too long: its length has two bytes.
    #[error("a record of {bytes} bytes is shorter than {least}")]
    RecordLength {
        /// The announced length.
        bytes: usize,
        /// The shortest record.
        least: usize,
    },
    /// A record is not the next one of this link: changed, repeated, left out or forged.
    #[error("record {record} is not genuine")]
    Decrypt {
        /// Its number on this link and in this direction, from 0.
        record: u64,
    },
    /// All numbers of records are used up: a new link is needed.
    #[error("the link has carried as many records as one key may")]
    Exhausted,
    /// Something was to be sent before the handshake was over.
    #[error("the handshake is not over")]
    NotReady,
    /// The kernel gave no random bytes.
    #[error("there are no random bytes for the handshake")]
    Random,
}

/// One end of the link between two nodes: encrypted under a key ring, plain under an empty one.
///
/// The dialler's first message is due at once, the acceptor's when it has read that; call
/// [`Channel::handshake_output`] after [`Channel::new`] and after each [`Channel::open`]. On the wire
/// stand handshake messages and records, each behind a two-byte big-endian length.
///
/// Both sides count the records of each direction, and the count is part of each one's encryption: a record
/// can be neither repeated, left out, moved nor changed. What the channel cannot see is that the stream ends too
/// early; frames have an end of their own.
pub(crate) struct Channel {
    state: State,
    /// A handshake message, with its length, that is still to be sent.
    due: Option<[u8; LENGTH_BYTES + HANDSHAKE_BYTES]>,
}

enum State {
    /// No key. The first byte tells whether the peer has one: frames do not begin with 0.
    Plain {
        begun: bool,
    },
    /// The dialler waits for the answer.
    Dialling(Box<HandshakeState>),
    /// The acceptor waits for the dialler.
    Accepting(KeyRing),
    Ready(Box<TransportState>),
    Failed(ChannelError),
}

impl Channel {
    /// A channel at its beginning. The dialler uses the first key of the ring, the acceptor whichever fits.
    pub(crate) fn new(keys: &KeyRing, side: Side) -> Self {
        let mut due = None;
        let state = match (keys.keys().next(), side) {
            (None, _) => State::Plain { begun: false },
            (Some(_), Side::Acceptor) => State::Accepting(keys.clone()),
            (Some(key), Side::Dialler) => match dial(key) {
                Ok((handshake, message)) => {
                    due = Some(message);
                    State::Dialling(Box::new(handshake))
                }
                Err(error) => State::Failed(error),
            },
        };
        Self { state, due }
    }

    /// Whether [`Channel::seal`] may be called: at once without keys, else after the handshake.
    ///
    /// A dialler that is ready knows that the acceptor has the key. An acceptor knows it of the dialler
    /// only when the first record has been opened, since a first message may be a recorded one.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Plain { .. } | State::Ready(_))
    }

    /// Appends the handshake message that is due, if any.
    pub(crate) fn handshake_output(&mut self, out: &mut Vec<u8>) {
        if let Some(message) = self.due.take() {
            out.extend_from_slice(&message);
        }
    }

    /// The most bytes of the peer that the caller needs to hold so that [`Channel::open`] can go on.
    #[cfg(test)]
    pub(crate) fn incoming_bytes_max(&self) -> usize {
        match self.state {
            State::Dialling(_) | State::Accepting(_) => LENGTH_BYTES + HANDSHAKE_BYTES,
            State::Plain { .. } | State::Ready(_) | State::Failed(_) => LENGTH_BYTES + RECORD_BYTES_MAX,
        }
    }

    /// Takes what is whole from the front of `incoming`, appends its plain bytes, and returns how much it
    /// took. It stops when `plain` has `plain_bytes_max` or more, which is the longest frame that the caller
    /// awaits. Records know nothing of frames, so the last one may go beyond, by less than
    /// [`RECORD_PLAIN_BYTES_MAX`]; a bound that cut it off would leave a frame whose end is in it incomplete
    /// for ever.
    ///
    /// # Errors
    ///
    /// Why the channel has ended. What was appended before the fault is genuine.
    pub(crate) fn open(
        &mut self,
        incoming: &[u8],
        plain: &mut Vec<u8>,
        plain_bytes_max: usize,
    ) -> Result<usize, ChannelError> {
        let opened = self.open_all(incoming, plain, plain_bytes_max);
        opened.map_err(|error| self.fail(error))
    }

    /// Appends the records of `plain`, and before them a handshake message that is still due.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotReady`] before the handshake is over, which changes nothing;
    /// [`ChannelError::Exhausted`] after 2^64 - 1 records; and why the channel ended earlier.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), ChannelError> {
        match &self.state {
            State::Failed(error) => return Err(*error),
            State::Dialling(_) | State::Accepting(_) => return Err(ChannelError::NotReady),
            State::Plain { .. } | State::Ready(_) => {}
        }
        self.handshake_output(out);
        let State::Ready(transport) = &mut self.state else {
            out.extend_from_slice(plain);
            return Ok(());
        };
        for plain in plain.chunks(RECORD_PLAIN_BYTES_MAX) {
            let start = out.len();
            let bytes = plain.len() + TAG_BYTES;
            // At most RECORD_BYTES_MAX, so the cast keeps it whole.
            out.extend_from_slice(&(bytes as u16).to_be_bytes());
            out.resize(start + LENGTH_BYTES + bytes, 0);
            if transport.write_message(plain, &mut out[start + LENGTH_BYTES..]).is_err() {
                out.truncate(start);
                // A key is there and the lengths are right: only the numbers can be used up.
                return Err(self.fail(ChannelError::Exhausted));
            }
        }
        Ok(())
    }

    fn open_all(
        &mut self,
        incoming: &[u8],
        plain: &mut Vec<u8>,
        plain_bytes_max: usize,
    ) -> Result<usize, ChannelError> {
        let mut taken = 0;
        loop {
            let rest = &incoming[taken..];
            match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Plain { begun } => {
                    if !*begun && rest.first() == Some(&0) {
                        return Err(ChannelError::PeerEncrypts);
                    }
                    *begun |= !rest.is_empty();
                    let fitting = rest.len().min(plain_bytes_max.saturating_sub(plain.len()));
                    plain.extend_from_slice(&rest[..fitting]);
                    return Ok(taken + fitting);
                }
                State::Dialling(_) | State::Accepting(_) => {
                    let Some(message) = handshake_message(rest)? else { return Ok(taken) };
                    self.handle_handshake(message)?;
                    taken += LENGTH_BYTES + HANDSHAKE_BYTES;
                }
                State::Ready(_) if plain.len() >= plain_bytes_max => return Ok(taken),
                State::Ready(transport) => {
                    let Some(record) = next_record(rest)? else { return Ok(taken) };
                    open_record(transport, record, plain)?;
                    taken += LENGTH_BYTES + record.len();
                }
            }
        }
    }

    fn handle_handshake(&mut self, message: &[u8]) -> Result<(), ChannelError> {
        let transport = match mem::replace(&mut self.state, State::Failed(ChannelError::Handshake)) {
            State::Dialling(mut handshake) => {
                handshake.read_message(message, &mut []).map_err(|_| ChannelError::Handshake)?;
                handshake.into_transport_mode()
            }
            State::Accepting(keys) => {
                let (handshake, answer) = accept(&keys, message)?;
                self.due = Some(answer);
                handshake.into_transport_mode()
            }
            State::Plain { .. } | State::Ready(_) | State::Failed(_) => return Err(ChannelError::Handshake),
        };
        self.state = State::Ready(Box::new(transport.map_err(|_| ChannelError::Handshake)?));
        Ok(())
    }

    fn fail(&mut self, error: ChannelError) -> ChannelError {
        self.state = State::Failed(error);
        self.due = None;
        error
    }
}

/// The dialler's handshake and its first message.
fn dial(
    key: &[u8; KEY_BYTES],
) -> Result<(HandshakeState, [u8; LENGTH_BYTES + HANDSHAKE_BYTES]), ChannelError> {
    let mut handshake = builder(key).and_then(Builder::build_initiator).map_err(own_fault)?;
    let message = write_handshake(&mut handshake)?;
    Ok((handshake, message))
}

/// The acceptor's handshake and its answer, with the first key that fits.
///
/// A key that does not fit costs some hashes; the expensive part comes after one has.
fn accept(
    keys: &KeyRing,
    message: &[u8],
) -> Result<(HandshakeState, [u8; LENGTH_BYTES + HANDSHAKE_BYTES]), ChannelError> {
    for key in keys.keys() {
        let mut handshake = builder(key).and_then(Builder::build_responder).map_err(own_fault)?;
        if handshake.read_message(message, &mut []).is_ok() {
            let answer = write_handshake(&mut handshake)?;
            return Ok((handshake, answer));
        }
    }
    Err(ChannelError::WrongKey)
}

fn builder(key: &[u8; KEY_BYTES]) -> Result<Builder<'_>, snow::Error> {
    Builder::new(PATTERN.parse()?).psk(0, key)?.prologue(PROLOGUE)
}

fn write_handshake(
    handshake: &mut HandshakeState,
) -> Result<[u8; LENGTH_BYTES + HANDSHAKE_BYTES], ChannelError> {
    let mut message = [0; LENGTH_BYTES + HANDSHAKE_BYTES];
    message[..LENGTH_BYTES].copy_from_slice(&(HANDSHAKE_BYTES as u16).to_be_bytes());
    handshake.write_message(&[], &mut message[LENGTH_BYTES..]).map_err(own_fault)?;
    Ok(message)
}

/// Nothing that a peer sends makes these steps fail, so it was the source of randomness.
fn own_fault(_: snow::Error) -> ChannelError {
    ChannelError::Random
}

/// The handshake message at the front, if it is whole.
fn handshake_message(incoming: &[u8]) -> Result<Option<&[u8]>, ChannelError> {
    let Some((length, rest)) = incoming.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = usize::from(u16::from_be_bytes(*length));
    if bytes != HANDSHAKE_BYTES {
        return Err(ChannelError::HandshakeLength { bytes });
    }
    Ok(rest.get(..bytes))
}

/// The record at the front, if it is whole.
fn next_record(incoming: &[u8]) -> Result<Option<&[u8]>, ChannelError> {
    let Some((length, rest)) = incoming.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = usize::from(u16::from_be_bytes(*length));
    let least = TAG_BYTES + 1;
    if bytes < least {
        return Err(ChannelError::RecordLength { bytes, least });
    }
    Ok(rest.get(..bytes))
}

fn open_record(
    transport: &mut TransportState,
    record: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), ChannelError> {
    let start = plain.len();
    plain.resize(start + record.len() - TAG_BYTES, 0);
    let number = transport.receiving_nonce();
    match transport.read_message(record, &mut plain[start..]) {
        Ok(_) => Ok(()),
        Err(error) => {
            plain.truncate(start);
            Err(match error {
                snow::Error::State(_) => ChannelError::Exhausted,
                _ => ChannelError::Decrypt { record: number },
            })
        }
    }
}
