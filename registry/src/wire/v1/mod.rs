//! Version 1 of the payloads. Their layout is frozen by golden bytes: what is to differ becomes another version.

mod bodies;

use bodies::*;
use rkyv::Serialize;
use rkyv::rancor::Failure;

use crate::limits::{NODES_PER_FRAME_MAX, PUTS_PER_DELTA_MAX, VERSION_MAX};
use crate::wire::hello::require;
use crate::wire::{Hello, HelloAck};
use crate::{
    Delta, Epoch, MalformedChunk, NodeKey, PARTITIONS, Partition, Seal, ServiceKey, Version, WireError,
};

/// Anything that a node says to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// The first frame in each direction.
    Hello(Hello),
    /// The Hello was accepted.
    HelloAck(HelloAck),
    /// The sender lives.
    Heartbeat {
        /// Raised by the sender at each beat, and by nobody else.
        counter: u64,
        /// The digest of the sender's own versions, as far as they were enqueued on this link before this frame.
        digest: [u8; 16],
    },
    /// Events of a log.
    Delta {
        /// Whose log it is.
        log: LogId,
        /// The events.
        delta: Delta,
    },
    /// Live versions of a log.
    Seal {
        /// Whose log it is.
        log: LogId,
        /// The versions.
        seal: Seal,
    },
    /// Asks for an origin's logs from these places on. Those of another origin than the receiver come only like this.
    Pull {
        /// Whose logs.
        origin: NodeKey,
        /// Which life.
        epoch: Epoch,
        /// From where, by ascending partition.
        places: Vec<Place>,
    },
    /// What the sender has of each origin, as digests, by ascending key.
    Digest(Vec<OriginDigest>),
    /// What the sender knows of some of an origin's logs.
    Versions {
        /// Whose logs.
        origin: NodeKey,
        /// Which life.
        epoch: Epoch,
        /// By ascending partition; of others it says nothing.
        places: Vec<Place>,
    },
    /// Nodes that the sender has heard of.
    Member(Vec<MemberRecord>),
    /// Asks for an answer.
    Ping {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// Asks to ping somebody else.
    PingReq {
        /// Comes back in the answer.
        nonce: u64,
        /// Whom to ping.
        target: NodeKey,
    },
    /// Answers a Ping or a PingReq.
    Ack {
        /// That of the question.
        nonce: u64,
        /// Who was pinged.
        target: NodeKey,
        /// How it went.
        reach: Reach,
    },
    /// Asks an owner to change one of its entries.
    Command {
        /// Chosen at random by whoever asks; the same command may come twice.
        op_id: u128,
        /// Who asks.
        origin: NodeKey,
        /// The life of the owner that is meant.
        epoch: Epoch,
        /// What is to be done.
        operation: Operation,
        /// To which entry.
        key: ServiceKey,
        /// Only if the entry is at this version.
        expect_version: Option<Version>,
    },
    /// Answers a Command.
    CommandAck {
        /// That of the command.
        op_id: u128,
        /// How it went.
        outcome: Outcome,
    },
    /// So many bytes of transfers of a partition were taken.
    Credit {
        /// Which partition.
        partition: Partition,
        /// How many.
        bytes: u64,
    },
    /// The receiver's epoch is below one that it had before; it must take a higher one.
    StaleEpoch {
        /// The epoch that is remembered.
        remembered: Epoch,
    },
    /// The last frame on a link.
    Bye(ByeReason),
}

/// A log by its writer and the writer's life; the partition is in the header.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogId {
    /// The writer.
    pub origin: NodeKey,
    /// Its life.
    pub epoch: Epoch,
    /// Which of its logs.
    pub partition: Partition,
}

/// How far somebody is in one log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Which log of the origin.
    pub partition: Partition,
    /// Every event up to it is known.
    pub known: Version,
    /// Entries up to it are filled in.
    pub content: Version,
}

