//! A secret shared by the nodes of a registry, and the keys made of several.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// The longest secret, in bytes. A good one has 16 to 64.
pub const SECRET_BYTES_MAX: usize = 4096;

/// Bytes of a key made of a secret.
pub(crate) const KEY_BYTES: usize = 32;

/// What separates these keys from any other use of the same secret.
const KEY_DOMAIN: &[u8] = b"croupier registry link key 1\0";

/// A secret that the nodes of one registry share.
///
/// Its bytes are overwritten when it is dropped, and nothing shows them: `Debug` prints `Secret(..)`.
/// Use at least 16 random bytes. A short or guessable one can be tried out, without any node noticing, on
/// a recorded handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Copies the bytes, all of which count: a line break at the end is part of the secret.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(Zeroizing::new(bytes.as_ref().into()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The keys of a node's secrets, in their order: the first one sends, all are accepted.
///
/// A clone shares the keys; the last one to go overwrites them.
#[derive(Clone)]
pub(crate) struct KeyRing(Arc<Vec<Key>>);

impl KeyRing {
    /// One key for each secret. Of none comes an empty ring: links without encryption.
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        // Filled in place, so that no moved key stays behind in freed memory.
        let mut keys = Vec::with_capacity(secrets.len());
        for secret in secrets {
            keys.push(Key([0; KEY_BYTES]));
            if let Some(Key(key)) = keys.last_mut() {
                let hash = Sha256::new().chain_update(KEY_DOMAIN).chain_update(secret.bytes());
                hash.finalize_into(key.into());
            }
        }
        Self(Arc::new(keys))
    }

    /// Whether there is no key.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, the one that sends first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8; KEY_BYTES]> {
        self.0.iter().map(|Key(key)| key)
    }
}

/// Not in constant time: both are this node's own.
impl PartialEq for KeyRing {
    fn eq(&self, other: &Self) -> bool {
        self.keys().eq(other.keys())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.0.len())
    }
}

struct Key([u8; KEY_BYTES]);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_secret() {
        let secret = Secret::new("canary");
        let ring = KeyRing::new(&[secret.clone(), Secret::new("second")]);
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(..) Secret(..)");
        assert_eq!(format!("{ring:?}"), "KeyRing(2 keys)");
        assert_eq!(secret, secret.clone());
        assert_ne!(secret, Secret::new("canary\n"));
    }

    #[test]
    fn each_secret_makes_a_key_of_its_own_in_its_order() {
        let secrets = ["a", "b", ""].map(Secret::new);
        let ring = KeyRing::new(&secrets);
        let keys: Vec<_> = ring.keys().copied().collect();
        assert_eq!(keys.len(), 3);
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        assert_eq!(KeyRing::new(&secrets[1..]).keys().next(), Some(&keys[1]));
        assert!(KeyRing::new(&[]).is_empty() && !ring.is_empty());
        // The wire depends on it: nodes of two versions must make the same key of one secret.
        let expected = Sha256::digest(b"croupier registry link key 1\0a");
        assert_eq!(keys[0], expected[..]);
    }
}
