//! What a configuration may not say although each value is well formed; all of it is reported at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::{
    ClusterConfig, Config, ConnectionConfig, Cpus, LimitsConfig, RingMode, ServerAddress, ServerUrl,
    ShardsConfig,
    error::{CODE_SOURCE, ConfigError, Problem},
    validate_access::check_access,
    validate_registry::check_registry,
};
use crate::{Subject, probe};

/// Most clusters of a node: the ring's owners are single bytes.
pub const CLUSTERS_MAX: usize = 256;
/// Most configured servers of one cluster.
pub const SERVERS_MAX: usize = 256;
/// Longest name of a node or a cluster, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Least weight of a cluster: one unit of the ring.
pub const WEIGHT_MIN: f64 = 0.0625;
/// Greatest weight of a cluster: 256 units of the ring.
pub const WEIGHT_MAX: f64 = 16.0;
/// Longest `connection.inbox_prefix`, in bytes.
pub const INBOX_PREFIX_BYTES_MAX: usize = 128;
/// Longest busy polling before a shard parks.
pub const SPIN_MAX: Duration = Duration::from_secs(1);
/// The longest `connection.catch_up`: what is published meanwhile waits behind it.
pub const CATCH_UP_MAX: Duration = Duration::from_secs(1);
/// Most messages that one shard may have waiting for another.
pub const INBOX_MAX: usize = 1 << 20;
/// Least time after which a shard counts as blocked: the watchdog looks every 50 ms, and one look too late is none.
pub const BLOCKED_AFTER_MIN: Duration = Duration::from_millis(100);
/// Longest time of any kind of waiting.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most unanswered PINGs.
pub const PINGS_OUT_MAX: u32 = 100;
/// Largest payload that may be allowed, in bytes: the protocol sends sizes of at most nine digits, and
/// this is the largest that nats-server lets its users set.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    let problems = problems(config, allowed_cpus().as_deref());
    if problems.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Invalid { origin: CODE_SOURCE.to_owned(), problems })
}

/// The CPUs that this process may use, or `None` when the kernel does not tell.
pub(super) fn allowed_cpus() -> Option<Vec<usize>> {
    probe::allowed_cpus().ok()
}

/// Every problem, in the order of the sections. `allowed` is what the kernel tells about CPUs.
pub(super) fn problems(config: &Config, allowed: Option<&[usize]>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(name) = &config.node.name {
        check_name(&mut problems, "node.name", name);
    }
    check_admin(&mut problems, config);
    check_shards(&mut problems, &config.shards, allowed);
    check_clusters(&mut problems, &config.clusters);
    check_ring(&mut problems, config);
    check_connection(&mut problems, &config.connection);
    check_limits(&mut problems, &config.limits);
    check_registry(&mut problems, config);
    problems
}

fn check_admin(problems: &mut Vec<Problem>, config: &Config) {
    if config.node.admin_listen.address().is_err() {
        let message = format!("{:?} is not `ip:port`", config.node.admin_listen.to_string());
        let remedy = "write one such as \"127.0.0.1:9464\", or \"\" to turn it off";
        problems.push(Problem::new("node.admin_listen", message, remedy));
    }
}

pub(super) fn check_name(problems: &mut Vec<Problem>, key: &str, name: &str) {
    if name.is_empty() {
        problems.push(Problem::new(key, "is empty", "give it a name"));
    } else if name.len() > NAME_BYTES_MAX {
        let message = format!("has {} bytes, more than {NAME_BYTES_MAX}", name.len());
        problems.push(Problem::new(key, message, "give it a shorter name"));
    } else if !is_printable(name) {
        let message = format!("{name:?} has blanks or characters that cannot be printed");
        problems.push(Problem::new(key, message, "use letters, digits, `-`, `_` and `.`"));
    }
}

/// Names go into logs, labels and terminals: no blanks, no control or invisible characters.
fn is_printable(name: &str) -> bool {
    let bare: String = name.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
    !bare.contains(' ') && bare.escape_debug().eq(bare.chars())
}

