//! What an instance is: its key, its state, weight and metadata, in one shared allocation.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::limits::{CLASSES, ID_BYTES_MAX, INBOX_BYTES_MAX, KIND_BYTES_MAX, METADATA_BYTES_MAX, WEIGHT_MAX};
use crate::{InvalidService, Partition};

/// One instance as its owner registered it: immutable, cheap to clone, to be shared between shards.
///
/// Everything lies in one allocation: a header of 8 bytes, then type, id, inbox and metadata.
#[derive(Clone, Eq, PartialEq)]
pub struct Service {
    body: Arc<[u8]>,
}

impl Service {
    /// The type it serves.
    #[must_use]
    pub fn kind(&self) -> &[u8] {
        &self.body[HEADER_BYTES..self.id_at()]
    }

    /// Its id, unique within its node and type.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.body[self.id_at()..self.inbox_at()]
    }

    /// The subject that its calls go to; may be empty.
    #[must_use]
    pub fn inbox(&self) -> &[u8] {
        &self.body[self.inbox_at()..self.metadata_at()]
    }

    /// The packed metadata, as it travels.
    #[must_use]
    pub fn packed_metadata(&self) -> &[u8] {
        &self.body[self.metadata_at()..]
    }

    /// Its metadata, by ascending key.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata { rest: self.packed_metadata() }
    }

    /// The value of one key of its metadata.
    #[must_use]
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.metadata().find(|(candidate, _)| *candidate == key).map(|(_, value)| value)
    }

    /// Whether lookups may choose it.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.body[0] & FLAG_ONLINE != 0
    }

    /// Whether only one of several nodes that offer this type and id is to be chosen.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        self.body[0] & FLAG_UNIQUE != 0
    }

    /// Its share in the type's ring, 1 to [`WEIGHT_MAX`].
    #[must_use]
    pub fn weight(&self) -> u8 {
        self.body[1]
    }

    /// The number of the ring class that it asks for, below [`CLASSES`].
    #[must_use]
    pub fn class(&self) -> u8 {
        self.body[2]
    }

    /// Its partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        Partition::of_kind(self.kind())
    }

    /// Its key, as a value of its own.
    #[must_use]
    pub fn key(&self) -> ServiceKey {
        ServiceKey::from_parts(self.kind(), self.id())
    }

    /// The flags as they travel.
    pub(crate) fn flags(&self) -> u8 {
        self.body[0]
    }

    /// The same instance, online or offline.
    #[must_use]
    pub fn with_online(&self, online: bool) -> Self {
        let mut body: Box<[u8]> = self.body.as_ref().into();
        body[0] = if online { body[0] | FLAG_ONLINE } else { body[0] & !FLAG_ONLINE };
        Self { body: body.into() }
    }

    /// What it takes of memory, in bytes: the allocation with its counters.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.body.len() + 2 * size_of::<usize>()
    }

    /// From its fields as they travel, all of which are checked.
    pub(crate) fn from_wire(fields: WireService<'_>) -> Result<Self, InvalidService> {
        let WireService { kind, id, inbox, metadata, flags, weight, class } = fields;
        check_key(kind, id)?;
        let long = [
            (inbox.len(), INBOX_BYTES_MAX, InvalidService::InboxTooLong { bytes: inbox.len() }),
            (metadata.len(), METADATA_BYTES_MAX, InvalidService::MetadataTooLong { bytes: metadata.len() }),
        ];
        for (bytes, bytes_max, error) in long {
            if bytes > bytes_max {
                return Err(error);
            }
        }
        if flags & !(FLAG_ONLINE | FLAG_UNIQUE) != 0 {
            return Err(InvalidService::UnknownFlags { flags });
        }
        if !(1..=WEIGHT_MAX).contains(&weight) {
            return Err(InvalidService::Weight { weight });
        }
        if class >= CLASSES {
            return Err(InvalidService::Class { class });
        }
        check_metadata(metadata)?;
        let mut body =
            Vec::with_capacity(HEADER_BYTES + kind.len() + id.len() + inbox.len() + metadata.len());
        // The lengths were just checked against bounds below 2^16, that of the type against 128.
        body.extend_from_slice(&[flags, weight, class, kind.len() as u8]);
        body.extend_from_slice(&(id.len() as u16).to_le_bytes());
        body.extend_from_slice(&(inbox.len() as u16).to_le_bytes());
        for part in [kind, id, inbox, metadata] {
            body.extend_from_slice(part);
        }
        Ok(Self { body: body.into() })
    }

    fn id_at(&self) -> usize {
        HEADER_BYTES + usize::from(self.body[3])
    }

    fn inbox_at(&self) -> usize {
        self.id_at() + usize::from(u16::from_le_bytes([self.body[4], self.body[5]]))
    }

    fn metadata_at(&self) -> usize {
        self.inbox_at() + usize::from(u16::from_le_bytes([self.body[6], self.body[7]]))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("kind", &String::from_utf8_lossy(self.kind()))
            .field("id", &String::from_utf8_lossy(self.id()))
            .field("online", &self.is_online())
            .field("weight", &self.weight())
            .finish_non_exhaustive()
    }
}

