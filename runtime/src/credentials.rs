//! What a node shows to a server: a password, a token, a signature; and where it comes from.

mod provider;

use std::{fmt, fs::File, io, io::Read, path::Path, path::PathBuf, sync::Arc};

use croupier_protocol::ConnectOptions;
use nkeys::{KeyPair, KeyPairType};
use zeroize::Zeroizing;

pub use self::provider::CredentialsRequest;
pub(crate) use self::provider::{Asked, Provider};
use crate::{BoxError, config::AuthConfig, secret::SECRET_BYTES_MAX};

/// The longest file with a user's JWT and seed, in bytes.
pub const CREDS_BYTES_MAX: usize = 64 << 10;

/// Who a node is to a cluster's servers.
///
/// Nothing shows the secret in it. It is overwritten when the value is dropped; the copies that are made of
/// it for a CONNECT are not.
///
/// ```
/// use croupier::{Credentials, Node, config::ClusterConfig};
///
/// let cluster = ClusterConfig::new("c1", ["nats://127.0.0.1:4222"])
///     .auth(Credentials::user_password("app", "correct horse battery staple"));
/// let mut builder = Node::builder();
/// builder.config_mut().clusters.push(cluster);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Kind);

/// A text that is overwritten when it is dropped.
type SecretText = Zeroizing<String>;

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    UserPassword { user: String, password: SecretText },
    Token(SecretText),
    NkeySeed(SecretText),
    Jwt { jwt: SecretText, seed: SecretText },
    SignedNkey { public_key: String, signature: Vec<u8> },
    SignedJwt { jwt: SecretText, signature: Vec<u8> },
}

impl Credentials {
    /// A user and a password.
    pub fn user_password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self(Kind::UserPassword { user: user.into(), password: Zeroizing::new(password.into()) })
    }

    /// A token.
    pub fn token(token: impl Into<String>) -> Self {
        Self(Kind::Token(Zeroizing::new(token.into())))
    }

    /// The seed of a user's NKey, `SU..`, with which the server's nonce is signed.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::InvalidSeed`].
    pub fn nkey_seed(seed: impl Into<String>) -> Result<Self, CredentialsError> {
        let seed = Zeroizing::new(seed.into());
        user_key(&seed)?;
        Ok(Self(Kind::NkeySeed(seed)))
    }

    /// A user's JWT, and the seed of the NKey that it was issued to.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::InvalidSeed`].
    pub fn jwt(jwt: impl Into<String>, seed: impl Into<String>) -> Result<Self, CredentialsError> {
        let (jwt, seed) = (Zeroizing::new(jwt.into()), Zeroizing::new(seed.into()));
        user_key(&seed)?;
        Ok(Self(Kind::Jwt { jwt, seed }))
    }

    /// A user's JWT and seed as they stand in a `.creds` file, between lines of dashes.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::NoJwt`], [`CredentialsError::NoSeed`] or [`CredentialsError::InvalidSeed`].
    pub fn creds(text: &str) -> Result<Self, CredentialsError> {
        let jwt = decorated(text, "JWT").ok_or(CredentialsError::NoJwt)?;
        let seed = decorated(text, "SEED").ok_or(CredentialsError::NoSeed)?;
        user_key(&seed)?;
        Ok(Self(Kind::Jwt { jwt, seed }))
    }

    /// A user's public NKey, `U..`, and its signature of the server's nonce, made where the seed is. Only
    /// for the connect that the nonce belongs to.
    pub fn signed_nkey(public_key: impl Into<String>, signature: impl Into<Vec<u8>>) -> Self {
        Self(Kind::SignedNkey { public_key: public_key.into(), signature: signature.into() })
    }

    /// A user's JWT, and the signature of the server's nonce by its key, made where the seed is. Only for
    /// the connect that the nonce belongs to.
    pub fn signed_jwt(jwt: impl Into<String>, signature: impl Into<Vec<u8>>) -> Self {
        Self(Kind::SignedJwt { jwt: Zeroizing::new(jwt.into()), signature: signature.into() })
    }

    /// Puts them into a CONNECT, after signing the nonce where there is something to sign.
    pub(crate) fn fill(
        &self,
        nonce: Option<&str>,
        connect: &mut ConnectOptions,
    ) -> Result<(), CredentialsError> {
        let nonce = || nonce.ok_or(CredentialsError::NoNonce);
        match &self.0 {
            Kind::UserPassword { user, password } => {
                connect.user = Some(user.clone());
                connect.pass = Some(password.to_string());
            }
            Kind::Token(token) => connect.auth_token = Some(token.to_string()),
            Kind::NkeySeed(seed) => {
                let key = user_key(seed)?;
                connect.nkey = Some(key.public_key());
                connect.sig = Some(signed(&key, nonce()?)?);
            }
            Kind::Jwt { jwt, seed } => {
                connect.jwt = Some(jwt.to_string());
                connect.sig = Some(signed(&user_key(seed)?, nonce()?)?);
            }
            Kind::SignedNkey { public_key, signature } => {
                connect.nkey = Some(public_key.clone());
                connect.sig = Some(base64_url(signature));
            }
            Kind::SignedJwt { jwt, signature } => {
                connect.jwt = Some(jwt.to_string());
                connect.sig = Some(base64_url(signature));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::UserPassword { .. } => "Credentials(user and password)",
            Kind::Token(_) => "Credentials(token)",
            Kind::NkeySeed(_) => "Credentials(NKey seed)",
            Kind::Jwt { .. } => "Credentials(JWT and seed)",
            Kind::SignedNkey { .. } => "Credentials(NKey and signature)",
            Kind::SignedJwt { .. } => "Credentials(JWT and signature)",
        })
    }
}

