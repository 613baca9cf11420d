//! What a link needs to get into a server: what it shows, and how its stream is protected.

use std::{io, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};

use super::{Link, ServerEntry};
use crate::{
    config::{ClusterConfig, ServerAddress},
    credentials::{Credentials, CredentialsError, CredentialsRequest, Provider},
    tls::TlsError,
    transport::off_shard,
};

/// What was prepared for one try.
pub(super) struct Access {
    /// `None`: the link uses no TLS.
    pub(super) tls: Option<TlsSetup>,
    pub(super) introduction: Introduction,
}

/// How the stream is protected.
#[derive(Clone)]
pub(super) struct TlsSetup {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    /// Whether the handshake comes before the greeting.
    pub(super) first: bool,
}

/// What the link says of itself.
pub(super) enum Introduction {
    Known(Option<Credentials>),
    /// The application is asked when the nonce is known.
    Asked {
        provider: Provider,
        server: ServerAddress,
    },
}

/// Why there is nothing to try with.
pub(super) enum AccessError {
    Credentials(CredentialsError),
    Tls(TlsError),
    Thread(io::Error),
}

impl Access {
    /// Reads what is in files, on a thread of its own, since reading blocks.
    pub(super) async fn prepare(link: &Link, server: &ServerEntry) -> Result<Access, AccessError> {
        let cluster = &link.config.clusters[link.index];
        let provider = link.node.providers[link.index].clone();
        let reads_auth = cluster.auth.as_ref().is_some_and(|auth| auth.has_files());
        let (credentials, config) = if reads_auth || server.tls_name.is_some() {
            let (cluster, requires_tls) = (cluster.clone(), server.tls_name.is_some());
            off_shard("croupier-files", move || read(&cluster, requires_tls))
                .await
                .map_err(AccessError::Thread)??
        } else {
            read(cluster, false)?
        };
        let tls = config.zip(server.tls_name.clone()).map(|(config, name)| {
            let first = cluster.tls.as_ref().is_some_and(|tls| tls.first);
            TlsSetup { config, name, first }
        });
        let introduction = match (&server.credentials, provider) {
            (Some(credentials), _) => Introduction::Known(Some(credentials.clone())),
            (None, Some(provider)) => Introduction::Asked { provider, server: server.address.clone() },
            (None, None) => Introduction::Known(credentials),
        };
        Ok(Access { tls, introduction })
    }
}

type Files = (Option<Credentials>, Option<Arc<ClientConfig>>);

fn read(cluster: &ClusterConfig, requires_tls: bool) -> Result<Files, AccessError> {
    let credentials = cluster.auth.as_ref().map(|auth| auth.read()).transpose();
    let credentials = credentials.map_err(AccessError::Credentials)?.flatten();
    let tls = requires_tls.then(|| cluster.tls.clone().unwrap_or_default().client_config());
    Ok((credentials, tls.transpose().map_err(AccessError::Tls)?))
}

/// What the application is told.
pub(super) fn request(link: &Link, server: ServerAddress, nonce: Option<String>) -> CredentialsRequest {
    CredentialsRequest { cluster: link.cluster.clone(), server, nonce }
}
