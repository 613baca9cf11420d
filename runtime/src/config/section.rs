//! The sections of a node's configuration, each field with its meaning, unit, limit and cost.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    address::ServerAddress, admin::AdminListen, auth::AuthConfig, cpus::Cpus, error::redacted_value,
    quantity, schema, server_url::ServerUrl, tls::TlsConfig, validate::*,
};

/// `[node]`: who this process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a section [node]")]
pub struct NodeConfig {
    /// The node's name: printable, without blanks, at most [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX)
    /// bytes. `None`: the host name, see [`NodeConfig::name_or_host`]; with a
    /// [registry](super::RegistryConfig), where it must be unique, a name is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_BYTES_MAX))]
    pub name: Option<String>,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/statusz` are served, `ip:port`, and `""` for nowhere; default
    /// `"127.0.0.1:9464"`, and in code nowhere: see [`AdminListen`](super::AdminListen). Whoever reaches it can
    /// read it: keep it on loopback or on a network of your own. It costs one thread.
    #[schemars(schema_with = "schema::admin_listen")]
    pub admin_listen: AdminListen,
}

impl NodeConfig {
    /// The configured name, else the host name that the kernel tells, else `"node"`.
    #[must_use]
    pub fn name_or_host(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        if host.is_empty() { "node".to_owned() } else { host.to_owned() }
    }
}

/// `[shards]`: how many shards the node has, and on which cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a section [shards]")]
pub struct ShardsConfig {
    /// The CPUs to work on; default [`Cpus::Auto`]. One shard each, always inside the set that the
    /// process is allowed. A shard costs a thread, its rings' locked memory and one connection to
    /// each cluster it uses.
    pub cpus: Cpus,
    /// Whether each shard is bound to its CPU; default `true`. Unbound shards float over the allowed
    /// CPUs: slower at the tail, but they share a busy machine better.
    pub pin: bool,
    /// How long a shard polls busily before it parks; default 0 (park at once), at most
    /// [`SPIN_MAX`](super::SPIN_MAX). 50 to 100 us shorten the tail and cost a hot core.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::spin")]
    pub spin: Duration,
    /// Messages that one shard may have waiting for another, and foreign threads for a shard; default
    /// 1024, 1 to [`INBOX_MAX`](super::INBOX_MAX). Memory is taken at the start, for each pair of
    /// shards.
    #[serde(serialize_with = "quantity::whole")]
    #[schemars(range(min = 1, max = INBOX_MAX))]
    pub inbox: usize,
    /// A shard that has not yielded for so long is counted as blocked, and logged once; default 500 ms, at
    /// least [`BLOCKED_AFTER_MIN`](super::BLOCKED_AFTER_MIN). Seen within 100 ms. It costs nothing.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::blocked_after")]
    pub blocked_after: Duration,
}

impl Default for ShardsConfig {
    fn default() -> Self {
        Self {
            cpus: Cpus::Auto,
            pin: true,
            spin: Duration::ZERO,
            inbox: 1024,
            blocked_after: Duration::from_millis(500),
        }
    }
}

/// `[ring]`: how topics are spread over the clusters. All nodes must agree on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a section [ring]")]
pub struct RingConfig {
    /// Which ring; default [`RingMode::Croupier`].
    pub mode: RingMode,
    /// The seed of the ring's hash; default 0. Another seed moves nearly every topic. TOML holds at
    /// most 2^63 - 1. [`RingMode::Roulette`] has no seed and demands 0.
    #[serde(serialize_with = "quantity::whole")]
    #[schemars(range(min = 0, max = i64::MAX))]
    pub seed: u64,
}

/// Which ring assigns topics to clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RingMode {
    /// The slot table: one load per topic, and only the topics move that must.
    #[default]
    Croupier,
    /// Roulette's md5 ring, owner by position, for nodes that migrate from it. It knows no weights.
    Roulette,
}

/// `[[clusters]]`: one NATS cluster.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a section [[clusters]]")]
#[schemars(extend("required" = ["servers"]))]
pub struct ClusterConfig {
    /// Its identity on the ring: renaming it moves its topics. Unique, printable, without blanks, at
    /// most [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX) bytes. In a file with a single cluster it may be
    /// left out and is `c1`.
    #[schemars(length(min = 1, max = NAME_BYTES_MAX))]
    pub name: String,
    /// Servers to try, each `nats://host:port`, `tls://host:port`, `host:port` or `host` (port 4222); 1 to
    /// [`SERVERS_MAX`](super::SERVERS_MAX). Each of them is tried; name all that
    /// may be reached. A reload brings new ones in, and moves links off those that are gone, without a loss. Credentials
    /// in a URL are for code only, see [`ServerUrl`]; here secrets stand in
    /// files, see `auth`.
    #[serde(serialize_with = "redacted_servers")]
    #[schemars(schema_with = "schema::servers")]
    pub servers: Vec<String>,
    /// Its share of the topics, relative to the other clusters; default 1,
    /// [`WEIGHT_MIN`](super::WEIGHT_MIN) to [`WEIGHT_MAX`](super::WEIGHT_MAX), rounded to sixteenths.
    /// [`RingMode::Roulette`] demands 1.
    #[schemars(range(min = WEIGHT_MIN, max = WEIGHT_MAX))]
    pub weight: f64,
    /// Who this node is to the servers; exactly one of user with password_file, token_file, nkey_seed_file
    /// and creds_file. `None`: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
    /// That the links require TLS, and whom they trust; `{}` trusts the machine's own issuers. `None`: no TLS,
    /// unless one of the servers is `tls://`, which means the same as `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { name: String::new(), servers: Vec::new(), weight: 1.0, auth: None, tls: None }
    }
}

