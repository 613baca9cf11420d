//! Whole configurations: what is read, and what each mistake is answered with.

use std::time::Duration;

use super::*;
use crate::Credentials;

pub(super) const FULL: &str = r#"
version = 1

[node]
name = "n1"
admin_listen = "127.0.0.1:0"

[shards]
cpus = 1
pin = false
spin = "50us"
inbox = 64
blocked_after = "2s"

[ring]
mode = "croupier"
seed = 7

[[clusters]]
name = "c1"
servers = ["nats://127.0.0.1:4222", "[::1]:4223"]
weight = 1

[[clusters]]
name = "c2"
servers = ["example"]
weight = 0.5

[connection]
role = "publisher"
connect_timeout = "1s"
subscribe_timeout = "3s"
ping_interval = "500ms"
max_pings_out = 3
user_timeout = "4s"
reconnect = { base = "20ms", max = "1m" }
catch_up = "50ms"
randomize = false
client_name = "app-1"
echo = false
inbox_prefix = "_INBOX.app"

[limits]
publish_buffer = "64KiB"
subscriber_queue = { messages = 10, bytes = "1MiB" }
on_slow_subscriber = "drop_oldest"
max_payload = 4096
request_timeout = "2s"
drain_timeout = "0s"

[registry]
cluster = "prod"
bind = "0.0.0.0:7946"
advertise = "198.18.0.1:7947"
seeds = ["n2.example:7946", "[::1]:7948"]
heartbeat = "50ms"
suspect_after = "300ms"
forget_after = "1h"
secret_files = ["/run/secrets/new", "/run/secrets/old"]
insecure = true

[log]
level = "debug"
format = "json"
"#;

#[test]
fn every_setting_is_read() {
    let expected = Config {
        node: NodeConfig {
            name: Some("n1".to_owned()),
            admin_listen: AdminListen::At("127.0.0.1:0".to_owned()),
        },
        shards: ShardsConfig {
            cpus: Cpus::Count(1),
            pin: false,
            spin: Duration::from_micros(50),
            inbox: 64,
            blocked_after: Duration::from_secs(2),
        },
        ring: RingConfig { mode: RingMode::Croupier, seed: 7 },
        clusters: vec![
            ClusterConfig::new("c1", ["nats://127.0.0.1:4222", "[::1]:4223"]),
            ClusterConfig { weight: 0.5, ..ClusterConfig::new("c2", ["example"]) },
        ],
        connection: ConnectionConfig {
            role: Role::Publisher,
            connect_timeout: Duration::from_secs(1),
            subscribe_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_millis(500),
            max_pings_out: 3,
            user_timeout: Duration::from_secs(4),
            reconnect: ReconnectConfig { base: Duration::from_millis(20), max: Duration::from_secs(60) },
            catch_up: Duration::from_millis(50),
            randomize: false,
            client_name: Some("app-1".to_owned()),
            echo: false,
            inbox_prefix: "_INBOX.app".to_owned(),
        },
        limits: LimitsConfig {
            publish_buffer: 65_536,
            subscriber_queue: QueueLimits { messages: 10, bytes: 1 << 20 },
            on_slow_subscriber: SlowSubscriberPolicy::DropOldest,
            max_payload: 4096,
            request_timeout: Duration::from_secs(2),
            drain_timeout: Duration::ZERO,
        },
        registry: Some(RegistryConfig {
            cluster: "prod".to_owned(),
            bind: "0.0.0.0:7946".to_owned(),
            advertise: Some("198.18.0.1:7947".to_owned()),
            seeds: vec!["n2.example:7946".to_owned(), "[::1]:7948".to_owned()],
            heartbeat: Duration::from_millis(50),
            suspect_after: Duration::from_millis(300),
            forget_after: Duration::from_secs(3600),
            secret_files: vec!["/run/secrets/new".into(), "/run/secrets/old".into()],
            insecure: true,
            secrets: Vec::new(),
        }),
        log: LogConfig { level: LogLevel::Debug, format: LogFormat::Json },
    };
    assert_eq!(FULL.parse::<Config>().unwrap(), expected);
    expected.validate().unwrap();
}

#[test]
fn the_smallest_file_is_the_default_with_one_cluster() {
    let config: Config = "version = 1\n[[clusters]]\nservers = [\"a\"]".parse().unwrap();
    let mut expected = Config { clusters: vec![ClusterConfig::new("c1", ["a"])], ..Config::default() };
    assert_eq!(expected.node.admin_listen, AdminListen::Off);
    expected.node.admin_listen = AdminListen::Usual;
    assert_eq!(config, expected);
    assert_eq!(config.node.admin_listen.address(), Ok(Some(ADMIN_ADDRESS_USUAL)));
    let off = "version = 1\n[node]\nadmin_listen = \"\"\n[[clusters]]\nservers = [\"a\"]";
    assert_eq!(off.parse::<Config>().unwrap().node.admin_listen, AdminListen::Off);
}

