//! What a TLS link is set up with, and why one does not come about.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as RustlsError, InvalidMessage, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use zeroize::Zeroizing;

use crate::config::TlsConfig;

/// The longest file with certificates or a key, in bytes: the issuers of a whole machine take a quarter.
pub const PEM_BYTES_MAX: usize = 1 << 20;

/// Why a link that is to use TLS has none, or one that is not to use it meets a server that does. No
/// credential was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// A file is longer than any certificate or key.
    #[error("{}: longer than {bytes_max} bytes: this is no certificate or key", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The longest that is read, in bytes.
        bytes_max: usize,
    },
    /// A file is broken, or holds nothing of the kind.
    #[error("{}: holds no {wanted} in PEM: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        wanted: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// This node's own certificate and key cannot be used, or do not belong to each other.
    #[error("{} with {}: {reason}", cert_file.display(), key_file.display())]
    ClientCertificate {
        /// The file of the certificate.
        cert_file: PathBuf,
        /// The file of the key.
        key_file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The machine has no issuers that it trusts.
    #[error("this machine trusts no issuers: install its package of CA certificates, or set tls.ca_file")]
    NoIssuers,
    /// The server offers no TLS, which the cluster's links require. Nothing was sent to it.
    #[error(
        "the server offers no TLS, which this cluster requires: nothing was sent; either it is set up wrongly or somebody stands between"
    )]
    NotOffered,
    /// The server requires TLS, and the cluster's links are set up without it. Nothing was sent to it.
    #[error("the server requires TLS: set tls = {{}} for this cluster, or write its servers as tls://")]
    Required,
    /// The server sent something after its greeting and before the handshake, where everybody on the way
    /// can put it.
    #[error("{bytes} bytes came after the server's greeting and before the handshake: they are not trusted")]
    BytesBeforeHandshake {
        /// How many, at least.
        bytes: usize,
    },
    /// The server's certificate is for somebody else.
    #[error(
        "the server's certificate is not for {expected}, but for {}: set tls.server_name to the right name if it is the right server", 
        if presented.is_empty() { "nobody".to_owned() } else { presented.join(", ") }
    )]
    WrongName {
        /// The name that was verified.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The server's certificate comes from an issuer that is not trusted here.
    #[error(
        "the server's certificate is from an unknown issuer: set tls.ca_file to the issuer's certificate"
    )]
    UnknownIssuer,
    /// The server's certificate has expired.
    #[error("the server's certificate has expired: renew it, and check this machine's clock")]
    Expired,
    /// The server's certificate is not valid yet.
    #[error("the server's certificate is not valid yet: check this machine's clock, and the server's")]
    NotValidYet,
    /// The server's certificate cannot be accepted for another reason.
    #[error("the server's certificate is refused: {reason}")]
    Certificate {
        /// Why.
        reason: String,
    },
    /// The server demands a certificate of this node, and has got none.
    #[error("the server demands a certificate: set tls.cert_file and tls.key_file")]
    CertificateDemanded,
    /// The server refuses what this node has shown or offered.
    #[error("the server refuses the handshake: {alert}; its log says more")]
    Refused {
        /// The alert that it sent.
        alert: String,
    },
    /// The server answers in something other than TLS.
    #[error(
        "the server does not speak TLS at this point: with tls.first it must have handshake_first set, and without it must not"
    )]
    NotTls,
    /// Anything else that goes wrong in TLS.
    #[error("TLS failed: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

impl TlsError {
    /// What a broken handshake or stream means.
    pub(crate) fn from_rustls(error: &RustlsError) -> Self {
        match error {
            RustlsError::InvalidCertificate(error) => match error {
                CertificateError::NotValidForNameContext { expected, presented } => {
                    let expected = expected.to_str().into_owned();
                    Self::WrongName {
                        expected,
                        presented: presented.iter().map(|name| plain_name(name)).collect(),
                    }
                }
                CertificateError::UnknownIssuer => Self::UnknownIssuer,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotValidYet
                }
                other => Self::Certificate { reason: other.to_string() },
            },
            RustlsError::AlertReceived(AlertDescription::CertificateRequired) => Self::CertificateDemanded,
            RustlsError::AlertReceived(alert) => Self::Refused { alert: format!("{alert:?}") },
            RustlsError::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            other => Self::Failed { reason: other.to_string() },
        }
    }

    /// The cause of an error of a TLS stream, if that is what it was.
    pub(crate) fn from_io(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        inner.downcast_ref::<RustlsError>().map(Self::from_rustls)
    }
}

/// `DnsName("a.example")` and its relatives, as rustls shows the names of a certificate.
fn plain_name(shown: &str) -> String {
    shown.split('"').nth(1).unwrap_or(shown).to_owned()
}

impl TlsConfig {
    /// Reads the files, and makes of them what a handshake needs. Blocks.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
        let provider = PROVIDER.get_or_init(|| Arc::new(ring::default_provider()));
        let roots = match &self.ca_file {
            Some(path) => issuers(path)?,
            None => machine_issuers()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::from_rustls(&error))?
            .with_root_certificates(roots);
        let config = match (&self.cert_file, &self.key_file) {
            (Some(cert_file), Some(key_file)) => {
                let (certificates, key) = (certificates(cert_file)?, private_key(key_file)?);
                builder.with_client_auth_cert(certificates, key).map_err(|error| {
                    TlsError::ClientCertificate {
                        cert_file: cert_file.clone(),
                        key_file: key_file.clone(),
                        reason: error.to_string(),
                    }
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

/// The machine's own issuers, read once: they are many, and change with the machine's packages.
fn machine_issuers() -> Result<Arc<RootCertStore>, TlsError> {
    static ISSUERS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let issuers = ISSUERS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, ignored) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(added, ignored, unreadable = found.errors.len(), "the machine's issuers are read");
        Arc::new(roots)
    });
    if issuers.is_empty() { Err(TlsError::NoIssuers) } else { Ok(Arc::clone(issuers)) }
}

fn issuers(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| broken(path, "certificate", &error))?;
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(certificates) if certificates.is_empty() => {
            Err(broken(path, "certificate", &pem::Error::NoItemsFound))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(broken(path, "certificate", &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // What the parser says of a key could repeat a line of it.
    let reason = "there is none, or it is encrypted or broken";
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| broken(path, "private key", &reason))
}

fn broken(path: &Path, wanted: &'static str, reason: &dyn ToString) -> TlsError {
    TlsError::Pem { path: path.to_owned(), wanted, reason: reason.to_string() }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let read_error = |source| TlsError::Read { path: path.to_owned(), source: Arc::new(source) };
    let file = File::open(path).map_err(read_error)?;
    let expected_bytes = file.metadata().map_err(read_error)?.len().min(PEM_BYTES_MAX as u64);
    // So much room that the vector does not move, which would leave a copy of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected_bytes as usize + 64));
    file.take(PEM_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() > PEM_BYTES_MAX {
        return Err(TlsError::TooLong { path: path.to_owned(), bytes_max: PEM_BYTES_MAX });
    }
    Ok(bytes)
}
