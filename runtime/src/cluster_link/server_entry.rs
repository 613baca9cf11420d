//! A server that a link may connect to, and the rules for getting in that go with it.

use rustls::pki_types::ServerName;

use crate::{
    config::{ClusterConfig, InvalidServerAddress, ServerAddress},
    credentials::Credentials,
};

/// A server of the configuration, or one that another server has named.
#[derive(Clone)]
pub(crate) struct ServerEntry {
    pub(crate) address: ServerAddress,
    /// What the server's certificate must bear. `None`: the link uses no TLS.
    pub(crate) tls_name: Option<ServerName<'static>>,
    /// Credentials from the server's own URL, which count instead of the cluster's.
    pub(crate) credentials: Option<Credentials>,
}

impl ServerEntry {
    /// The configured servers of a cluster, in their order.
    pub(crate) fn configured(cluster: &ClusterConfig) -> Result<Vec<ServerEntry>, InvalidServerAddress> {
        let requires_tls = cluster.requires_tls();
        let fixed = cluster.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        let urls = cluster.urls()?.into_iter();
        urls.map(|url| {
            let tls_name = match fixed {
                _ if !requires_tls => None,
                Some(name) => Some(tls_name(name).ok_or_else(|| no_name(name))?),
                None => Some(tls_name(&url.address.host).ok_or_else(|| no_name(&url.address.host))?),
            };
            Ok(ServerEntry { address: url.address, tls_name, credentials: url.credentials })
        })
        .collect()
    }

    /// Whether both are the same server, got into by the same rules.
    pub(super) fn is_same(&self, other: &ServerEntry) -> bool {
        self.is_same_place(&other.address) && self.has_rules_of(other)
    }

    pub(crate) fn is_same_place(&self, address: &ServerAddress) -> bool {
        self.address.is_same_place(address)
    }

    /// Whether both are got into in the same way, under the same name, by the same credentials.
    pub(super) fn has_rules_of(&self, other: &ServerEntry) -> bool {
        self.tls_name == other.tls_name && self.credentials == other.credentials
    }

    /// A server that this one has named. What a server says changes neither whether TLS is used nor which
    /// name is verified, so that nobody can be sent elsewhere by it.
    pub(super) fn discovered(&self, address: ServerAddress) -> ServerEntry {
        ServerEntry { address, ..self.clone() }
    }
}

/// The name in a certificate for a host as it stands in an address.
pub(crate) fn tls_name(host: &str) -> Option<ServerName<'static>> {
    // The zone of an IPv6 address says which interface leads there, and is in no certificate.
    let host = host.split_once('%').map_or(host, |(address, _)| address);
    ServerName::try_from(host.to_owned()).ok()
}

fn no_name(host: &str) -> InvalidServerAddress {
    InvalidServerAddress::Host { text: host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsConfig;

    fn names(cluster: &ClusterConfig) -> Vec<Option<String>> {
        let entries = ServerEntry::configured(cluster).unwrap();
        entries.iter().map(|entry| entry.tls_name.as_ref().map(|name| name.to_str().into_owned())).collect()
    }

    #[test]
    fn one_tls_server_makes_its_whole_cluster_require_tls() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(names(&ClusterConfig::new("c", ["a", "nats://b"])), [None, None]);
        let mixed = ClusterConfig::new("c", ["tls://a", "nats://b", "[fe80::1%eth0]", "10.0.0.1"]);
        assert_eq!(names(&mixed), [some("a"), some("b"), some("fe80::1"), some("10.0.0.1")]);
        let plain = ClusterConfig::new("c", ["a", "b"]).tls(TlsConfig::default());
        assert_eq!(names(&plain), [some("a"), some("b")]);
        let fixed = plain.tls(TlsConfig::default().server_name("c.example"));
        assert_eq!(names(&fixed), [some("c.example"), some("c.example")]);
    }

    #[test]
    fn a_discovered_server_has_the_rules_of_the_one_that_named_it() {
        let cluster = ClusterConfig::new("c", ["tls://u:p@a.example:1"]);
        let entry = &ServerEntry::configured(&cluster).unwrap()[0];
        let address: ServerAddress = "evil.example:2".parse().unwrap();
        let discovered = entry.discovered(address.clone());
        assert_eq!(discovered.address, address);
        assert_eq!(discovered.tls_name, entry.tls_name);
        assert!(discovered.credentials == Some(Credentials::user_password("u", "p")));
    }
}