fn check_shards(problems: &mut Vec<Problem>, shards: &ShardsConfig, allowed: Option<&[usize]>) {
    const CPUS: &str = "shards.cpus";
    match &shards.cpus {
        Cpus::Auto => {}
        Cpus::Count(0) => {
            problems.push(Problem::new(CPUS, "is 0: a node has at least one shard", "use \"auto\""));
        }
        Cpus::Count(count) => {
            // Shards without a core of their own may be as many as one likes, as in tests.
            if shards.pin
                && let Some(allowed) = allowed
                && *count > allowed.len()
            {
                let error = probe::ProbeError::MoreShardsThanCpus { shards: *count, cpus: allowed.len() };
                let shown = error.to_string();
                let (message, remedy) = shown.split_once('\n').unwrap_or((&shown, ""));
                problems.push(Problem::new(CPUS, message, remedy.trim_start()));
            }
        }
        Cpus::List(list) if list.is_empty() => {
            problems.push(Problem::new(CPUS, "names no CPU: a node has at least one shard", "use \"auto\""));
        }
        Cpus::List(list) => {
            let mut seen = BTreeSet::new();
            let twice: BTreeSet<usize> = list.iter().copied().filter(|cpu| !seen.insert(*cpu)).collect();
            if !twice.is_empty() {
                problems.push(Problem::new(
                    CPUS,
                    format!("names twice: {}", joined(&twice)),
                    "name each CPU once",
                ));
            }
            if let Some(allowed) = allowed {
                let missing: BTreeSet<usize> =
                    seen.into_iter().filter(|cpu| !allowed.contains(cpu)).collect();
                if !missing.is_empty() {
                    let message = format!("names CPUs that this process may not use: {}", joined(&missing));
                    let remedy = format!("choose from {}, or use \"auto\"", joined(allowed));
                    problems.push(Problem::new(CPUS, message, remedy));
                }
            }
        }
    }
    if shards.spin > SPIN_MAX {
        let message = format!("is {:?}, longer than {SPIN_MAX:?}", shards.spin);
        problems.push(Problem::new(
            "shards.spin",
            message,
            "50us to 100us shorten the tail; more only burns a core",
        ));
    }
    check_range(problems, "shards.inbox", shards.inbox, 1, INBOX_MAX, "message");
    let blocked_after = shards.blocked_after;
    if blocked_after < BLOCKED_AFTER_MIN {
        let message = format!("is {blocked_after:?}, shorter than {BLOCKED_AFTER_MIN:?}");
        problems.push(Problem::new("shards.blocked_after", message, "use a longer time, such as \"500ms\""));
    } else {
        check_wait(problems, "shards.blocked_after", blocked_after);
    }
}

fn check_clusters(problems: &mut Vec<Problem>, clusters: &[ClusterConfig]) {
    if clusters.is_empty() {
        let remedy = "add [[clusters]] with servers = [\"nats://127.0.0.1:4222\"]";
        problems.push(Problem::new("clusters", "there is none", remedy));
    }
    if clusters.len() > CLUSTERS_MAX {
        let message = format!("there are {}, more than {CLUSTERS_MAX}", clusters.len());
        problems.push(Problem::new("clusters", message, "the servers of one cluster belong into one entry"));
    }
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut addresses: BTreeMap<ServerAddress, usize> = BTreeMap::new();
    for (index, cluster) in clusters.iter().enumerate() {
        let key = |field: &str| format!("clusters[{index}].{field}");
        check_name(problems, &key("name"), &cluster.name);
        if !cluster.name.is_empty() {
            if let Some(first) = names.get(cluster.name.as_str()) {
                let message = format!("{:?} is also the name of clusters[{first}]", cluster.name);
                problems.push(Problem::new(key("name"), message, "each cluster needs a name of its own"));
            } else {
                names.insert(&cluster.name, index);
            }
        }
        if !(WEIGHT_MIN..=WEIGHT_MAX).contains(&cluster.weight) {
            let message = format!("is {}, outside {WEIGHT_MIN} to {WEIGHT_MAX}", cluster.weight);
            let remedy = "to give a cluster no topics, remove it; 1 is the usual weight";
            problems.push(Problem::new(key("weight"), message, remedy));
        }
        check_servers(problems, index, cluster, &mut addresses);
        check_access(problems, index, cluster);
    }
}

fn check_servers(
    problems: &mut Vec<Problem>,
    index: usize,
    cluster: &ClusterConfig,
    addresses: &mut BTreeMap<ServerAddress, usize>,
) {
    let key = format!("clusters[{index}].servers");
    if cluster.servers.is_empty() {
        let remedy = "write servers = [\"nats://127.0.0.1:4222\"] with at least one";
        problems.push(Problem::new(&key, "there is none", remedy));
    }
    if cluster.servers.len() > SERVERS_MAX {
        let message = format!("there are {}, more than {SERVERS_MAX}", cluster.servers.len());
        problems.push(Problem::new(&key, message, "a connected server names the others of its cluster"));
    }
    for (position, server) in cluster.servers.iter().enumerate() {
        let key = format!("{key}[{position}]");
        match server.parse::<ServerUrl>() {
            Err(error) => problems.push(Problem::plain(key, error.to_string())),
            Ok(ServerUrl { address, .. }) => {
                let shown = address.to_string();
                match addresses.get(&address) {
                    Some(first) if *first != index => {
                        let message = format!("{shown} is also a server of clusters[{first}]");
                        let remedy = "two clusters are two sets of servers without routes between them";
                        problems.push(Problem::new(key, message, remedy));
                    }
                    _ => {
                        addresses.insert(address, index);
                    }
                }
            }
        }
    }
}