/// The pairs of an entry's metadata, by ascending key.
#[derive(Clone, Debug)]
pub struct Metadata<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Metadata<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value, rest) = split_pair(self.rest)?;
        self.rest = rest;
        Some((key, value))
    }
}

/// Builds a [`Service`]. What it is given is checked once, in [`ServiceBuilder::build`].
#[derive(Clone, Debug)]
pub struct ServiceBuilder {
    kind: Vec<u8>,
    id: Vec<u8>,
    inbox: Vec<u8>,
    metadata: Vec<(String, String)>,
    flags: u8,
    weight: u8,
    class: u8,
}

impl ServiceBuilder {
    /// An online instance of weight 1 and the smallest class, without inbox and metadata.
    #[must_use]
    pub fn new(kind: impl AsRef<[u8]>, id: impl AsRef<[u8]>) -> Self {
        Self {
            kind: kind.as_ref().to_vec(),
            id: id.as_ref().to_vec(),
            inbox: Vec::new(),
            metadata: Vec::new(),
            flags: FLAG_ONLINE,
            weight: 1,
            class: 0,
        }
    }

    /// A builder that makes this very service.
    #[must_use]
    pub fn from_service(service: &Service) -> Self {
        Self {
            kind: service.kind().to_vec(),
            id: service.id().to_vec(),
            inbox: service.inbox().to_vec(),
            metadata: service.metadata().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            flags: service.flags(),
            weight: service.weight(),
            class: service.class(),
        }
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: impl AsRef<[u8]>) -> Self {
        self.id = id.as_ref().to_vec();
        self
    }

    /// Sets the subject that its calls go to.
    #[must_use]
    pub fn inbox(mut self, inbox: impl AsRef<[u8]>) -> Self {
        self.inbox = inbox.as_ref().to_vec();
        self
    }

    /// Sets one pair of its metadata; the last value of a key counts.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        match self.metadata.binary_search_by(|(candidate, _)| candidate.as_str().cmp(&key)) {
            Ok(at) => self.metadata[at].1 = value,
            Err(at) => self.metadata.insert(at, (key, value)),
        }
        self
    }

    /// Online (the default) or offline.
    #[must_use]
    pub fn online(mut self, online: bool) -> Self {
        self.flags = if online { self.flags | FLAG_ONLINE } else { self.flags & !FLAG_ONLINE };
        self
    }

    /// Among the nodes that offer this type and id, lookups choose only one.
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.flags |= FLAG_UNIQUE;
        self
    }

    /// Sets the weight, 1 to [`WEIGHT_MAX`].
    #[must_use]
    pub fn weight(mut self, weight: u8) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the number of the ring class, below [`CLASSES`].
    #[must_use]
    pub fn class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    /// The service.
    ///
    /// # Errors
    ///
    /// If a field is empty that must not be, or beyond its limit.
    pub fn build(&self) -> Result<Service, InvalidService> {
        let mut metadata = Vec::new();
        for (key, value) in &self.metadata {
            let lengths = u16::try_from(key.len()).ok().zip(u16::try_from(value.len()).ok());
            let Some((key_bytes, value_bytes)) = lengths else {
                return Err(InvalidService::MetadataTooLong { bytes: key.len().saturating_add(value.len()) });
            };
            metadata.extend_from_slice(&key_bytes.to_le_bytes());
            metadata.extend_from_slice(&value_bytes.to_le_bytes());
            metadata.extend_from_slice(key.as_bytes());
            metadata.extend_from_slice(value.as_bytes());
            if metadata.len() > METADATA_BYTES_MAX {
                return Err(InvalidService::MetadataTooLong { bytes: metadata.len() });
            }
        }
        Service::from_wire(WireService {
            kind: &self.kind,
            id: &self.id,
            inbox: &self.inbox,
            metadata: &metadata,
            flags: self.flags,
            weight: self.weight,
            class: self.class,
        })
    }
}

