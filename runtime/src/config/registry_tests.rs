//! `[registry]`: each refusal with its place, and the files with secrets.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use super::*;

/// A file with a node's name and these lines in `[registry]`, which begins at line 4.
fn file(lines: &str) -> String {
    format!("version = 1\nnode.name = \"n1\"\nclusters = [{{ servers = [\"a\"] }}]\n[registry]\n{lines}\n")
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let registry = file("cluster = \"prod\"").parse::<Config>().unwrap().registry.unwrap();
    let expected = RegistryConfig {
        cluster: "prod".to_owned(),
        bind: "127.0.0.1:7946".to_owned(),
        advertise: None,
        seeds: vec![],
        heartbeat: Duration::from_millis(250),
        suspect_after: Duration::from_secs(1),
        forget_after: Duration::from_secs(1200),
        secret_files: vec![],
        insecure: false,
        secrets: vec![],
    };
    assert_eq!(registry, expected);
    assert_eq!(RegistryConfig::new("prod"), expected);
}

#[test]
fn each_refusal_names_its_setting_and_its_place() {
    let seeds = |count: usize| format!("seeds = {:?}", vec!["a:1"; count]);
    let files = |count: usize| format!("secret_files = {:?}", vec!["/f"; count]);
    file(&format!("cluster = \"x\"\n{}\n{}", seeds(SEEDS_MAX), files(SECRETS_MAX)))
        .parse::<Config>()
        .unwrap();
    for (line, key, place, part) in [
        ("bind = \"localhost:1\"", "registry.bind", (6, 8), "`localhost:1` is no address"),
        ("bind = \"127.0.0.1\"", "registry.bind", (6, 8), "write ip:port"),
        ("bind = \"\"", "registry.bind", (6, 8), "is no address"),
        ("bind = \"10.0.0.1:1\"", "registry.bind", (6, 8), "is 10.0.0.1:1, which is not on loopback"),
        ("bind = \"[::ffff:10.0.0.1]:1\"", "registry.bind", (6, 8), "not on loopback"),
        ("advertise = \"10.0.0.1:1\"", "registry.advertise", (6, 13), "not on loopback"),
        (
            "bind = \"0.0.0.0:1\"\ninsecure = true",
            "registry.advertise",
            (4, 1),
            "no other node can dial 0.0.0.0",
        ),
        ("bind = \"[::]:1\"\ninsecure = true", "registry.advertise", (4, 1), "no other node can dial ::"),
        (
            "advertise = \"0.0.0.0:1\"\ninsecure = true",
            "registry.advertise",
            (6, 13),
            "is 0.0.0.0:1, which no",
        ),
        ("advertise = \"[::]:1\"\ninsecure = true", "registry.advertise", (6, 13), "is [::]:1, which no"),
        ("advertise = \"127.0.0.1:0\"", "registry.advertise", (6, 13), "is 127.0.0.1:0, which no"),
        ("advertise = \"n1:1\"", "registry.advertise", (6, 13), "`n1:1` is no address"),
        ("seeds = [\"a:1\", \"b\"]", "registry.seeds[1]", (6, 17), "`b` has no port"),
        ("seeds = [\"nats://a:1\"]", "registry.seeds[0]", (6, 10), "leave out"),
        (&seeds(65), "registry.seeds", (6, 9), "there are 65, more than 64"),
        ("heartbeat = \"0s\"", "registry.heartbeat", (6, 13), "is 0"),
        ("heartbeat = \"9ms\"", "registry.heartbeat", (6, 13), "use at least 10ms"),
        ("heartbeat = \"25h\"\nsuspect_after = \"24h\"", "registry.heartbeat", (6, 13), "longer than"),
        ("suspect_after = \"0s\"", "registry.suspect_after", (6, 17), "is 0"),
        ("suspect_after = \"999ms\"", "registry.suspect_after", (6, 17), "use at least 1s"),
        ("heartbeat = \"251ms\"", "registry.suspect_after", (4, 1), "shorter than 4 heartbeats"),
        ("suspect_after = \"25h\"\nforget_after = \"24h\"", "registry.suspect_after", (6, 17), "longer than"),
        ("forget_after = \"0s\"", "registry.forget_after", (6, 16), "is 0"),
        ("forget_after = \"1s\"", "registry.forget_after", (6, 16), "not longer than suspect_after"),
        ("forget_after = \"25h\"", "registry.forget_after", (6, 16), "longer than"),
        (&files(17), "registry.secret_files", (6, 16), "17 secrets, more than 16"),
        ("secret_files = [\"\"]", "registry.secret_files[0]", (6, 17), "is empty"),
    ] {
        let error = file(&format!("cluster = \"x\"\n{line}")).parse::<Config>().unwrap_err();
        let problem = error.problems().iter().find(|problem| problem.key == key);
        let problem = problem.unwrap_or_else(|| panic!("{line}: {error}"));
        let found = problem.place.map(|Place { line, column }| (line, column));
        assert_eq!(found, Some(place), "{line}: {error}");
        assert!(error.to_string().contains(part), "{line}: {error}");
    }
}