fn check_ring(problems: &mut Vec<Problem>, config: &Config) {
    if config.ring.mode != RingMode::Roulette {
        return;
    }
    if config.ring.seed != 0 {
        let message = format!("is {}, but the roulette ring has no seed", config.ring.seed);
        problems.push(Problem::new("ring.seed", message, "remove it, or use mode = \"croupier\""));
    }
    for (index, cluster) in config.clusters.iter().enumerate() {
        if cluster.weight != 1.0 {
            let message = format!("is {}, but the roulette ring has no weights", cluster.weight);
            let remedy = "remove it, or use mode = \"croupier\"";
            problems.push(Problem::new(format!("clusters[{index}].weight"), message, remedy));
        }
    }
}

fn check_connection(problems: &mut Vec<Problem>, connection: &ConnectionConfig) {
    let ConnectionConfig { role: _, connect_timeout, subscribe_timeout, ping_interval, .. } = connection;
    check_wait(problems, "connection.connect_timeout", *connect_timeout);
    check_wait(problems, "connection.subscribe_timeout", *subscribe_timeout);
    check_wait(problems, "connection.ping_interval", *ping_interval);
    check_range(problems, "connection.max_pings_out", connection.max_pings_out, 1, PINGS_OUT_MAX, "PING");
    check_wait(problems, "connection.user_timeout", connection.user_timeout);
    let user_timeout = connection.user_timeout;
    if !user_timeout.is_zero() && !user_timeout.subsec_nanos().is_multiple_of(1_000_000) {
        let message = format!("is {user_timeout:?}, but the kernel counts it in milliseconds");
        problems.push(Problem::new("connection.user_timeout", message, "use whole milliseconds"));
    }
    let (base, max) = (connection.reconnect.base, connection.reconnect.max);
    check_wait(problems, "connection.reconnect.base", base);
    check_wait(problems, "connection.reconnect.max", max);
    if base > max && !max.is_zero() {
        let message = format!("is {base:?}, longer than max, which is {max:?}");
        problems.push(Problem::new(
            "connection.reconnect.base",
            message,
            "base is the first pause, max the longest",
        ));
    }
    if connection.catch_up > CATCH_UP_MAX {
        let message = format!("is {:?}, longer than {CATCH_UP_MAX:?}", connection.catch_up);
        problems.push(Problem::new("connection.catch_up", message, "use at most \"1s\""));
    }
    if let Some(name) = &connection.client_name {
        check_name(problems, "connection.client_name", name);
    }
    let prefix = &connection.inbox_prefix;
    if prefix.len() > INBOX_PREFIX_BYTES_MAX {
        let message = format!("has {} bytes, more than {INBOX_PREFIX_BYTES_MAX}", prefix.len());
        problems.push(Problem::new(
            "connection.inbox_prefix",
            message,
            "use a shorter one, such as \"_INBOX\"",
        ));
    } else if let Err(reason) = Subject::check_literal(prefix.as_bytes()) {
        let message = format!("{prefix:?} is no subject: {reason}");
        let remedy = "use tokens without blanks and wildcards, such as \"_INBOX\" or \"_INBOX.app\"";
        problems.push(Problem::new("connection.inbox_prefix", message, remedy));
    }
}

fn check_limits(problems: &mut Vec<Problem>, limits: &LimitsConfig) {
    let queue = &limits.subscriber_queue;
    check_range(problems, "limits.publish_buffer", limits.publish_buffer, 1, usize::MAX, "byte");
    check_range(problems, "limits.subscriber_queue.messages", queue.messages, 1, usize::MAX, "message");
    check_range(problems, "limits.subscriber_queue.bytes", queue.bytes, 1, usize::MAX, "byte");
    check_range(problems, "limits.max_payload", limits.max_payload, 1, PAYLOAD_BYTES_MAX, "byte");
    check_wait(problems, "limits.request_timeout", limits.request_timeout);
    // A drain of no time is one that cancels at once.
    if !limits.drain_timeout.is_zero() {
        check_wait(problems, "limits.drain_timeout", limits.drain_timeout);
    }
}

/// `unit` is the name of one.
fn check_range<T>(problems: &mut Vec<Problem>, key: &str, value: T, min: T, max: T, unit: &str)
where
    T: PartialOrd + fmt::Display + Copy + From<u8>,
{
    let counted = |bound: T| format!("{bound} {unit}{}", if bound == T::from(1) { "" } else { "s" });
    if value < min {
        problems.push(Problem::new(key, format!("is {value}"), format!("use at least {}", counted(min))));
    } else if value > max {
        problems.push(Problem::new(key, format!("is {value}"), format!("use at most {}", counted(max))));
    }
}

pub(super) fn check_wait(problems: &mut Vec<Problem>, key: &str, wait: Duration) {
    if wait.is_zero() {
        problems.push(Problem::new(key, "is 0", "use a time above 0, such as \"2s\""));
    } else if wait > WAIT_MAX {
        let message = format!("is {wait:?}, longer than {WAIT_MAX:?}");
        problems.push(Problem::new(key, message, "use a shorter time, such as \"2s\""));
    }
}

fn joined<'a>(numbers: impl IntoIterator<Item = &'a usize>) -> String {
    numbers.into_iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