/// A type and an id: what names an instance within its node.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceKey {
    bytes: Box<[u8]>,
    kind_bytes: u8,
}

impl ServiceKey {
    /// A key of this type and id.
    ///
    /// # Errors
    ///
    /// If one of them is empty or too long.
    pub fn new(kind: &[u8], id: &[u8]) -> Result<Self, InvalidService> {
        check_key(kind, id)?;
        Ok(Self::from_parts(kind, id))
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> &[u8] {
        &self.bytes[..usize::from(self.kind_bytes)]
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.bytes[usize::from(self.kind_bytes)..]
    }

    /// Its partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        Partition::of_kind(self.kind())
    }

    /// Of parts that passed [`check_key`].
    fn from_parts(kind: &[u8], id: &[u8]) -> Self {
        Self { bytes: [kind, id].concat().into(), kind_bytes: kind.len() as u8 }
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", String::from_utf8_lossy(self.kind()), String::from_utf8_lossy(self.id()))
    }
}

/// The fields of a service as a frame carries them, unchecked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireService<'a> {
    pub(crate) kind: &'a [u8],
    pub(crate) id: &'a [u8],
    pub(crate) inbox: &'a [u8],
    pub(crate) metadata: &'a [u8],
    pub(crate) flags: u8,
    pub(crate) weight: u8,
    pub(crate) class: u8,
}

/// Hash of a key, for indexes in memory only; it never travels.
pub(crate) fn hash_of_key(kind: &[u8], id: &[u8]) -> u64 {
    xxh3_64_with_seed(id, xxh3_64(kind))
}

fn check_key(kind: &[u8], id: &[u8]) -> Result<(), InvalidService> {
    if kind.is_empty() {
        return Err(InvalidService::EmptyKind);
    }
    if kind.len() > KIND_BYTES_MAX {
        return Err(InvalidService::KindTooLong { bytes: kind.len() });
    }
    if id.is_empty() {
        return Err(InvalidService::EmptyId);
    }
    if id.len() > ID_BYTES_MAX {
        return Err(InvalidService::IdTooLong { bytes: id.len() });
    }
    Ok(())
}

/// Packed metadata has one form: pairs of UTF-8 by strictly ascending key, and not a byte more.
fn check_metadata(packed: &[u8]) -> Result<(), InvalidService> {
    let mut rest = packed;
    let mut previous: Option<&str> = None;
    while !rest.is_empty() {
        let offset = packed.len() - rest.len();
        let Some((key, _, after)) = split_pair(rest) else {
            return Err(InvalidService::MalformedMetadata { offset });
        };
        if previous.is_some_and(|previous| previous >= key) {
            return Err(InvalidService::MalformedMetadata { offset });
        }
        previous = Some(key);
        rest = after;
    }
    Ok(())
}

/// Takes the first pair: two lengths of 16 bits, then key and value.
fn split_pair(packed: &[u8]) -> Option<(&str, &str, &[u8])> {
    let (lengths, rest) = packed.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([lengths[0], lengths[1]])))?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([lengths[2], lengths[3]])))?;
    Some((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?, rest))
}