/// Each shard and wait has the default that the documentation of its field names.
#[test]
fn the_defaults_are_those_of_the_documentation() {
    let Config { node, shards, ring, clusters, connection, limits, registry, log } = Config::default();
    assert_eq!(node.name, None);
    assert!(!node.name_or_host().is_empty());
    assert_eq!(node.admin_listen, AdminListen::Off);
    assert_eq!(
        (shards.cpus, shards.pin, shards.spin, shards.inbox),
        (Cpus::Auto, true, Duration::ZERO, 1024)
    );
    assert_eq!(shards.blocked_after, Duration::from_millis(500));
    assert_eq!((log.level, log.format), (LogLevel::Info, LogFormat::Text));
    assert_eq!(ring, RingConfig { mode: RingMode::Croupier, seed: 0 });
    assert!(clusters.is_empty());
    assert_eq!(connection.role, Role::Both);
    assert_eq!(connection.ping_interval, Duration::from_secs(2));
    assert_eq!(connection.reconnect.base, Duration::from_millis(10));
    assert!(connection.randomize && connection.echo);
    assert_eq!((connection.client_name, connection.inbox_prefix.as_str()), (None, "_INBOX"));
    assert_eq!((limits.publish_buffer, limits.max_payload), (8 << 20, 1 << 20));
    assert_eq!(limits.subscriber_queue, QueueLimits { messages: 65_536, bytes: 64 << 20 });
    assert_eq!(registry, None);
}

#[test]
fn a_file_is_read_and_named_in_its_errors() {
    let path = std::env::temp_dir().join(format!("croupier-config-{}.toml", std::process::id()));
    std::fs::write(&path, FULL).unwrap();
    let read = Config::from_path(&path);
    std::fs::write(&path, FULL.replace("seed =", "sead =")).unwrap();
    let misspelt = Config::from_path(&path).map_err(|error| error.to_string());
    std::fs::write(&path, b"version = 1\n# \xff\n").unwrap();
    let binary = Config::from_path(&path).map_err(|error| error.to_string());
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let long = Config::from_path(&path).map_err(|error| error.to_string());
    std::fs::remove_file(&path).unwrap();
    let missing = Config::from_path(&path).map_err(|error| error.to_string());

    let name = path.display();
    read.unwrap();
    assert!(misspelt.unwrap_err().starts_with(&format!("{name}:17:1: unknown field `sead`")));
    assert!(binary.unwrap_err().starts_with(&format!("{name}:2:3: the file is not UTF-8")));
    assert!(long.unwrap_err().contains("longer than 1048576 bytes"));
    assert!(missing.unwrap_err().starts_with(&format!("{name}: cannot be read: No such file")));
}

/// The error of `text` after `version = 1` and, as its last lines, a valid cluster.
#[track_caller]
fn refusal(text: &str) -> String {
    let text = format!("version = 1\n{text}\n[[clusters]]\nname = \"c1\"\nservers = [\"a\"]\n");
    text.parse::<Config>().unwrap_err().to_string()
}