impl ClusterConfig {
    /// A cluster of weight 1.
    pub fn new(name: impl Into<String>, servers: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let servers = servers.into_iter().map(|server| server.as_ref().to_owned()).collect();
        Self { name: name.into(), servers, ..Self::default() }
    }

    /// Sets who this node is to the servers.
    ///
    /// ```
    /// use croupier::config::{AuthConfig, ClusterConfig, TlsConfig};
    ///
    /// let cluster = ClusterConfig::new("c1", ["nats://a.example:4222"])
    ///     .auth(AuthConfig::creds_file("app.creds"))
    ///     .tls(TlsConfig::default().ca_file("ca.pem"));
    /// assert!(cluster.requires_tls());
    /// ```
    #[must_use]
    pub fn auth(self, auth: impl Into<AuthConfig>) -> Self {
        Self { auth: Some(auth.into()), ..self }
    }

    /// Has the links require TLS.
    #[must_use]
    pub fn tls(self, tls: TlsConfig) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The weight in the ring's units of a sixteenth, rounded to the nearest: 16 for weight 1.
    ///
    /// A weight outside the limits, which validation refuses, is brought to the nearest limit.
    #[must_use]
    pub fn units(&self) -> u16 {
        // A float cast saturates and sends NaN to 0; the clamp then keeps 1 to 256.
        ((self.weight * 16.0).round() as u16).clamp(1, 256)
    }

    /// The servers as addresses.
    ///
    /// # Errors
    ///
    /// The first address that is none.
    pub fn addresses(&self) -> Result<Vec<ServerAddress>, super::InvalidServerAddress> {
        Ok(self.urls()?.into_iter().map(|url| url.address).collect())
    }

    /// The servers with all that their URLs say.
    ///
    /// # Errors
    ///
    /// The first URL that is none.
    pub fn urls(&self) -> Result<Vec<ServerUrl>, super::InvalidServerAddress> {
        self.servers.iter().map(|server| server.parse()).collect()
    }

    /// Whether every link to this cluster, also to servers that it names itself, must use TLS.
    #[must_use]
    pub fn requires_tls(&self) -> bool {
        let mut urls = self.servers.iter().filter_map(|server| server.parse::<ServerUrl>().ok());
        self.tls.is_some() || urls.any(|url| url.requires_tls)
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, servers, weight, auth, tls } = self;
        let servers: Vec<String> = servers.iter().map(|server| redacted_value(server)).collect();
        f.debug_struct("ClusterConfig")
            .field("name", name)
            .field("servers", &servers)
            .field("weight", weight)
            .field("auth", auth)
            .field("tls", tls)
            .finish()
    }
}

/// The servers without what may be secret in their addresses.
fn redacted_servers<S: Serializer>(servers: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(servers.iter().map(|server| redacted_value(server)))
}

/// `[connection]`: how links to the clusters are opened, watched and opened again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a section [connection]")]
pub struct ConnectionConfig {
    /// What the node may do; default [`Role::Both`].
    pub role: Role,
    /// How long one attempt may take, from the TCP connect to the server's first PONG; default 2 s.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub connect_timeout: Duration,
    /// How long a subscribe waits for the server's confirmation, a reconnect included; default 2 s.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub subscribe_timeout: Duration,
    /// Time between two PINGs of a quiet link; default 2 s. A dead server is noticed after about
    /// `ping_interval * (max_pings_out + 1)`.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub ping_interval: Duration,
    /// Unanswered PINGs before the link is given up; default 2, 1 to
    /// [`PINGS_OUT_MAX`](super::PINGS_OUT_MAX).
    #[schemars(range(min = 1, max = PINGS_OUT_MAX))]
    pub max_pings_out: u32,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged; default 5 s. Whole
    /// milliseconds, at least one.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub user_timeout: Duration,
    /// The pauses between attempts.
    pub reconnect: ReconnectConfig,
    /// The longest time over which a link sends what gathered while it was down, so that a server which comes back is
    /// not met by a burst, and subscribers have time to be back; default 200 ms, at most
    /// [`CATCH_UP_MAX`](super::CATCH_UP_MAX), and never longer than `ping_interval`. It is a tenth of the outage up to this, and nothing for less than 64 KiB. What is published
    /// meanwhile waits its turn. `"0s"`: all of it leaves at once.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::catch_up")]
    pub catch_up: Duration,
    /// Whether each link tries its cluster's servers in a random order, so that the clients of a cluster
    /// spread over it; default `true`. Otherwise in the order of the configuration, and then in that in which
    /// servers named each other.
    pub randomize: bool,
    /// The name that servers show for the node's connections, as in their `/connz`: printable, without
    /// blanks, at most [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX) bytes. `None`: the node's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_BYTES_MAX))]
    pub client_name: Option<String>,
    /// Whether a shard gets what it has published itself, if it is subscribed to it; default `true`. Other
    /// shards of the node have connections of their own, and get it in any case.
    pub echo: bool,
    /// What the subjects of replies begin with; default `_INBOX`. One or more tokens without wildcards, at
    /// most [`INBOX_PREFIX_BYTES_MAX`](super::INBOX_PREFIX_BYTES_MAX) bytes. Servers that restrict who may
    /// subscribe to what can tell users apart by it.
    #[schemars(length(min = 1, max = INBOX_PREFIX_BYTES_MAX))]
    pub inbox_prefix: String,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            role: Role::Both,
            connect_timeout: Duration::from_secs(2),
            subscribe_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(2),
            max_pings_out: 2,
            user_timeout: Duration::from_secs(5),
            reconnect: ReconnectConfig::default(),
            catch_up: Duration::from_millis(200),
            randomize: true,
            client_name: None,
            echo: true,
            inbox_prefix: "_INBOX".to_owned(),
        }
    }
}