const FLAG_ONLINE: u8 = 1;
const FLAG_UNIQUE: u8 = 2;
/// Flags, weight, class, length of the type; 16 bits each for the lengths of id and inbox.
const HEADER_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_gives_back_what_it_was_built_from() {
        let service = ServiceBuilder::new("uploader", "0.1")
            .inbox("_INBOX.x")
            .meta("zone", "eu-1")
            .meta("arch", "arm")
            .meta("zone", "eu-2")
            .weight(3)
            .class(2)
            .unique()
            .build()
            .unwrap();
        assert_eq!((service.kind(), service.id()), (&b"uploader"[..], &b"0.1"[..]));
        assert_eq!(service.inbox(), b"_INBOX.x");
        assert_eq!(service.metadata().collect::<Vec<_>>(), [("arch", "arm"), ("zone", "eu-2")]);
        assert_eq!((service.meta("zone"), service.meta("none")), (Some("eu-2"), None));
        assert_eq!((service.weight(), service.class()), (3, 2));
        assert!(service.is_online() && service.is_unique());
        assert_eq!(ServiceBuilder::from_service(&service).build().unwrap(), service);
        let offline = service.with_online(false);
        assert!(!offline.is_online() && offline.is_unique());
        assert_eq!(offline.with_online(true), service);
    }

    #[test]
    fn what_is_beyond_a_limit_is_refused_with_its_size() {
        let ok =
            ServiceBuilder::new([b'k'; KIND_BYTES_MAX], [b'i'; ID_BYTES_MAX]).inbox([b'x'; INBOX_BYTES_MAX]);
        assert!(ok.build().is_ok());
        let cases = [
            (ServiceBuilder::new("", "i"), InvalidService::EmptyKind),
            (ServiceBuilder::new("k", ""), InvalidService::EmptyId),
            (ServiceBuilder::new([b'k'; 129], "i"), InvalidService::KindTooLong { bytes: 129 }),
            (ServiceBuilder::new("k", [b'i'; 257]), InvalidService::IdTooLong { bytes: 257 }),
            (ok.clone().inbox([b'x'; 257]), InvalidService::InboxTooLong { bytes: 257 }),
            (ok.clone().weight(0), InvalidService::Weight { weight: 0 }),
            (ok.clone().weight(9), InvalidService::Weight { weight: 9 }),
            (ok.clone().class(6), InvalidService::Class { class: 6 }),
            (ok.clone().meta("k", "v".repeat(4092)), InvalidService::MetadataTooLong { bytes: 4097 }),
            (ok.clone().meta("k", "v".repeat(70_000)), InvalidService::MetadataTooLong { bytes: 70_001 }),
        ];
        for (builder, error) in cases {
            assert_eq!(builder.build().unwrap_err(), error);
        }
        assert!(ok.meta("k", "v".repeat(4091)).build().is_ok());
    }

    #[test]
    fn metadata_has_one_packed_form() {
        let refused: [(&[u8], usize); 6] = [
            (&[1, 0, 0], 0),
            (&[1, 0, 0, 0], 0),
            (&[1, 0, 0, 0, 0xFF], 0),
            (&[1, 0, 0, 0, b'a', 1, 0, 0, 0, b'a'], 5),
            (&[1, 0, 0, 0, b'b', 1, 0, 0, 0, b'a'], 5),
            (&[1, 0, 1, 0, b'b', b'v', 9], 6),
        ];
        for (packed, offset) in refused {
            let fields = WireService { metadata: packed, ..plain() };
            assert_eq!(
                Service::from_wire(fields).unwrap_err(),
                InvalidService::MalformedMetadata { offset },
                "{packed:?}"
            );
        }
        let unknown = Service::from_wire(WireService { flags: 4, ..plain() });
        assert_eq!(unknown.unwrap_err(), InvalidService::UnknownFlags { flags: 4 });
    }

    fn plain() -> WireService<'static> {
        WireService { kind: b"k", id: b"i", inbox: b"", metadata: b"", flags: 1, weight: 1, class: 0 }
    }
}