/// Why there are no credentials to show. Nothing was sent. No variant holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// A file holds nothing but, perhaps, a line break.
    #[error("{}: is empty: write the secret into it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file is longer than any secret of its kind.
    #[error("{}: longer than {bytes_max} bytes: it holds no secret of this kind", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The longest that is read, in bytes.
        bytes_max: usize,
    },
    /// A file is not UTF-8.
    #[error("{}: is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A file was read, and what is in it will not do.
    #[error("{}: {problem}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Box<CredentialsError>,
    },
    /// The text of a `.creds` file has no JWT in it.
    #[error("no JWT between lines of dashes: use the file that `nsc generate creds` writes")]
    NoJwt,
    /// The text of a `.creds` file has no seed in it.
    #[error("no NKey seed between lines of dashes: use the file that `nsc generate creds` writes")]
    NoSeed,
    /// Not the seed of a user's NKey.
    #[error("not the seed of a user's NKey, which has 58 characters and begins with SU")]
    InvalidSeed,
    /// The server has sent nothing to sign.
    #[error("the server has sent no nonce to sign: it is not set up for NKeys or JWTs")]
    NoNonce,
    /// The application's callback failed.
    #[error("the application has no credentials: {0}")]
    Callback(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl CredentialsError {
    pub(crate) fn of_callback(error: BoxError) -> Self {
        Self::Callback(Arc::from(error))
    }
}

impl AuthConfig {
    /// The credentials, read from their files. Blocks.
    pub(crate) fn read(&self) -> Result<Option<Credentials>, CredentialsError> {
        let within = |path: &Path, read: Result<Credentials, CredentialsError>| {
            read.map_err(|problem| CredentialsError::InFile {
                path: path.to_owned(),
                problem: Box::new(problem),
            })
        };
        if let Some(credentials) = &self.credentials {
            return Ok(Some(credentials.clone()));
        }
        if let (Some(user), Some(path)) = (&self.user, &self.password_file) {
            let password = read_line(path)?;
            return Ok(Some(Credentials(Kind::UserPassword { user: user.clone(), password })));
        }
        if let Some(path) = &self.token_file {
            return Ok(Some(Credentials(Kind::Token(read_line(path)?))));
        }
        if let Some(path) = &self.nkey_seed_file {
            let text = read_text(path, CREDS_BYTES_MAX)?;
            // The tool `nk` writes the seed alone, `nsc` may put lines of dashes around it.
            let seed = decorated(&text, "SEED").unwrap_or_else(|| Zeroizing::new(text.trim().to_owned()));
            return within(path, user_key(&seed).map(|_| Credentials(Kind::NkeySeed(seed)))).map(Some);
        }
        if let Some(path) = &self.creds_file {
            return within(path, Credentials::creds(&read_text(path, CREDS_BYTES_MAX)?)).map(Some);
        }
        Ok(None)
    }

    /// Whether there is a file to read.
    pub(crate) fn has_files(&self) -> bool {
        self.files().next().is_some()
    }
}

/// A secret without the line break at its end.
fn read_line(path: &Path) -> Result<SecretText, CredentialsError> {
    let text = read_text(path, SECRET_BYTES_MAX + "\r\n".len())?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(CredentialsError::Empty { path: path.to_owned() });
    }
    if line.len() > SECRET_BYTES_MAX {
        return Err(CredentialsError::TooLong { path: path.to_owned(), bytes_max: SECRET_BYTES_MAX });
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn read_text(path: &Path, bytes_max: usize) -> Result<SecretText, CredentialsError> {
    let read_error = |source| CredentialsError::Read { path: path.to_owned(), source: Arc::new(source) };
    let file = File::open(path).map_err(read_error)?;
    // So much room that the vector does not move, which would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * (bytes_max + 1)));
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() > bytes_max {
        return Err(CredentialsError::TooLong { path: path.to_owned(), bytes_max });
    }
    let text = str::from_utf8(&bytes).map_err(|_| CredentialsError::NotUtf8 { path: path.to_owned() })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// What stands between the lines `---BEGIN .. label---` and `---END ..---`.
fn decorated(text: &str, label: &str) -> Option<SecretText> {
    let is_dashes = |line: &str| line.starts_with("---") && line.ends_with("---");
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| is_dashes(line) && line.contains("BEGIN") && line.contains(label))?;
    let mut body = Zeroizing::new(String::with_capacity(text.len()));
    for line in lines {
        if is_dashes(line) {
            return (!body.is_empty()).then_some(body);
        }
        body.push_str(line);
    }
    None
}

fn user_key(seed: &str) -> Result<KeyPair, CredentialsError> {
    match KeyPair::from_seed(seed) {
        Ok(key) if key.key_pair_type() == KeyPairType::User => Ok(key),
        _ => Err(CredentialsError::InvalidSeed),
    }
}

fn signed(key: &KeyPair, nonce: &str) -> Result<String, CredentialsError> {
    let signature = key.sign(nonce.as_bytes()).map_err(|_| CredentialsError::InvalidSeed)?;
    Ok(base64_url(&signature))
}

/// Base64 with `-` and `_`, without padding: what the server takes for a signature (RFC 4648, section 5).
fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| group.get(index).copied().map_or(0, u32::from);
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests;
