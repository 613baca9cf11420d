//! A type of service that was looked up once.

use std::{borrow::Cow, fmt, rc::Rc};

use super::{Call, CallError, Service, Services, Watch, calls, view::KindView};
use crate::{Payload, Shard};

/// A type of service, resolved once: its lookups save the search for the type.
#[derive(Clone)]
pub struct ServiceType {
    pub(crate) shard: Shard,
    pub(crate) view: Rc<KindView>,
}

impl ServiceType {
    /// The type.
    pub fn kind(&self) -> &[u8] {
        self.view.kind()
    }

    /// As [`Registry::find_service`](crate::Registry::find_service).
    #[inline]
    pub fn find(&self, key: impl AsRef<[u8]>) -> Option<Service> {
        self.view.find(key.as_ref())
    }

    /// As [`Registry::find_multi_service`](crate::Registry::find_multi_service).
    #[inline]
    pub fn find_multi(&self, count: usize, key: impl AsRef<[u8]>) -> Services {
        self.view.find_multi(count, key.as_ref())
    }

    /// As [`Registry::watch`](crate::Registry::watch).
    pub fn watch(&self) -> Watch {
        let watch = Watch::new(Rc::clone(&self.view));
        self.shard.registry_shard().add_watch(watch.queue());
        watch
    }

    /// As [`Registry::call`](crate::Registry::call).
    pub fn call<'a>(&self, key: impl AsRef<[u8]>, payload: impl Into<Payload<'a>>) -> Call<'a> {
        Call {
            shard: self.shard.clone(),
            view: Rc::clone(&self.view),
            key: Cow::Owned(key.as_ref().to_vec()),
            payload: payload.into(),
            idempotent: false,
            timeout: self.shard.registry_shard().node().limits.get().request_timeout,
        }
    }

    /// As [`Registry::cast`](crate::Registry::cast).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn cast<'a>(&self, key: impl AsRef<[u8]>, payload: impl Into<Payload<'a>>) -> Result<(), CallError> {
        let Some(service) = self.find(key) else {
            return Err(CallError::NoService { kind: String::from_utf8_lossy(self.kind()).into_owned() });
        };
        calls::cast(&self.shard, &service, payload.into())
    }
}

impl fmt::Debug for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceType")
            .field("kind", &String::from_utf8_lossy(self.kind()))
            .finish_non_exhaustive()
    }
}