/// What a node has of an origin, in 32 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OriginDigest {
    /// Whose logs.
    pub origin: NodeKey,
    /// The sum of the digests of their versions.
    pub digest: [u8; 16],
}

/// What a node has heard of another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberRecord {
    /// Its name.
    pub name: String,
    /// Where it accepts peers; may be empty.
    pub address: String,
    /// Its life.
    pub epoch: Epoch,
    /// The last heartbeat of it that was heard of.
    pub counter: u64,
    /// What the sender holds it to be.
    pub standing: Standing,
}

macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident, $field:literal { $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $number,)*
        }

        impl $name {
            fn from_wire(number: u8) -> Result<Self, WireError> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    _ => Err(WireError::Field { field: $field, value: u64::from(number) }),
                }
            }
        }
    };
}

wire_enum! {
    /// What a node holds another to be.
    Standing, "standing" {
        /// Alive.
        Up = 0,
        /// Perhaps not alive.
        Suspect = 1,
        /// Not alive.
        Down = 2,
        /// Said Bye.
        Left = 3,
    }
}

wire_enum! {
    /// How a ping through somebody else went.
    Reach, "reach" {
        /// It answered.
        Answered = 0,
        /// Its host refuses connections, or there is no link to it.
        Refused = 1,
        /// No answer came in time.
        Silent = 2,
    }
}

wire_enum! {
    /// What a command does to an entry.
    Operation, "operation" {
        /// Lookups may choose it.
        Enable = 0,
        /// Lookups do not choose it.
        Disable = 1,
        /// It goes.
        Remove = 2,
    }
}

wire_enum! {
    /// Why a link ends.
    ByeReason, "reason" {
        /// The node leaves the cluster on purpose.
        Leaving = 0,
        /// The node ends because of a fault of its own.
        Failed = 1,
        /// Another live node bears this name.
        NameConflict = 2,
        /// The two already have a link.
        Duplicate = 3,
        /// The peer is of another cluster.
        OtherCluster = 4,
        /// The peer sent what is no frame.
        BadFrame = 5,
    }
}

/// How a command went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was carried out, now or when it came first.
    Done {
        /// The version of the event; read your own write by waiting until it is known.
        version: Version,
    },
    /// The entry was in that state already.
    Unchanged {
        /// The version of the entry.
        version: Version,
    },
    /// There is no such entry.
    NotFound,
    /// The entry is not at the expected version.
    VersionMismatch {
        /// The version of the entry.
        version: Version,
    },
    /// The epoch is not that of the owner's life.
    OtherEpoch,
    /// The owner remembers as many commands as it may; ask again later.
    Busy,
}

/// Whether this version has a frame type of this number.
pub(crate) fn is_known(frame_type: u8) -> bool {
    (TYPE_HELLO..=TYPE_BYE).contains(&frame_type)
}

/// Whether frames of this type carry a part of a log.
pub(crate) fn is_chunk(frame_type: u8) -> bool {
    matches!(frame_type, TYPE_DELTA | TYPE_SEAL)
}

pub(crate) const TYPE_HELLO: u8 = 1;
pub(crate) const TYPE_HELLO_ACK: u8 = 2;
const TYPE_HEARTBEAT: u8 = 3;
const TYPE_DELTA: u8 = 4;
const TYPE_SEAL: u8 = 5;
const TYPE_PULL: u8 = 6;
const TYPE_DIGEST: u8 = 7;
const TYPE_VERSIONS: u8 = 8;
const TYPE_MEMBER: u8 = 9;
const TYPE_PING: u8 = 10;
const TYPE_PING_REQ: u8 = 11;
const TYPE_ACK: u8 = 12;
const TYPE_COMMAND: u8 = 13;
const TYPE_COMMAND_ACK: u8 = 14;
const TYPE_CREDIT: u8 = 15;
pub(crate) const TYPE_STALE_EPOCH: u8 = 16;
pub(crate) const TYPE_BYE: u8 = 17;

