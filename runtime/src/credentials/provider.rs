//! An application's own source of credentials, asked at each connect.

use std::{fmt, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_lite::FutureExt;

use super::{Credentials, CredentialsError};
use crate::{BoxError, ClusterName, config::ServerAddress, error::panic_message};

/// What an application is told when it is asked for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialsRequest {
    /// The cluster.
    pub cluster: ClusterName,
    /// The server that is being connected to.
    pub server: ServerAddress,
    /// What the server wants signed. `None`: it is not set up for NKeys or JWTs.
    pub nonce: Option<String>,
}

pub(crate) type Asked = Pin<Box<dyn Future<Output = Result<Credentials, CredentialsError>>>>;

/// A callback of the application.
#[derive(Clone)]
pub(crate) struct Provider(Arc<dyn Fn(CredentialsRequest) -> Asked + Send + Sync>);

impl Provider {
    pub(crate) fn new<F>(callback: F) -> Self
    where
        F: AsyncFn(CredentialsRequest) -> Result<Credentials, BoxError> + Send + Sync + 'static,
    {
        let callback = Arc::new(callback);
        Self(Arc::new(move |request| {
            let callback = Arc::clone(&callback);
            Box::pin(async move {
                // A panic that left the task would end the whole shard.
                let asked = AssertUnwindSafe(callback(request)).catch_unwind().await;
                let answer = asked.unwrap_or_else(|panic| Err(panic_message(&*panic).into()));
                answer.map_err(CredentialsError::of_callback)
            })
        }))
    }

    pub(crate) fn ask(&self, request: CredentialsRequest) -> Asked {
        (self.0)(request)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider(..)")
    }
}
