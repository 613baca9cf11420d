//! What a publish carries: borrowed bytes, or bytes that it may keep.

use bytes::Bytes;

/// The payload of a message on its way out.
///
/// Borrowed bytes are copied once, into the connection's buffer. Owned bytes of more than about
/// 2 KiB are handed to the kernel from where they are. The size limit is the server's
/// `max_payload`.
#[derive(Clone, Debug)]
pub struct Payload<'a>(Inner<'a>);

#[derive(Clone, Debug)]
enum Inner<'a> {
    Borrowed(&'a [u8]),
    Shared(Bytes),
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Inner::Borrowed(bytes) => bytes,
            Inner::Shared(bytes) => bytes,
            Inner::Owned(bytes) => bytes,
        }
    }

    /// How many bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload without its lifetime: borrowed bytes are copied, others keep their place.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Inner::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Inner::Shared(bytes) => bytes,
            Inner::Owned(bytes) => bytes.into(),
        }
    }

    /// The same with a handle where a clone would copy.
    pub(crate) fn into_cheap_to_clone(self) -> Self {
        match self.0 {
            Inner::Owned(bytes) => Payload(Inner::Shared(bytes.into())),
            inner => Payload(inner),
        }
    }

    /// Whether the bytes may be kept without copying them.
    #[inline]
    pub(crate) fn is_owned(&self) -> bool {
        !matches!(self.0, Inner::Borrowed(_))
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Payload(Inner::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Payload(Inner::Borrowed(text.as_bytes()))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a [u8; N]) -> Self {
        Payload(Inner::Borrowed(bytes))
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a Vec<u8>) -> Self {
        Payload(Inner::Borrowed(bytes))
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Payload(Inner::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a Bytes> for Payload<'a> {
    /// Takes a reference-counted handle, so that large bytes are sent from where they are.
    #[inline]
    fn from(bytes: &'a Bytes) -> Self {
        // A handle costs an atomic increment, which pays only where it saves the copy.
        if bytes.len() > crate::cluster_link::SLICE_BYTES_MIN {
            Payload(Inner::Shared(bytes.clone()))
        } else {
            Payload(Inner::Borrowed(bytes))
        }
    }
}

impl From<Bytes> for Payload<'_> {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Payload(Inner::Shared(bytes))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        Payload(Inner::Owned(bytes))
    }
}

impl From<String> for Payload<'_> {
    #[inline]
    fn from(text: String) -> Self {
        Payload(Inner::Owned(text.into_bytes()))
    }
}

impl<const N: usize> From<[u8; N]> for Payload<'_> {
    fn from(bytes: [u8; N]) -> Self {
        Payload(Inner::Owned(bytes.to_vec()))
    }
}