impl Frame {
    /// The number of its type.
    #[must_use]
    pub fn frame_type(&self) -> u8 {
        match self {
            Self::Hello(_) => TYPE_HELLO,
            Self::HelloAck(_) => TYPE_HELLO_ACK,
            Self::Heartbeat { .. } => TYPE_HEARTBEAT,
            Self::Delta { .. } => TYPE_DELTA,
            Self::Seal { .. } => TYPE_SEAL,
            Self::Pull { .. } => TYPE_PULL,
            Self::Digest(_) => TYPE_DIGEST,
            Self::Versions { .. } => TYPE_VERSIONS,
            Self::Member(_) => TYPE_MEMBER,
            Self::Ping { .. } => TYPE_PING,
            Self::PingReq { .. } => TYPE_PING_REQ,
            Self::Ack { .. } => TYPE_ACK,
            Self::Command { .. } => TYPE_COMMAND,
            Self::CommandAck { .. } => TYPE_COMMAND_ACK,
            Self::Credit { .. } => TYPE_CREDIT,
            Self::StaleEpoch { .. } => TYPE_STALE_EPOCH,
            Self::Bye(_) => TYPE_BYE,
        }
    }

    pub(crate) fn partition(&self) -> u8 {
        match self {
            Self::Delta { log, .. } | Self::Seal { log, .. } => log.partition.get(),
            Self::Command { key, .. } => key.partition().get(),
            Self::Credit { partition, .. } => partition.get(),
            _ => 0,
        }
    }