/// What a node may do on its clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Publish and subscribe.
    #[default]
    Both,
    /// Publish only: a subscribe is a typed error.
    Publisher,
    /// Subscribe only: a publish is a typed error.
    Subscriber,
}

impl Role {
    /// Whether publishing is allowed.
    #[must_use]
    pub fn publishes(self) -> bool {
        self != Self::Subscriber
    }

    /// Whether subscribing is allowed.
    #[must_use]
    pub fn subscribes(self) -> bool {
        self != Self::Publisher
    }
}

/// `connection.reconnect`: pauses between attempts, with full jitter and without end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { base = \"10ms\", max = \"5s\" }")]
pub struct ReconnectConfig {
    /// The upper bound of the first pause; it doubles with each failure; default 10 ms.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub base: Duration,
    /// The upper bound of every pause; default 5 s, not below `base`.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub max: Duration,
}

impl Default for ReconnectConfig {
    fn default() -> Self {
        Self { base: Duration::from_millis(10), max: Duration::from_secs(5) }
    }
}

/// `[limits]`: the bound of every buffer and wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a section [limits]")]
pub struct LimitsConfig {
    /// Bytes that may wait for one link of one shard; default 8 MiB, at least 1. A publish beyond it is
    /// `Busy`. The memory is taken when it is needed.
    #[serde(with = "quantity::size")]
    #[schemars(schema_with = "schema::buffer")]
    pub publish_buffer: usize,
    /// What may wait in one subscription. A reload changes it for those that are made afterwards; open ones, and services'
    /// inboxes, keep theirs.
    pub subscriber_queue: QueueLimits,
    /// What a full subscription does; default [`SlowSubscriberPolicy::DropNewest`]. A reload changes it for those that are
    /// made afterwards.
    pub on_slow_subscriber: SlowSubscriberPolicy,
    /// The largest payload to publish, headers included, in bytes; default 1 MiB, at most
    /// [`PAYLOAD_BYTES_MAX`](super::PAYLOAD_BYTES_MAX). The server's own limit holds too.
    #[serde(with = "quantity::size")]
    #[schemars(schema_with = "schema::payload")]
    pub max_payload: usize,
    /// How long a request waits for its reply when the call names no time; default 1 s.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub request_timeout: Duration,
    /// How long a drain may take before what still waits is cancelled; default 10 s.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait_or_none")]
    pub drain_timeout: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            publish_buffer: 8 << 20,
            subscriber_queue: QueueLimits::default(),
            on_slow_subscriber: SlowSubscriberPolicy::DropNewest,
            max_payload: 1 << 20,
            request_timeout: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// `limits.subscriber_queue`: the bounds of one subscription's queue; the first reached counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { messages = 65536, bytes = \"64MiB\" }")]
pub struct QueueLimits {
    /// Messages; default 65536, at least 1.
    #[serde(serialize_with = "quantity::whole")]
    #[schemars(range(min = 1, max = i64::MAX))]
    pub messages: usize,
    /// Bytes of memory that they hold; default 64 MiB, at least 1.
    #[serde(with = "quantity::size")]
    #[schemars(schema_with = "schema::buffer")]
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { messages: 65_536, bytes: 64 << 20 }
    }
}

/// What a full subscription does with the next message. Each drop is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlowSubscriberPolicy {
    /// Drops the message that arrives.
    #[default]
    DropNewest,
    /// Drops the oldest that waits.
    DropOldest,
    /// Ends the subscription after what waits has been read.
    Close,
}
