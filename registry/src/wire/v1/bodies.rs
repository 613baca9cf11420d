//! The archives of version 1, and what they are made from and made into.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

use super::{LogId, MemberRecord, Place, Standing, check_count, epoch};
use crate::limits::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX, PUTS_PER_DELTA_MAX, VERSION_MAX};
use crate::service::WireService;
use crate::wire::hello::{check_length, check_text, require};
use crate::{Delta, Epoch, NodeKey, PARTITIONS, Partition, Put, Removal, Service, ServiceKey, WireError};

#[derive(Archive, Serialize)]
pub(super) struct HeartbeatBody {
    pub(super) counter: u64,
    pub(super) digest: [u8; 16],
}

#[derive(Archive, Serialize)]
pub(super) struct DeltaBody<'a> {
    pub(super) origin: [u8; 16],
    pub(super) epoch: u64,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) horizon: u64,
    pub(super) removals_from: u64,
    pub(super) puts: Vec<PutBody<'a>>,
    pub(super) removals: Vec<RemovalBody<'a>>,
}

#[derive(Archive, Serialize)]
pub(super) struct PutBody<'a> {
    pub(super) version: u64,
    #[rkyv(with = InlineAsBox)]
    pub(super) kind: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    pub(super) id: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    pub(super) inbox: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    pub(super) metadata: &'a [u8],
    pub(super) flags: u8,
    pub(super) weight: u8,
    pub(super) class: u8,
}

#[derive(Archive, Serialize)]
pub(super) struct RemovalBody<'a> {
    pub(super) version: u64,
    #[rkyv(with = InlineAsBox)]
    pub(super) kind: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    pub(super) id: &'a [u8],
}

impl<'a> DeltaBody<'a> {
    pub(super) fn of(log: LogId, delta: &'a Delta) -> Self {
        let put_body = |put: &'a Put| PutBody {
            version: put.version,
            kind: put.service.kind(),
            id: put.service.id(),
            inbox: put.service.inbox(),
            metadata: put.service.packed_metadata(),
            flags: put.service.flags(),
            weight: put.service.weight(),
            class: put.service.class(),
        };
        let removal_body = |removal: &'a Removal| RemovalBody {
            version: removal.version,
            kind: removal.key.kind(),
            id: removal.key.id(),
        };
        Self {
            origin: log.origin.to_bytes(),
            epoch: log.epoch.get(),
            from: delta.from,
            to: delta.to,
            horizon: delta.horizon,
            removals_from: delta.removals_from,
            puts: delta.puts.iter().map(put_body).collect(),
            removals: delta.removals.iter().map(removal_body).collect(),
        }
    }
}

impl ArchivedDeltaBody<'_> {
    pub(super) fn to_delta(&self, partition: Partition, payload_bytes: usize) -> Result<Delta, WireError> {
        check_count("puts", self.puts.len(), PUTS_PER_DELTA_MAX)?;
        check_count("removals", self.removals.len(), PUTS_PER_DELTA_MAX)?;
        // An archive whose parts share their bytes would make a small frame into much memory.
        let puts_bytes =
            |put: &ArchivedPutBody<'_>| put.kind.len() + put.id.len() + put.inbox.len() + put.metadata.len();
        let removal_bytes = |removal: &ArchivedRemovalBody<'_>| removal.kind.len() + removal.id.len();
        let bytes = self.puts.iter().map(puts_bytes).sum::<usize>()
            + self.removals.iter().map(removal_bytes).sum::<usize>();
        check_length("content of a delta", bytes, payload_bytes)?;
        let put_of = |put: &ArchivedPutBody<'_>| -> Result<Put, WireError> {
            let service = Service::from_wire(WireService {
                kind: &put.kind,
                id: &put.id,
                inbox: &put.inbox,
                metadata: &put.metadata,
                flags: put.flags,
                weight: put.weight,
                class: put.class,
            })?;
            Ok(Put { version: put.version.to_native(), service })
        };
        let removal_of = |removal: &ArchivedRemovalBody<'_>| -> Result<Removal, WireError> {
            let key = ServiceKey::new(&removal.kind, &removal.id)?;
            Ok(Removal { version: removal.version.to_native(), key })
        };
        let delta = Delta {
            from: self.from.to_native(),
            to: self.to.to_native(),
            horizon: self.horizon.to_native(),
            removals_from: self.removals_from.to_native(),
            puts: self.puts.iter().map(put_of).collect::<Result<_, _>>()?,
            removals: self.removals.iter().map(removal_of).collect::<Result<_, _>>()?,
        };
        delta.check(partition)?;
        Ok(delta)
    }
}