    pub(crate) fn encode_payload(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Hello(hello) => hello.encode(),
            Self::HelloAck(ack) => Ok(ack.encode()),
            Self::Heartbeat { counter, digest } => {
                archive(&HeartbeatBody { counter: *counter, digest: *digest })
            }
            Self::Delta { log, delta } => {
                check_count("puts", delta.puts.len(), PUTS_PER_DELTA_MAX)?;
                check_count("removals", delta.removals.len(), PUTS_PER_DELTA_MAX)?;
                archive(&DeltaBody::of(*log, delta))
            }
            Self::Seal { log, seal } => archive(&SealBody {
                origin: log.origin.to_bytes(),
                epoch: log.epoch.get(),
                target: seal.target,
                low: seal.low,
                high: seal.high,
                horizon: seal.horizon,
                live: &seal.packed_live(),
            }),
            Self::Pull { origin, epoch, places } | Self::Versions { origin, epoch, places } => {
                check_count("places", places.len(), PARTITIONS)?;
                archive(&PlacesBody {
                    origin: origin.to_bytes(),
                    epoch: epoch.get(),
                    places: places.iter().map(PlaceBody::of).collect(),
                })
            }
            Self::Digest(origins) => {
                check_count("digests", origins.len(), NODES_PER_FRAME_MAX)?;
                let origins = origins
                    .iter()
                    .map(|one| OriginDigestBody { origin: one.origin.to_bytes(), digest: one.digest });
                archive(&DigestBody { origins: origins.collect() })
            }
            Self::Member(members) => {
                check_count("members", members.len(), NODES_PER_FRAME_MAX)?;
                archive(&MembersBody { members: members.iter().map(MemberBody::of).collect() })
            }
            Self::Ping { nonce } => archive(&PingBody { nonce: *nonce }),
            Self::PingReq { nonce, target } => {
                archive(&PingReqBody { nonce: *nonce, target: target.to_bytes() })
            }
            Self::Ack { nonce, target, reach } => {
                archive(&AckBody { nonce: *nonce, target: target.to_bytes(), reach: *reach as u8 })
            }
            Self::Command { op_id, origin, epoch, operation, key, expect_version } => archive(&CommandBody {
                op_id: op_id.to_le_bytes(),
                origin: origin.to_bytes(),
                epoch: epoch.get(),
                operation: *operation as u8,
                kind: key.kind(),
                id: key.id(),
                expect_version: expect_version.unwrap_or(0),
            }),
            Self::CommandAck { op_id, outcome } => {
                let (outcome, version) = match *outcome {
                    Outcome::Done { version } => (0, version),
                    Outcome::Unchanged { version } => (1, version),
                    Outcome::NotFound => (2, 0),
                    Outcome::VersionMismatch { version } => (3, version),
                    Outcome::OtherEpoch => (4, 0),
                    Outcome::Busy => (5, 0),
                };
                archive(&CommandAckBody { op_id: op_id.to_le_bytes(), outcome, version })
            }
            Self::Credit { bytes, .. } => archive(&CreditBody { bytes: *bytes }),
            Self::StaleEpoch { remembered } => archive(&StaleEpochBody { remembered: remembered.get() }),
            Self::Bye(reason) => archive(&ByeBody { reason: *reason as u8 }),
        }
    }

    pub(crate) fn decode_payload(
        frame_type: u8,
        partition: Partition,
        payload: &[u8],
    ) -> Result<Self, WireError> {
        let frame = match frame_type {
            TYPE_HELLO => Self::Hello(Hello::decode(payload)?),
            TYPE_HELLO_ACK => Self::HelloAck(HelloAck::decode(payload)?),
            TYPE_HEARTBEAT => {
                let body = access::<ArchivedHeartbeatBody>(frame_type, payload)?;
                Self::Heartbeat { counter: body.counter.to_native(), digest: body.digest }
            }
            TYPE_DELTA => {
                let body = access::<ArchivedDeltaBody<'_>>(frame_type, payload)?;
                let log = log_id(body.origin, body.epoch.to_native(), partition)?;
                Self::Delta { log, delta: body.to_delta(partition, payload.len())? }
            }
            TYPE_SEAL => {
                let body = access::<ArchivedSealBody<'_>>(frame_type, payload)?;
                let log = log_id(body.origin, body.epoch.to_native(), partition)?;
                let (low, high) = (body.low.to_native(), body.high.to_native());
                let live = Seal::unpack_live(low, high, &body.live)?;
                let (target, horizon) = (body.target.to_native(), body.horizon.to_native());
                let seal = Seal { target, low, high, horizon, live };
                seal.check()?;
                Self::Seal { log, seal }
            }
            TYPE_PULL => {
                let (origin, epoch, places) =
                    access::<ArchivedPlacesBody>(frame_type, payload)?.to_places()?;
                Self::Pull { origin, epoch, places }
            }
            TYPE_VERSIONS => {
                let (origin, epoch, places) =
                    access::<ArchivedPlacesBody>(frame_type, payload)?.to_places()?;
                Self::Versions { origin, epoch, places }
            }
            TYPE_DIGEST => {
                let body = access::<ArchivedDigestBody>(frame_type, payload)?;
                check_count("digests", body.origins.len(), NODES_PER_FRAME_MAX)?;
                let digest_of = |one: &ArchivedOriginDigestBody| OriginDigest {
                    origin: NodeKey::from_bytes(one.origin),
                    digest: one.digest,
                };
                let origins: Vec<_> = body.origins.iter().map(digest_of).collect();
                let ascend = origins.is_sorted_by(|one, next| one.origin < next.origin);
                require("order of digests", origins.len() as u64, ascend)?;
                Self::Digest(origins)
            }
            TYPE_MEMBER => {
                let body = access::<ArchivedMembersBody<'_>>(frame_type, payload)?;
                check_count("members", body.members.len(), NODES_PER_FRAME_MAX)?;
                Self::Member(
                    body.members.iter().map(ArchivedMemberBody::to_record).collect::<Result<_, _>>()?,
                )
            }
            TYPE_PING => {
                Self::Ping { nonce: access::<ArchivedPingBody>(frame_type, payload)?.nonce.to_native() }
            }
            TYPE_PING_REQ => {
                let body = access::<ArchivedPingReqBody>(frame_type, payload)?;
                Self::PingReq { nonce: body.nonce.to_native(), target: NodeKey::from_bytes(body.target) }
            }
            TYPE_ACK => {
                let body = access::<ArchivedAckBody>(frame_type, payload)?;
                let reach = Reach::from_wire(body.reach)?;
                Self::Ack { nonce: body.nonce.to_native(), target: NodeKey::from_bytes(body.target), reach }
            }
            TYPE_COMMAND => {
                let body = access::<ArchivedCommandBody<'_>>(frame_type, payload)?;
                let key = ServiceKey::new(&body.kind, &body.id)?;
                let found = key.partition();
                if found != partition {
                    return Err(MalformedChunk::Partition { expected: partition, found }.into());
                }
                let expect_version = body.expect_version.to_native();
                require("version", expect_version, expect_version <= VERSION_MAX)?;
                Self::Command {
                    op_id: u128::from_le_bytes(body.op_id),
                    origin: NodeKey::from_bytes(body.origin),
                    epoch: epoch(body.epoch.to_native())?,
                    operation: Operation::from_wire(body.operation)?,
                    key,
                    expect_version: (expect_version > 0).then_some(expect_version),
                }
            }
            TYPE_COMMAND_ACK => {
                let body = access::<ArchivedCommandAckBody>(frame_type, payload)?;
                let version = body.version.to_native();
                require("version", version, version <= VERSION_MAX)?;
                let outcome = match body.outcome {
                    0 => Outcome::Done { version },
                    1 => Outcome::Unchanged { version },
                    2 => Outcome::NotFound,
                    3 => Outcome::VersionMismatch { version },
                    4 => Outcome::OtherEpoch,
                    5 => Outcome::Busy,
                    other => return Err(WireError::Field { field: "outcome", value: u64::from(other) }),
                };
                Self::CommandAck { op_id: u128::from_le_bytes(body.op_id), outcome }
            }
            TYPE_CREDIT => {
                let bytes = access::<ArchivedCreditBody>(frame_type, payload)?.bytes.to_native();
                Self::Credit { partition, bytes }
            }
            TYPE_STALE_EPOCH => {
                let body = access::<ArchivedStaleEpochBody>(frame_type, payload)?;
                Self::StaleEpoch { remembered: epoch(body.remembered.to_native())? }
            }
            TYPE_BYE => {
                Self::Bye(ByeReason::from_wire(access::<ArchivedByeBody>(frame_type, payload)?.reason)?)
            }
            _ => return Err(WireError::UnknownType { frame_type }),
        };
        require("partition", u64::from(partition.get()), frame.partition() == partition.get())?;
        Ok(frame)
    }
}

