//! What is registered in every measurement of the registry: instances that look like those of a real cluster.

use croupier_registry::{InvalidService, Service, ServiceBuilder};

/// Keys and values of an instance's metadata together; packed they take 4 bytes more for each of two pairs.
pub const METADATA_TEXT_BYTES: usize = 64;

/// The name of a service type: 9 bytes.
#[must_use]
pub fn kind(number: usize) -> String {
    format!("type-{number:04}")
}

/// The id of an instance: shard, point, number.
#[must_use]
pub fn id(number: u64) -> String {
    format!("0.{number}")
}

/// An instance with an id like those that nodes give out, an inbox of some 25 bytes, and
/// [`METADATA_TEXT_BYTES`] of metadata that name a revision.
///
/// # Errors
/// If the type is empty or too long.
pub fn service(kind: &str, number: u64, revision: u64) -> Result<Service, InvalidService> {
    let builder = ServiceBuilder::new(kind, id(number)).inbox(format!("_CRP.4f1c2ab97e06d83b.{number}"));
    metadata(revision).into_iter().fold(builder, |builder, (key, value)| builder.meta(key, value)).build()
}

/// [`METADATA_TEXT_BYTES`] of metadata that name a revision.
#[must_use]
pub fn metadata(revision: u64) -> [(&'static str, String); 2] {
    [("version", format!("{revision:043x}")), ("zone", "eu-west-1a".to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_the_size_that_is_named() {
        let service = service(&kind(7), 123_456, 1).unwrap();
        let bytes: usize = service.metadata().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!(bytes, METADATA_TEXT_BYTES);
        assert_eq!(service.packed_metadata().len(), METADATA_TEXT_BYTES + 2 * 4);
    }
}