#[test]
fn the_cluster_and_the_node_need_names() {
    for (line, place) in [("", (4, 1)), ("cluster = \"\"", (5, 11)), ("cluster = \"a b\"", (5, 11))] {
        let error = file(line).parse::<Config>().unwrap_err();
        let [problem] = error.problems() else { panic!("{error}") };
        assert_eq!(problem.key, "registry.cluster");
        assert_eq!(problem.place.map(|Place { line, column }| (line, column)), Some(place));
    }
    let nameless = file("cluster = \"x\"").replace("node.name = \"n1\"", "[node]\n");
    let error = nameless.replace("clusters =", "[[clusters]]\n#").parse::<Config>().unwrap_err().to_string();
    assert!(error.contains("<string>:2:1: node.name: is missing, and the nodes of a registry"), "{error}");

    let clusters = vec![ClusterConfig::new("c1", ["a"])];
    let registry = Some(RegistryConfig::new("x"));
    let config = Config { clusters, registry, ..Config::default() };
    let error = config.validate().unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    assert_eq!(error.problems()[0].key, "node.name");
}

/// The settings that a registry built in code is refused for.
fn refused(registry: RegistryConfig) -> Vec<String> {
    let config = Config {
        node: NodeConfig { name: Some("n1".to_owned()), ..NodeConfig::default() },
        clusters: vec![ClusterConfig::new("c1", ["a"])],
        registry: Some(registry),
        ..Config::default()
    };
    match config.validate() {
        Ok(()) => vec![],
        Err(error) => error.problems().iter().map(|problem| problem.key.clone()).collect(),
    }
}

#[test]
fn off_loopback_a_secret_is_needed_unless_told_otherwise() {
    let new = || RegistryConfig::new("x");
    for bind in ["127.0.0.1:0", "127.1.2.3:7946", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        assert_eq!(refused(new().bind(bind)), [""; 0], "{bind}");
    }
    for bind in ["10.0.0.1:0", "[2001:db8::1]:7946"] {
        assert_eq!(refused(new().bind(bind)), ["registry.bind"], "{bind}");
        assert_eq!(refused(new().bind(bind).secret("s")), [""; 0], "{bind}");
        assert_eq!(refused(new().bind(bind).secret_file("/run/s")), [""; 0], "{bind}");
        assert_eq!(refused(new().bind(bind).insecure(true)), [""; 0], "{bind}");
        assert_eq!(refused(new().bind(bind).secret("")), ["registry.secrets[0]"], "{bind}");
    }
    assert_eq!(refused(new().bind("0.0.0.0:0").secret("s")), ["registry.advertise"]);
    assert_eq!(refused(new().bind("0.0.0.0:0").secret("s").advertise("10.0.0.1:1")), [""; 0]);
}

#[test]
fn secrets_are_bounded_in_size_and_number() {
    let keyed = |count: usize| (0..count).fold(RegistryConfig::new("x"), |registry, _| registry.secret("s"));
    assert_eq!(refused(keyed(16)), [""; 0]);
    assert_eq!(refused(keyed(17)), ["registry.secret_files"]);
    assert_eq!(refused(keyed(16).secret_file("/run/s")), ["registry.secret_files"]);
    assert_eq!(refused(RegistryConfig::new("x").secret([7; 4096])), [""; 0]);
    assert_eq!(refused(RegistryConfig::new("x").secret([7; 4097])), ["registry.secrets[0]"]);
}

