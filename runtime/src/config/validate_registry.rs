//! What `[registry]` may not say.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    Config, PeerAddress, RegistryConfig,
    error::Problem,
    validate::{check_name, check_wait},
};
use crate::secret::SECRET_BYTES_MAX;

/// Most seeds of a node.
pub const SEEDS_MAX: usize = 64;
/// Most secrets of a node, files and those given in code together.
pub const SECRETS_MAX: usize = 16;
/// Shortest time between two heartbeats: below it they are most of the traffic.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(10);

/// Fewest heartbeats that must stay away before a node is suspected.
const HEARTBEATS_BEFORE_SUSPECT: u32 = 4;

pub(super) fn check_registry(problems: &mut Vec<Problem>, config: &Config) {
    let Some(registry) = &config.registry else { return };
    if config.node.name.is_none() {
        let message = "is missing, and the nodes of a registry know each other by their names";
        problems.push(Problem::new(
            "node.name",
            message,
            "write name = \"n1\" under [node], unique in the registry",
        ));
    }
    check_name(problems, "registry.cluster", &registry.cluster);
    check_addresses(problems, registry);
    check_times(problems, registry);
    check_secrets(problems, registry);
}

fn check_addresses(problems: &mut Vec<Problem>, registry: &RegistryConfig) {
    const BIND: &str = "registry.bind";
    const ADVERTISE: &str = "registry.advertise";
    let bind = registry.bind_address().ok();
    if bind.is_none() {
        problems.push(not_an_address(BIND, &registry.bind));
    }
    match registry.advertise_address() {
        Err(_) => problems.push(not_an_address(ADVERTISE, registry.advertise.as_deref().unwrap_or_default())),
        Ok(None) => {
            if let Some(bind) = bind.filter(|bind| is_unspecified(*bind)) {
                let message = format!("is missing, and no other node can dial {}, which is bind", bind.ip());
                let remedy = "write the address at which the other nodes reach this one";
                problems.push(Problem::new(ADVERTISE, message, remedy));
            }
        }
        Ok(Some(advertise)) if is_unspecified(advertise) || advertise.port() == 0 => {
            let message = format!("is {advertise}, which no other node can dial");
            let remedy = "write the address at which the other nodes reach this one";
            problems.push(Problem::new(ADVERTISE, message, remedy));
        }
        Ok(Some(_)) => {}
    }
    let seeds = &registry.seeds;
    if seeds.len() > SEEDS_MAX {
        let message = format!("there are {}, more than {SEEDS_MAX}", seeds.len());
        problems.push(Problem::new("registry.seeds", message, "one reachable node names all the others"));
    }
    for (position, seed) in seeds.iter().enumerate() {
        if let Err(error) = seed.parse::<PeerAddress>() {
            problems.push(Problem::plain(format!("registry.seeds[{position}]"), error.to_string()));
        }
    }
}

fn not_an_address(key: &str, text: &str) -> Problem {
    Problem::new(
        key,
        format!("`{text}` is no address"),
        "write ip:port, such as \"127.0.0.1:7946\" or \"[::1]:7946\"",
    )
}

fn check_times(problems: &mut Vec<Problem>, registry: &RegistryConfig) {
    let RegistryConfig { heartbeat, suspect_after, forget_after, .. } = *registry;
    check_wait(problems, "registry.heartbeat", heartbeat);
    if !heartbeat.is_zero() && heartbeat < HEARTBEAT_MIN {
        let message = format!("is {heartbeat:?}");
        problems.push(Problem::new("registry.heartbeat", message, format!("use at least {HEARTBEAT_MIN:?}")));
    }
    check_wait(problems, "registry.suspect_after", suspect_after);
    let least = heartbeat.saturating_mul(HEARTBEATS_BEFORE_SUSPECT);
    if !suspect_after.is_zero() && suspect_after < least {
        let message = format!("is {suspect_after:?}, shorter than {HEARTBEATS_BEFORE_SUSPECT} heartbeats");
        problems.push(Problem::new("registry.suspect_after", message, format!("use at least {least:?}")));
    }
    check_wait(problems, "registry.forget_after", forget_after);
    if !forget_after.is_zero() && forget_after <= suspect_after {
        let message =
            format!("is {forget_after:?}, not longer than suspect_after, which is {suspect_after:?}");
        problems.push(Problem::new("registry.forget_after", message, "20m is usual; it costs only memory"));
    }
}

fn check_secrets(problems: &mut Vec<Problem>, registry: &RegistryConfig) {
    let RegistryConfig { secrets, secret_files, insecure, .. } = registry;
    for (position, secret) in secrets.iter().enumerate() {
        let key = format!("registry.secrets[{position}]");
        let bytes = secret.bytes().len();
        if bytes == 0 {
            problems.push(Problem::new(key, "is empty", "use at least 16 random bytes"));
        } else if bytes > SECRET_BYTES_MAX {
            let message = format!("has {bytes} bytes, more than {SECRET_BYTES_MAX}");
            problems.push(Problem::new(key, message, "32 random bytes are as good"));
        }
    }
    for (position, path) in secret_files.iter().enumerate() {
        if path.as_os_str().is_empty() {
            let key = format!("registry.secret_files[{position}]");
            problems.push(Problem::new(key, "is empty", "write the path of a file"));
        }
    }
    let count = secrets.len() + secret_files.len();
    if count > SECRETS_MAX {
        let message = format!("there are {count} secrets, more than {SECRETS_MAX}");
        problems.push(Problem::new(
            "registry.secret_files",
            message,
            "remove those that no node sends with any more",
        ));
    }
    if count == 0 && !insecure {
        let addresses = [
            ("registry.bind", registry.bind_address().ok()),
            ("registry.advertise", registry.advertise_address().ok().flatten()),
        ];
        let exposed =
            addresses.into_iter().find_map(|(key, address)| Some((key, address.filter(is_off_loopback)?)));
        if let Some((key, address)) = exposed {
            let message = format!("is {address}, which is not on loopback, and there is no secret");
            let remedy = "set secret_files = [\"/run/secrets/registry\"], the same secret on every node; or insecure = \
                          true, if nobody else can reach the port";
            problems.push(Problem::new(key, message, remedy));
        }
    }
}

/// The address with an IPv4 address inside an IPv6 one taken out.
fn plain_ip(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn is_unspecified(address: SocketAddr) -> bool {
    plain_ip(address).is_unspecified()
}

fn is_off_loopback(address: &SocketAddr) -> bool {
    !plain_ip(*address).is_loopback()
}