#[derive(Archive, Serialize)]
pub(super) struct SealBody<'a> {
    pub(super) origin: [u8; 16],
    pub(super) epoch: u64,
    pub(super) target: u64,
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) horizon: u64,
    #[rkyv(with = InlineAsBox)]
    pub(super) live: &'a [u8],
}

#[derive(Archive, Serialize)]
pub(super) struct PlacesBody {
    pub(super) origin: [u8; 16],
    pub(super) epoch: u64,
    pub(super) places: Vec<PlaceBody>,
}

#[derive(Archive, Serialize)]
pub(super) struct PlaceBody {
    pub(super) partition: u8,
    pub(super) known: u64,
    pub(super) content: u64,
}

impl PlaceBody {
    pub(super) fn of(place: &Place) -> Self {
        Self { partition: place.partition.get(), known: place.known, content: place.content }
    }
}

impl ArchivedPlacesBody {
    pub(super) fn to_places(&self) -> Result<(NodeKey, Epoch, Vec<Place>), WireError> {
        check_count("places", self.places.len(), PARTITIONS)?;
        let mut places: Vec<Place> = Vec::with_capacity(self.places.len());
        for place in self.places.iter() {
            let number = u64::from(place.partition);
            let partition = Partition::from_wire(u16::from(place.partition))
                .ok_or(WireError::Field { field: "partition", value: number })?;
            let (known, content) = (place.known.to_native(), place.content.to_native());
            require("version", content, known <= content && content <= VERSION_MAX)?;
            require("partition", number, places.last().is_none_or(|last| last.partition < partition))?;
            places.push(Place { partition, known, content });
        }
        Ok((NodeKey::from_bytes(self.origin), epoch(self.epoch.to_native())?, places))
    }
}

#[derive(Archive, Serialize)]
pub(super) struct DigestBody {
    pub(super) origins: Vec<OriginDigestBody>,
}

#[derive(Archive, Serialize)]
pub(super) struct OriginDigestBody {
    pub(super) origin: [u8; 16],
    pub(super) digest: [u8; 16],
}

#[derive(Archive, Serialize)]
pub(super) struct MembersBody<'a> {
    pub(super) members: Vec<MemberBody<'a>>,
}

#[derive(Archive, Serialize)]
pub(super) struct MemberBody<'a> {
    #[rkyv(with = InlineAsBox)]
    pub(super) name: &'a str,
    #[rkyv(with = InlineAsBox)]
    pub(super) address: &'a str,
    pub(super) epoch: u64,
    pub(super) counter: u64,
    pub(super) standing: u8,
}

impl<'a> MemberBody<'a> {
    pub(super) fn of(record: &'a MemberRecord) -> Self {
        Self {
            name: &record.name,
            address: &record.address,
            epoch: record.epoch.get(),
            counter: record.counter,
            standing: record.standing as u8,
        }
    }
}

impl ArchivedMemberBody<'_> {
    pub(super) fn to_record(&self) -> Result<MemberRecord, WireError> {
        check_text("node name", self.name.as_bytes(), NAME_BYTES_MAX)?;
        check_length("address", self.address.len(), ADDRESS_BYTES_MAX)?;
        Ok(MemberRecord {
            name: (*self.name).to_owned(),
            address: (*self.address).to_owned(),
            epoch: epoch(self.epoch.to_native())?,
            counter: self.counter.to_native(),
            standing: Standing::from_wire(self.standing)?,
        })
    }
}

#[derive(Archive, Serialize)]
pub(super) struct PingBody {
    pub(super) nonce: u64,
}

#[derive(Archive, Serialize)]
pub(super) struct PingReqBody {
    pub(super) nonce: u64,
    pub(super) target: [u8; 16],
}

#[derive(Archive, Serialize)]
pub(super) struct AckBody {
    pub(super) nonce: u64,
    pub(super) target: [u8; 16],
    pub(super) reach: u8,
}

#[derive(Archive, Serialize)]
pub(super) struct CommandBody<'a> {
    pub(super) op_id: [u8; 16],
    pub(super) origin: [u8; 16],
    pub(super) epoch: u64,
    pub(super) operation: u8,
    #[rkyv(with = InlineAsBox)]
    pub(super) kind: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    pub(super) id: &'a [u8],
    pub(super) expect_version: u64,
}

#[derive(Archive, Serialize)]
pub(super) struct CommandAckBody {
    pub(super) op_id: [u8; 16],
    pub(super) outcome: u8,
    pub(super) version: u64,
}

#[derive(Archive, Serialize)]
pub(super) struct CreditBody {
    pub(super) bytes: u64,
}

#[derive(Archive, Serialize)]
pub(super) struct StaleEpochBody {
    pub(super) remembered: u64,
}

#[derive(Archive, Serialize)]
pub(super) struct ByeBody {
    pub(super) reason: u8,
}
