//! A file, variables and assignments over each other, and what each mistake is answered with.

use std::{os::unix::ffi::OsStringExt, path::PathBuf, time::Duration};

use super::*;

const FILE: &str = r#"version = 1
[node]
name = "n1"
[[clusters]]
name = "c1"
servers = ["a:1"]
[[clusters]]
name = "zone-2.b"
servers = ["b:1"]
weight = 2
[limits]
request_timeout = "2s"
subscriber_queue = { messages = 10, bytes = "1MiB" }
[registry]
cluster = "prod"
secret_files = ["secret", "/run/secret"]
"#;

/// A folder with `FILE` in it, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path =
            std::env::temp_dir().join(format!("croupier-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("node.toml"), FILE).unwrap();
        Self(path)
    }

    fn sources(&self) -> Sources {
        Sources::new().file(self.0.join("node.toml"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn mistakes_of_every_source_are_told_together() {
    let folder = Folder::new();
    let file = folder.0.join("node.toml");
    std::fs::write(&file, FILE.replace("weight = 2", "weight = 0\nwieght = 2")).unwrap();
    let sources = Sources::new()
        .file(&file)
        .set("limits.request_timeout=7")
        .set("node.name.first=x")
        .set("shards.cpus=[1")
        .set("registry.heartbeat=1ms")
        .set("log.level=loud");
    let error = sources.load().expect_err("seven mistakes");
    let places: Vec<_> =
        error.problems().iter().map(|problem| (problem.place, problem.from.clone())).collect();
    let places: Vec<String> = places
        .into_iter()
        .map(|place| match place {
            (Some(Place { line, column }), _) => format!("{line}:{column}"),
            (None, from) => from.map(|from| from.to_string()).unwrap_or_default(),
        })
        .collect();
    let expected = [
        "10:10",
        "11:1",
        "--set limits.request_timeout",
        "--set node.name.first",
        "--set shards.cpus",
        "--set registry.heartbeat",
        "--set log.level",
    ];
    assert_eq!(places, expected, "{error}");
}

#[test]
fn later_sources_win() {
    let folder = Folder::new();
    let variables = [
        ("CROUPIER_LIMITS__REQUEST_TIMEOUT", "3s"),
        ("CROUPIER_LIMITS__DRAIN_TIMEOUT", "4s"),
        ("CROUPIER_NODE__NAME", "7"),
        ("CROUPIER_REGISTRY__SEEDS", r#"["c:1", 'd:2']"#),
        ("CROUPIER_REGISTRY__INSECURE", "true"),
        ("CROUPIER_SHARDS__CPUS", "1"),
        ("CROUPIER_SHARDS__PIN", "false"),
        ("CROUPIER_CLUSTERS__ZONE_2_B__WEIGHT", "4"),
        ("CROUPIER_PORT", "tcp://198.18.0.1:80"),
    ];
    let sources = folder.sources().variables(variables);
    let sources = sources.set("limits.request_timeout=5s").set("clusters.c1.weight=0.5");
    let sources = sources.set("limits.subscriber_queue.messages=20").set("clusters[1].servers=['x']");
    let Loaded { config, origins } = sources.load().unwrap();

    assert_eq!(config.limits.request_timeout, Duration::from_secs(5));
    assert_eq!(config.limits.drain_timeout, Duration::from_secs(4));
    assert_eq!(config.limits.subscriber_queue, QueueLimits { messages: 20, bytes: 1 << 20 });
    assert_eq!(config.node.name.as_deref(), Some("7"));
    let registry = config.registry.unwrap();
    assert_eq!(registry.seeds, ["c:1", "d:2"]);
    assert!(registry.insecure);
    assert_eq!(registry.secret_files, [folder.0.join("secret"), "/run/secret".into()]);
    assert_eq!((config.shards.cpus, config.shards.pin), (Cpus::Count(1), false));
    assert_eq!((config.clusters[0].weight, config.clusters[1].weight), (0.5, 4.0));
    assert_eq!(config.clusters[1].servers, ["x"]);

    let name = folder.0.join("node.toml").display().to_string();
    for (key, origin) in [
        ("clusters[0].servers", format!("{name}:6:11")),
        ("clusters[0].weight", "--set clusters.c1.weight".to_owned()),
        ("clusters[1].servers", "--set clusters[1].servers".to_owned()),
        ("clusters[1].weight", "CROUPIER_CLUSTERS__ZONE_2_B__WEIGHT".to_owned()),
        ("limits.request_timeout", "--set limits.request_timeout".to_owned()),
        ("limits.drain_timeout", "CROUPIER_LIMITS__DRAIN_TIMEOUT".to_owned()),
        ("limits.subscriber_queue.bytes", format!("{name}:13:45")),
        ("registry.cluster", format!("{name}:15:11")),
        ("connection.role", "default".to_owned()),
    ] {
        assert_eq!(origins.of(key).to_string(), origin, "{key}");
    }
}

#[test]
fn a_whole_section_may_come_from_outside_and_parts_of_it_over_it() {
    let sources = Sources::new().variables([
        ("CROUPIER_CLUSTERS", "[{ name = \"c1\", servers = [\"a\"] }]"),
        ("CROUPIER_CLUSTERS__C1__WEIGHT", "3"),
        ("CROUPIER_REGISTRY__CLUSTER", "prod"),
        ("CROUPIER_NODE__NAME", "n1"),
    ]);
    let Loaded { config, origins } = sources.load().unwrap();
    let expected = ClusterConfig { weight: 3.0, ..ClusterConfig::new("c1", ["a"]) };
    assert_eq!(config.clusters, [expected]);
    assert_eq!(config.registry, Some(RegistryConfig::new("prod")));
    assert_eq!(origins.of("clusters[0].servers").to_string(), "CROUPIER_CLUSTERS");
    // A table is replaced as a whole: what it does not say is the default again.
    let folder = Folder::new();
    let sources = folder.sources().set("limits.subscriber_queue={ messages = 1 }");
    let queue = sources.load().unwrap().config.limits.subscriber_queue;
    assert_eq!(queue, QueueLimits { messages: 1, ..QueueLimits::default() });
}

#[test]
fn the_file_alone_is_read_without_the_environment() {
    let folder = Folder::new();
    let path = folder.0.join("node.toml");
    let alone = Config::from_path(&path).unwrap();
    let loaded = folder.sources().load().unwrap();
    assert_eq!(alone, loaded.config);
    assert_eq!(alone.limits.request_timeout, Duration::from_secs(2));
}

/// The error of the file under a variable.
fn of_variable(name: &str, value: &str) -> String {
    Folder::new().sources().variables([(name, value)]).load().unwrap_err().to_string()
}

/// The error of the file under an assignment.
fn of_assignment(assignment: &str) -> String {
    Folder::new().sources().set(assignment).load().unwrap_err().to_string()
}

#[test]
fn a_mistake_in_a_variable_is_shown_with_its_name_and_text() {
    let shown = of_variable("CROUPIER_LIMITS__REQUEST_TIMEOUT", "5 parsecs");
    assert_eq!(
        shown,
        "CROUPIER_LIMITS__REQUEST_TIMEOUT: `parsecs` is no unit of a duration: use ns, us, ms, s, m, h\n      |\n      \
         | CROUPIER_LIMITS__REQUEST_TIMEOUT=5 parsecs\n      |                                  ^^^^^^^^^"
    );
    for (name, value, parts) in [
        ("CROUPIER_REGISTRY__HEARBEAT", "1s", ["unknown field `hearbeat`", "did you mean `heartbeat`?"]),
        ("CROUPIER_REGISTRI__HEARTBEAT", "1s", ["unknown field `registri`", "did you mean `registry`?"]),
        ("CROUPIER_REGISTRY__SEEDS", "a:1,b:2", ["expected a sequence", "^^^^^^^"]),
        ("CROUPIER_REGISTRY__SEEDS", "[\"a:1\"", ["registry.seeds: is no TOML", "^"]),
        ("CROUPIER_REGISTRY__HEARTBEAT", "1ms", ["registry.heartbeat: is 1ms", "use at least 10ms"]),
        ("CROUPIER_REGISTRY__SECRET", "canary", ["unknown field `secret`", "secret_files"]),
        ("CROUPIER_CLUSTERS__C9__WEIGHT", "1", ["no entry is meant by this", "there is c1, zone-2.b"]),
        ("CROUPIER_NODE__NAME__FIRST", "x", ["`name` is one value", "set `name` itself"]),
        ("CROUPIER_NODE__NAME", "", ["node.name: is empty", "give it a name"]),
        ("CROUPIER_SHARDS__PIN", "yes", ["expected a boolean", "^^^"]),
        ("CROUPIER_SHARDS__INBOX", "many", ["expected usize", "^^^^"]),
        ("CROUPIER_CLUSTERS", "7", ["expected a sequence", "^"]),
        ("CROUPIER_A____B", "7", ["is empty", "two underscores stand for a dot"]),
    ] {
        let shown = of_variable(name, value);
        assert!(shown.starts_with(name), "{shown}");
        assert!(parts.iter().all(|part| shown.contains(part)), "{name}={value}\n{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
    let bytes = std::ffi::OsString::from_vec(vec![0xff]);
    let error =
        Sources::new().variables([("CROUPIER_NODE__NAME".into(), bytes)] as [(std::ffi::OsString, _); 1]);
    assert!(error.load().unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn a_mistake_in_an_assignment_is_shown_with_its_key_and_text() {
    let shown = of_assignment("limits.max_payload=1MB");
    assert_eq!(
        shown,
        "--set limits.max_payload: `MB` is no unit of a size: use B, KiB, MiB, GiB, TiB\n      |\n      \
         | --set limits.max_payload=1MB\n      |                          ^^^"
    );
    for (assignment, parts) in [
        ("limits.max_paylaod=1", ["unknown field `max_paylaod`", "did you mean `max_payload`?"]),
        ("clusters[2].weight=1", ["no entry is meant by this", "there is c1, zone-2.b"]),
        ("clusters.c1.weight=0", ["clusters[0].weight: is 0, outside", "--set clusters.c1.weight=0"]),
        ("node[0]=1", ["no numbered entries", "only a list"]),
        ("version=1", ["unknown field `version`", "--set version"]),
        ("limits", ["is no key and value", "--set registry.heartbeat=50ms"]),
        ("registry.secret=canary", ["unknown field `secret`", "--set registry.secret"]),
        ("password canary", ["is no key and value", "--set registry.heartbeat=50ms"]),
        ("clusters.c1.servers=[\"app:canary@a\"]", ["clusters[0].servers[0]", "***@a"]),
    ] {
        let shown = of_assignment(assignment);
        assert!(shown.starts_with("--set "), "{shown}");
        assert!(parts.iter().all(|part| shown.contains(part)), "{assignment}\n{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn mistakes_of_meaning_come_all_at_once_from_all_sources_in_their_order() {
    let folder = Folder::new();
    let path = folder.0.join("node.toml");
    std::fs::write(&path, FILE.replace("weight = 2", "weight = 99")).unwrap();
    let sources = folder.sources().variables([("CROUPIER_SHARDS__INBOX", "0")]).set("node.name=a b");
    let error = sources.load().unwrap_err();
    let found: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| {
            let from = problem.from.as_ref().map(ToString::to_string).unwrap_or_default();
            (problem.key.as_str(), problem.place.map(|place| place.line), from)
        })
        .collect();
    let from = |text: &str| text.to_owned();
    let expected = [
        ("clusters[1].weight", Some(10), String::new()),
        ("shards.inbox", None, from("CROUPIER_SHARDS__INBOX")),
        ("node.name", None, from("--set node.name")),
    ];
    assert_eq!(found, expected);
    assert!(error.to_string().starts_with(&format!("{}: 3 problems\n", path.display())), "{error}");
}

#[test]
fn the_version_is_of_the_file() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("node.toml"), "[node]\n").unwrap();
    let error = folder.sources().set("version=1").load().unwrap_err().to_string();
    assert!(error.contains("version: is missing"), "{error}");
}

#[test]
fn there_are_bounds_for_what_comes_from_outside() {
    let long = "x".repeat(OVERRIDE_BYTES_MAX);
    let error = Sources::new().variables([("CROUPIER_NODE__NAME", long.as_str())]).load().unwrap_err();
    assert!(error.to_string().contains("more than 65536"), "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
    let many = (0..=OVERRIDES_MAX).fold(Sources::new(), |sources, _| sources.set("node.name=a"));
    assert!(many.load().unwrap_err().to_string().contains("1025 settings, more than 1024"));
}
