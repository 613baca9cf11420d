//! One connection to a server for its own sake: opened as a link opens it, asked who it is, and closed.

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use croupier_protocol::ConnectionError;

use super::{
    Link, ServerEntry,
    connector::connect,
    pool::{Next, ServerId},
    session::{Session, SessionEnd},
};
use crate::{
    ClusterName, CredentialsError, Elapsed, Error, TlsError, config::ServerAddress, events::shown, time,
    transport::AcceptedTls,
};

/// What a server says of itself when it has accepted a connection and answered its first PING.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// Its id, which no other server has.
    pub id: String,
    /// Its name; servers without one give their id.
    pub name: String,
    /// Its version, such as `2.15.1`.
    pub version: String,
    /// The NATS cluster that it belongs to; `None` for one that stands alone.
    pub cluster: Option<String>,
    /// Whether it wants credentials; those that it got it has accepted.
    pub wants_credentials: bool,
    /// The largest payload that it takes, headers included, in bytes.
    pub max_payload: usize,
    /// Whether it relays headers.
    pub headers: bool,
    /// Whether it is about to go away.
    pub is_lame_duck: bool,
    /// How the connection is protected; `None` for one without TLS.
    pub tls: Option<AcceptedTls>,
    /// From the first look at names and files to the answer to the PING.
    pub took: Duration,
}

/// Why a server that was dialled cannot be used. Each says what to do, and none holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There is no connection to it.
    #[error("{source}: {}", unreachable_remedy(source.kind()))]
    Unreachable {
        /// What the resolver or the kernel said.
        source: io::Error,
    },
    /// It took the connection, and was silent.
    #[error(
        "no answer within {waited:?}: is it a NATS server at all? One with TLS before its greeting (handshake_first) waits for tls.first; else it is overloaded, or connection.connect_timeout is too short"
    )]
    Silent {
        /// How long was waited.
        waited: Duration,
    },
    /// It closed the connection without a word, or the connection broke.
    #[error(
        "it ended the connection before it accepted it ({reason}): its log may say why, a proxy before it may be alone"
    )]
    Ended {
        /// How it ended.
        reason: String,
    },
    /// It does not speak the protocol of NATS.
    #[error("{reason}: host and port lead to something other than a NATS server")]
    Protocol {
        /// What is wrong with what it says.
        reason: String,
    },
    /// It does not accept who we say that we are.
    #[error("it refuses the credentials ({text}): compare `auth` of this cluster with the server's users")]
    Unauthorized {
        /// What it said.
        text: String,
    },
    /// It refuses for another reason.
    #[error("it refuses the connection: {text}")]
    Refused {
        /// What it said.
        text: String,
    },
    /// There are no credentials to show.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There is no TLS where there must be, or the other way round, or it failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It belongs to the cluster that is configured under another name, too: topics would be delivered twice.
    #[error(
        "it belongs to cluster {first} as well ({evidence}): two clusters are two sets of servers without routes between them"
    )]
    SameCluster {
        /// The other cluster of the configuration.
        first: ClusterName,
        /// By what that is known.
        evidence: String,
    },
}

fn unreachable_remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there; start the server, or correct host and port"
        }
        io::ErrorKind::TimedOut => {
            "is the host up, does a firewall let this machine through, is connection.connect_timeout too short?"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "this machine has no route there; look at its network, or correct the host"
        }
        _ => "correct the host, or look at this machine's resolver and network",
    }
}

/// A server that is to be tried once.
pub(crate) struct Trial {
    link: Rc<Link>,
    server: ServerId,
    entry: ServerEntry,
}

impl Trial {
    /// One for each server that the link may connect to. The link itself stays where it is.
    pub(crate) fn of_each_server(link: &Rc<Link>) -> Vec<Trial> {
        let mut trials = Vec::new();
        while let Next::Try(server, entry) = { link.pool.borrow_mut().next() } {
            trials.push(Trial { link: Rc::clone(link), server, entry });
        }
        trials
    }

    pub(crate) fn cluster(&self) -> &ClusterName {
        &self.link.cluster
    }

    pub(crate) fn address(&self) -> &ServerAddress {
        &self.entry.address
    }

    /// Connects, waits to be accepted, and hangs up.
    pub(crate) async fn run(&self, limit: Duration) -> Result<Accepted, DialError> {
        let begun = time::now();
        let accepted = time::timeout(limit, async {
            let mut session =
                connect(&self.link, self.server, &self.entry).await.map_err(|end| match end {
                    SessionEnd::Socket(source) => DialError::Unreachable { source },
                    end => self.explain(end),
                })?;
            poll_fn(|cx| self.turn(&mut session, cx)).await?;
            Ok(accepted(&session, time::now() - begun))
        });
        accepted.await.unwrap_or_else(|Elapsed { waited }| Err(DialError::Silent { waited }))
    }

    fn turn(&self, session: &mut Session<'_>, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        let turned = session.turn(cx);
        // Other trials share the node: what it says is this one's only until somebody else has had a turn.
        if let Some(Error::SameCluster { first, evidence, .. }) = self.link.node.take_failure() {
            return Poll::Ready(Err(DialError::SameCluster { first, evidence }));
        }
        match turned {
            Ok(()) if session.is_ready() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(Err(self.explain(end))),
        }
    }

    fn explain(&self, end: SessionEnd) -> DialError {
        match end {
            SessionEnd::Protocol(ConnectionError::HandshakeTimeout { .. }) => {
                DialError::Silent { waited: self.link.config.connection.connect_timeout }
            }
            SessionEnd::Protocol(error) => DialError::Protocol { reason: error.to_string() },
            SessionEnd::Server(error) if error.is_authentication() => {
                DialError::Unauthorized { text: shown(&error) }
            }
            SessionEnd::Server(error) => DialError::Refused { text: shown(&error) },
            SessionEnd::Credentials(error) => DialError::Credentials(error),
            SessionEnd::Tls(error) => DialError::Tls(error),
            SessionEnd::EndOfStream
            | SessionEnd::Socket(_)
            | SessionEnd::Closing
            | SessionEnd::Left
            | SessionEnd::LameDuck => DialError::Ended { reason: end.to_string() },
        }
    }
}

fn accepted(session: &Session<'_>, took: Duration) -> Accepted {
    let info = session.info().cloned().unwrap_or_default();
    Accepted {
        id: info.server_id,
        name: info.server_name,
        version: info.version,
        cluster: info.cluster,
        wants_credentials: info.auth_required,
        max_payload: info.max_payload,
        headers: info.headers,
        is_lame_duck: info.lame_duck_mode,
        tls: session.tls(),
        took,
    }
}