#[test]
fn a_mistake_of_form_is_shown_in_its_line() {
    for (text, expected) in [
        (
            "[shards]\nspin = \"5 parsecs\"",
            "<string>:3:8: `parsecs` is no unit of a duration: use ns, us, ms, s, m, h\n      \
             |\n    3 | spin = \"5 parsecs\"\n      |        ^^^^^^^^^^^",
        ),
        (
            "[connection]\nconect_timeout = \"1s\"",
            "<string>:3:1: unknown field `conect_timeout`, expected one of `role`, `connect_timeout`, \
             `subscribe_timeout`, `ping_interval`, `max_pings_out`, `user_timeout`, `reconnect`, `catch_up`, \
             `randomize`, `client_name`, `echo`, `inbox_prefix`\n      \
             |\n    3 | conect_timeout = \"1s\"\n      | ^^^^^^^^^^^^^^\n      = did you mean `connect_timeout`?",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn mistakes_of_form_name_place_and_remedy() {
    for (text, place, part) in [
        ("[conection]", "<string>:2:2: ", "= did you mean `connection`?"),
        ("[connection]\nrole = \"pubisher\"", "<string>:3:8: ", "= did you mean `publisher`?"),
        ("[connection]\nreconnect = { bas = \"1s\" }", "<string>:3:15: ", "= did you mean `base`?"),
        ("[ring]\nmode = \"md5\"", "<string>:3:8: ", "expected `croupier` or `roulette`"),
        ("[limits]\non_slow_subscriber = \"drop\"", "<string>:3:22: ", "`drop_newest`"),
        ("[limits]\nmax_payload = \"1MB\"", "<string>:3:15: ", "use B, KiB, MiB"),
        ("[limits]\nmax_payload = -1", "<string>:3:15: ", "-1"),
        ("[limits]\nrequest_timeout = 5", "<string>:3:19: ", "expected a duration such as"),
        ("[shards]\ncpus = true", "<string>:3:8: ", "a list such as \"2-5,8\""),
        ("[shards]\ncpus = -1", "<string>:3:8: ", "a list such as \"2-5,8\""),
        ("[shards]\ncpus = \"5-2\"", "<string>:3:8: ", "write 2-5"),
        ("[shards]\npin = \"yes\"", "<string>:3:7: ", "expected a boolean"),
        ("[ring]\nseed = -1", "<string>:3:8: ", "-1"),
        ("[connection]\nreconnect = 5", "<string>:3:13: ", "expected a table such as { base = "),
        ("ring = 5", "<string>:2:8: ", "expected a section [ring]"),
        ("[ring\nseed = 1", "<string>:2:6: ", "unclosed table"),
        ("[ring]\nseed = 1\nseed = 2", "<string>:4:1: ", "duplicate key"),
        ("[ring]\nseed = ", "<string>:3:8: ", ""),
        ("[node]\nadmin_port = 1", "<string>:3:1: ", "unknown field `admin_port`"),
        ("[node]\nadmin_listen = 9464", "<string>:3:16: ", "expected a string"),
        ("[registry]\nhearbeat = \"1s\"", "<string>:3:1: ", "= did you mean `heartbeat`?"),
        (
            "[registry]\nsecret = \"canary\"",
            "<string>:3:1: ",
            "= secrets are read from files: `secret_files = ",
        ),
        (
            "[registry]\nsecrets = [\"canary\"]",
            "<string>:3:1: ",
            "= secrets are read from files: `secret_files = ",
        ),
        ("[registry]\nseeds = \"a:1\"", "<string>:3:9: ", "expected a sequence"),
        ("registry = 1", "<string>:2:12: ", "expected a section [registry]"),
        ("[log]\nlevel = \"wran\"", "<string>:3:9: ", "= did you mean `warn`?"),
        ("[log]\nformat = \"xml\"", "<string>:3:10: ", "expected `text` or `json`"),
        ("[log]\nfile = \"x\"", "<string>:3:1: ", "unknown field `file`"),
    ] {
        let shown = refusal(text);
        assert!(shown.contains(place) && shown.contains(part), "{text}\n{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn the_version_comes_first() {
    for (text, expected) in [
        ("", "<string>:1:1: version: is missing"),
        ("[future]\n", "<string>:1:1: version: is missing"),
        ("version = 2\nnew = 1\n", "<string>:1:11: version: is not known"),
        ("version = \"1\"\n", "<string>:1:11: version: is not known"),
        ("version = 1.0\n", "<string>:1:11: version: is not known"),
    ] {
        let shown = text.parse::<Config>().unwrap_err().to_string();
        assert!(shown.starts_with(expected), "{text}\n{shown}");
        assert!(shown.contains("version = 1`"), "{shown}");
    }
    assert!("version = 1".parse::<Config>().unwrap_err().to_string().contains("clusters: there is none"));
}

#[test]
fn mistakes_of_meaning_come_all_at_once_with_their_places() {
    let text = r#"version = 1
[node]
name = "a b"
admin_listen = "localhost:9464"
[shards]
cpus = 0
spin = "2s"
inbox = 0
blocked_after = "50ms"
[[clusters]]
name = "c1"
servers = ["a:1", "wss://b"]
weight = 0
[[clusters]]
name = "c1"
servers = ["c", "nats://a:1"]
weight = 17.0
[[clusters]]
servers = []
[[clusters]]
name = ""
servers = ["d"]
[connection]
ping_interval = "0s"
max_pings_out = 0
user_timeout = "1500us"
reconnect = { base = "2s", max = "1s" }
client_name = "two words"
inbox_prefix = "_INBOX.*"
[limits]
publish_buffer = 0
subscriber_queue = { messages = 0, bytes = "0B" }
max_payload = "65MiB"
request_timeout = "25h"
"#;
    let error = text.parse::<Config>().unwrap_err();
    let found: Vec<(&str, usize, usize)> = error
        .problems()
        .iter()
        .map(|problem| {
            let place = problem.place.unwrap_or_else(|| panic!("{problem:?}"));
            (problem.key.as_str(), place.line, place.column)
        })
        .collect();
    let expected = [
        ("node.name", 3, 8),
        ("node.admin_listen", 4, 16),
        ("shards.cpus", 6, 8),
        ("shards.spin", 7, 8),
        ("shards.inbox", 8, 9),
        ("shards.blocked_after", 9, 17),
        ("clusters[0].servers[1]", 12, 19),
        ("clusters[0].weight", 13, 10),
        ("clusters[1].name", 15, 8),
        ("clusters[1].servers[1]", 16, 17),
        ("clusters[1].weight", 17, 10),
        ("clusters[2].name", 18, 1),
        ("clusters[2].servers", 19, 11),
        ("clusters[3].name", 21, 8),
        ("connection.ping_interval", 24, 17),
        ("connection.max_pings_out", 25, 17),
        ("connection.user_timeout", 26, 16),
        ("connection.reconnect.base", 27, 22),
        ("connection.client_name", 28, 15),
        ("connection.inbox_prefix", 29, 16),
        ("limits.publish_buffer", 31, 18),
        ("limits.subscriber_queue.messages", 32, 33),
        ("limits.subscriber_queue.bytes", 32, 44),
        ("limits.max_payload", 33, 15),
        ("limits.request_timeout", 34, 19),
    ];
    assert_eq!(found, expected);
    assert!(error.to_string().starts_with("<string>: 25 problems\n<string>:3:8: node.name: "), "{error}");
}

#[test]
fn the_access_of_a_cluster_is_read_with_its_files() {
    let text = r#"version = 1
[[clusters]]
servers = ["tls://a"]
auth = { user = "app", password_file = "p" }
tls = { ca_file = "/ca.pem", cert_file = "n.pem", key_file = "n.key", first = true, server_name = "n" }
"#;
    let cluster = text.parse::<Config>().unwrap().clusters.remove(0);
    assert_eq!(cluster.auth, Some(AuthConfig::password_file("app", "p")));
    let tls = TlsConfig::default().ca_file("/ca.pem").client_certificate("n.pem", "n.key");
    assert_eq!(cluster.tls, Some(tls.first(true).server_name("n")));
    assert!(cluster.requires_tls());
}

#[test]
fn access_that_cannot_be_meant_is_refused() {
    for (cluster, key) in [
        ("auth = {}", "clusters[0].auth"),
        ("auth = { user = 'u' }", "clusters[0].auth.user"),
        ("auth = { user = '', password_file = 'p' }", "clusters[0].auth.user"),
        ("auth = { password_file = 'p' }", "clusters[0].auth.password_file"),
        ("auth = { token_file = '' }", "clusters[0].auth.token_file"),
        ("auth = { token_file = 't', creds_file = 'c' }", "clusters[0].auth"),
        ("tls = { cert_file = 'c' }", "clusters[0].tls.cert_file"),
        ("tls = { key_file = 'k' }", "clusters[0].tls.key_file"),
        ("tls = { ca_file = '' }", "clusters[0].tls.ca_file"),
        ("tls = { server_name = 'a b' }", "clusters[0].tls.server_name"),
    ] {
        let text = format!("version = 1\n[[clusters]]\nservers = ['a']\n{cluster}\n");
        let error = text.parse::<Config>().unwrap_err();
        let keys: Vec<&str> = error.problems().iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, [key], "{error}");
    }
    let credentials = Credentials::token("t");
    let both = ClusterConfig::new("c", ["nats://t@a"]).auth(credentials);
    let error = Config { clusters: vec![both], ..Config::default() }.validate().unwrap_err();
    assert_eq!(error.problems()[0].key, "clusters[0].servers[0]");
}

#[test]
fn a_password_in_an_address_is_never_shown() {
    for text in [
        "version = 1\n[[clusters]]\nservers = [\"nats://app:s3cret@a\"]",
        "version = 1\n[[clusters]]\nservers = [\"nats://app:s3cret@a\", 5]",
        "version = 1\n[[clusters]]\nservers = \"nats://app:s3cret@a\"",
        "version = 1\n[[clusters]]\nservers = [\"nats://app:s3cret@a\"",
        "version = 1\n[[clusters]]\nservers = [\"nats://app:s3cret@a\"], x = 1",
        "version = 1\n[shards]\ncpus = \"app:s3cret@a\"",
        "version = 1\n[connection]\nrole = \"app:s3cret@a\"",
        "version = 1\n[node]\nname = \"app: s3cret@a\"\n[[clusters]]\nservers = [\"a\"]",
        "version = 1\n\"nats://app:s3cret@a\" = 1",
    ] {
        let error = text.parse::<Config>().unwrap_err();
        assert!(!format!("{error}\n{error:?}").contains("s3cret"), "{error}\n{error:?}");
    }
}

#[test]
fn a_configuration_built_in_code_is_checked_too() {
    let error = Config::default().validate().unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration: clusters: there is none\n      \
         = add [[clusters]] with servers = [\"nats://127.0.0.1:4222\"]"
    );
    let one = |cluster| Config { clusters: vec![cluster], ..Config::default() };
    let good = ClusterConfig::new("c1", ["a"]);
    one(good.clone()).validate().unwrap();
    for weight in [0.0, -1.0, 0.06, 16.1, f64::NAN, f64::INFINITY] {
        let config = one(ClusterConfig { weight, ..good.clone() });
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().len(), 1, "{error}");
        assert_eq!(error.problems()[0].key, "clusters[0].weight");
    }
    for name in ["", " ", "a b", "a\n", "\u{7f}", "\u{200b}", "\u{202e}x", &"x".repeat(129)] {
        let config = one(ClusterConfig { name: name.to_owned(), ..good.clone() });
        assert_eq!(config.validate().unwrap_err().problems()[0].key, "clusters[0].name", "{name:?}");
    }
    for name in ["a", "zone-1.rack_2", "größe", "東京", "it's", &"x".repeat(128)] {
        one(ClusterConfig { name: name.to_owned(), ..good.clone() }).validate().unwrap();
    }
    let roulette = Config {
        ring: RingConfig { mode: RingMode::Roulette, seed: 1 },
        ..one(ClusterConfig { weight: 2.0, ..good.clone() })
    };
    let keys: Vec<_> = roulette.validate().unwrap_err().problems().iter().map(|p| p.key.clone()).collect();
    assert_eq!(keys, ["ring.seed", "clusters[0].weight"]);
}

#[test]
fn shards_stay_inside_the_allowed_cpus() {
    let keys = |cpus: Cpus, allowed: &[usize]| {
        let config = Config {
            shards: ShardsConfig { cpus, ..ShardsConfig::default() },
            clusters: vec![ClusterConfig::new("c1", ["a"])],
            ..Config::default()
        };
        validate::problems(&config, Some(allowed)).into_iter().map(|p| (p.key, p.message)).collect::<Vec<_>>()
    };
    for cpus in [Cpus::Auto, Cpus::Count(1), Cpus::Count(3), Cpus::List(vec![6, 2])] {
        assert_eq!(keys(cpus, &[2, 5, 6]), []);
    }
    for (cpus, part) in [
        (Cpus::Count(0), "is 0"),
        (Cpus::Count(4), "4 shards"),
        (Cpus::List(vec![]), "names no CPU"),
        (Cpus::List(vec![2, 2]), "names twice: 2"),
        (Cpus::List(vec![2, 3, 1]), "may not use: 1,3"),
    ] {
        let found = keys(cpus.clone(), &[2, 5, 6]);
        let [(key, message)] = found.as_slice() else { panic!("{cpus:?}: {found:?}") };
        assert_eq!(key, "shards.cpus");
        assert!(message.contains(part), "{cpus:?}: {message}");
    }
}

#[test]
fn weights_become_sixteenths() {
    for (weight, units) in
        [(1.0, 16), (0.0625, 1), (0.1, 2), (16.0, 256), (0.5, 8), (f64::NAN, 1), (-3.0, 1), (1e9, 256)]
    {
        assert_eq!(ClusterConfig { weight, ..ClusterConfig::default() }.units(), units, "{weight}");
    }
}

/// Cuts, doublings and replaced bytes of a valid file: each is read or refused, and each error shown.
#[test]
fn no_damage_to_a_file_panics() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut refused = 0;
    for _ in 0..2000 {
        let mut bytes = FULL.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..128),
                1 => drop(bytes.drain(at..bytes.len().min(at + random.usize(..20)))),
                _ => bytes.insert(at, *random.choice(b"\"[]{}=.,\n#'@").unwrap()),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = text.parse::<Config>() {
            assert!(error.to_string().starts_with("<string>:"), "{error}\n{text}");
            refused += 1;
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn errors_go_anywhere() {
    fn check<T: Send + Sync + std::error::Error + 'static>() {}
    check::<ConfigError>();
    check::<InvalidServerAddress>();
    check::<InvalidCpus>();
}
