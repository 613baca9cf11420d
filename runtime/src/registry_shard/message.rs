//! What the registry's parts say to each other, across shards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use croupier_protocol::Subject;
use croupier_registry::{DialResult, Service};
use croupier_registry::{
    Digest, LinkId, MemberChange, NodeKey, NodeStatus, ServiceKey,
    wire::{Encoded, Hello, v1},
};

use super::Acceptance;
use crate::{
    RegistryError,
    services::{KindUpdate, ServiceRef},
    transport::Accepted,
};

/// A message to a shard's registry task. From one shard to another they keep their order.
pub(crate) enum ToShard {
    /// From the membership, to every shard.
    Member(MemberChange),
    /// From the membership, to every shard: who is known.
    Nodes(Arc<Nodes>),
    /// From the membership, to every shard: give each open link its part of a heartbeat.
    Beat {
        counter: u64,
    },
    /// From the membership, to every shard: what it has of each node.
    CollectDigests {
        round: u64,
    },
    /// From the membership, to every shard: tell a peer what is known here of a node.
    SendVersions {
        peer: NodeKey,
        node: NodeKey,
    },
    /// To every shard: every link has been told to say Bye.
    Leave,

    /// To the shard of a link that is to be.
    Dial {
        link: LinkId,
        address: String,
        deadline: Duration,
    },
    Accepted {
        link: LinkId,
        connection: Accepted,
    },

    /// To the shard of a link.
    Accept {
        link: LinkId,
        acceptance: Acceptance,
    },
    Close {
        link: LinkId,
        reason: v1::ByeReason,
    },
    Send {
        link: LinkId,
        frame: v1::Frame,
    },
    Write {
        link: LinkId,
        from: usize,
        frame: Encoded,
    },
    HeartbeatPart {
        link: LinkId,
        from: usize,
        counter: u64,
        digest: Digest,
    },
    ComparePart {
        link: LinkId,
        digest: Digest,
    },
    Violation {
        link: LinkId,
        violation: croupier_registry::Violation,
    },

    /// To the shard of the membership.
    Greet {
        link: LinkId,
    },
    Hello {
        link: LinkId,
        hello: Hello,
        dialled: bool,
    },
    MembershipFrame {
        link: LinkId,
        frame: v1::Frame,
        burden: Option<Burden>,
    },
    OriginDigests {
        peer: NodeKey,
        digests: Vec<v1::OriginDigest>,
        burden: Burden,
    },
    DigestsPart {
        round: u64,
        parts: Vec<(NodeKey, Digest)>,
    },
    LinkClosed {
        link: LinkId,
    },
    DialFailed {
        address: String,
        result: DialResult,
    },
    /// An accepted connection is not half open any more.
    Introduced {
        link: LinkId,
    },

    /// From a link, to every shard.
    LinkUp {
        peer: NodeKey,
        link: LinkId,
        acceptance: Acceptance,
    },
    LinkDown {
        peer: NodeKey,
        link: LinkId,
    },
    Compare {
        peer: NodeKey,
        link: LinkId,
    },
    Repair {
        peer: NodeKey,
    },
    /// From a link, to the shard that a frame is for.
    Frame {
        link: LinkId,
        peer: NodeKey,
        frame: Arc<v1::Frame>,
        frame_bytes: usize,
        load: Load,
    },
    Written {
        link: LinkId,
        peer: NodeKey,
        frames: Vec<Encoded>,
    },

    /// From a partition's shard, to every shard.
    News(Arc<KindUpdate>),

    /// From whoever wants a change, to the partition's shard, and back.
    Operate {
        from: usize,
        token: Option<u64>,
        operation: Operation,
    },
    Operated {
        token: u64,
        outcome: Result<Operated, RegistryError>,
    },
}

/// A change that an application asks for.
pub(crate) enum Operation {
    Add(Service),
    SetMeta {
        key: ServiceKey,
        name: String,
        value: String,
    },
    /// Takes the instance with this inbox back.
    Withdraw {
        key: ServiceKey,
        inbox: Subject,
    },
    Command {
        service: ServiceRef,
        operation: v1::Operation,
    },
    Fingerprint {
        kind: Vec<u8>,
    },
}

impl Operation {
    /// The type of service that it concerns.
    pub(crate) fn kind(&self) -> &[u8] {
        match self {
            Operation::Add(service) => service.kind(),
            Operation::SetMeta { key, .. } | Operation::Withdraw { key, .. } => key.kind(),
            Operation::Command { service, .. } => service.kind(),
            Operation::Fingerprint { kind } => kind,
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operated {
    Done,
    Fingerprint(u64),
}

/// Who is known, as every shard may tell.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<NodeStatus>,
    /// Nodes or seeds that were heard of, but not reached yet.
    pub(crate) is_reaching_out: bool,
}

/// Bytes of frames that a link has handed to other shards, and that they have not taken yet.
#[derive(Clone, Default)]
pub(crate) struct Load(pub(crate) Arc<AtomicUsize>);

/// The part that one message has in a load, until it is dropped. It counts the memory of the message too, so that
/// many small frames weigh as much as they take.
pub(crate) struct Burden {
    load: Load,
    bytes: usize,
}

impl Burden {
    pub(crate) fn new(load: &Load, frame_bytes: usize) -> Self {
        let bytes = frame_bytes + size_of::<ToShard>();
        load.0.fetch_add(bytes, Ordering::AcqRel);
        Burden { load: load.clone(), bytes }
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.load.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