#[test]
fn the_builder_takes_text_and_addresses() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 7947));
    let registry = RegistryConfig::new("x")
        .bind(address)
        .advertise(address)
        .seed(address)
        .seed("a:1")
        .seed(String::from("b:2"))
        .heartbeat(Duration::from_millis(10))
        .suspect_after(Duration::from_millis(40))
        .forget_after(Duration::from_millis(41));
    assert_eq!(registry.seeds, ["127.0.0.1:7947", "a:1", "b:2"]);
    assert_eq!(registry.bind_address(), Ok(address));
    assert_eq!(registry.advertise_address(), Ok(Some(address)));
    let seeds = registry.seed_addresses().unwrap();
    assert_eq!(seeds[2], PeerAddress { host: "b".to_owned(), port: 2 });
    assert_eq!(refused(registry), [""; 0]);
}

#[test]
fn a_secret_never_shows() {
    let registry = RegistryConfig::new("a b").bind("nonsense").secret("canary").secret("canary".repeat(999));
    let config = Config { registry: Some(registry), ..Config::default() };
    let error = config.validate().unwrap_err();
    assert!(error.problems().len() >= 4, "{error}");
    assert!(!format!("{config:?} {error} {error:?}").contains("canary"));
}

/// A folder of secret files that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("croupier-secret-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _cleaned = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_key_ring_takes_secrets_given_in_code_and_then_the_files() {
    let folder = Folder::new("ring");
    let secrets = ["in code", "unix", "windows", "two\n", "bare", "public"];
    let registry = RegistryConfig::new("x")
        .secret_file(folder.file("1", "unix\n"))
        .secret_file(folder.file("2", "windows\r\n"))
        .secret_file(folder.file("3", "two\n\n"))
        .secret_file(folder.file("4", "bare"))
        .secret_file(folder.file("5", "public\n"))
        .secret("in code");
    // A readable file is warned about, and accepted.
    fs::set_permissions(&registry.secret_files[4], fs::Permissions::from_mode(0o644)).unwrap();
    let ring = registry.key_ring().unwrap();
    let expected = crate::secret::KeyRing::new(&secrets.map(Secret::new));
    assert!(ring.keys().eq(expected.keys()));
    assert!(RegistryConfig::new("x").key_ring().unwrap().is_empty());
}

#[test]
fn a_file_without_a_secret_is_named() {
    let folder = Folder::new("refused");
    folder.file("long", [b'x'; 4097]);
    folder.file("longest", [b'\n'; 100_000]);
    folder.file("empty", "");
    folder.file("break", "\r\n");
    for (name, part) in [
        ("missing", "cannot be read: No such file"),
        (".", "cannot be read: "),
        ("empty", "holds no secret"),
        ("break", "holds no secret"),
        ("long", "longer than 4096 bytes"),
        ("longest", "longer than 4096 bytes"),
    ] {
        let path = folder.0.join(name);
        let error = RegistryConfig::new("x").secret_file(&path).key_ring().unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("{}: ", path.display())) && shown.contains(part), "{shown}");
        assert_eq!(error.problems(), []);
    }
    let longest =
        RegistryConfig::new("x").secret_file(folder.file("most", [&[b'x'; 4096][..], b"\r\n"].concat()));
    assert!(!longest.key_ring().unwrap().is_empty());
}

/// README shows each setting, with its default where there is one; whole lines of its block that are
/// comments are settings too.
#[test]
fn the_page_shows_every_setting() {
    let page = include_str!("../../../README.md");
    let block = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let lines = block.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let shown = text.parse::<Config>().unwrap_or_else(|error| panic!("{error}")).registry.unwrap();
    let expected = RegistryConfig {
        advertise: shown.advertise.clone(),
        seeds: shown.seeds.clone(),
        secret_files: shown.secret_files.clone(),
        ..RegistryConfig::new("prod")
    };
    assert_eq!(shown, expected);
    let RegistryConfig { advertise: Some(_), .. } = &shown else { panic!("{shown:?}") };
    assert!(!shown.seeds.is_empty() && !shown.secret_files.is_empty());
    assert!(["heartbeat", "suspect_after", "forget_after", "insecure"].iter().all(|key| text.contains(key)));
}