/// Serialises what has no way to fail but memory.
fn archive<T>(body: &T) -> Result<Vec<u8>, WireError>
where
    T: for<'a> Serialize<
        rkyv::api::high::HighSerializer<Vec<u8>, rkyv::ser::allocator::ArenaHandle<'a>, Failure>,
    >,
{
    rkyv::api::high::to_bytes_in::<_, Failure>(body, Vec::new())
        .map_err(|_| WireError::TooLong { bytes: u32::MAX, bytes_max: crate::limits::FRAME_BYTES_MAX as u32 })
}

/// Validates a payload and gives access to it.
fn access<T>(frame_type: u8, payload: &[u8]) -> Result<&T, WireError>
where
    T: rkyv::Portable + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, Failure>>,
{
    rkyv::access::<T, Failure>(payload).map_err(|_| WireError::Malformed { frame_type, bytes: payload.len() })
}

fn check_count(field: &'static str, count: usize, count_max: usize) -> Result<(), WireError> {
    if count > count_max { Err(WireError::TooMany { field, count, count_max }) } else { Ok(()) }
}

fn epoch(epoch: u64) -> Result<Epoch, WireError> {
    Epoch::from_wire(epoch).ok_or(WireError::Field { field: "epoch", value: epoch })
}

fn log_id(origin: [u8; 16], number: u64, partition: Partition) -> Result<LogId, WireError> {
    Ok(LogId { origin: NodeKey::from_bytes(origin), epoch: epoch(number)?, partition })
}
