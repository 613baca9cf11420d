//! The walls between the rooms, read off the manifests and the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Rooms without input, output, clocks or threads.
const PURE: [&str; 3] = ["ring", "protocol", "registry"];
/// Rooms on top, which nothing depends on.
const ON_TOP: [&str; 3] = ["loadtest", "bench", "tests"];
/// What would bring input, output or an executor into a pure room.
const IMPURE: [&str; 15] = [
    "async-channel",
    "async-io",
    "async-nats",
    "async-std",
    "futures",
    "futures-channel",
    "futures-core",
    "futures-lite",
    "glommio",
    "libc",
    "mio",
    "rustix",
    "smol",
    "socket2",
    "tokio",
];
/// A file beyond this is to be split.
const LINES_MAX: usize = 1000;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a room stands in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the crates in all sections of dependencies of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_in_dependencies = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            is_in_dependencies = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.push(name.to_owned());
            }
        } else if is_in_dependencies && !line.is_empty() && !line.starts_with('#') {
            names.extend(line.split(['.', '=', ' ']).next().map(str::to_owned));
        }
    }
    names
}

fn manifest_of(room: &str) -> String {
    read(&workspace().join(room).join("Cargo.toml"))
}

fn rooms() -> Vec<String> {
    let root = read(&workspace().join("Cargo.toml"));
    let members = root.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let (members, _) = members.expect("the root names its members");
    members.split(',').map(|member| member.trim().trim_matches('"').to_owned()).collect()
}

/// All Rust sources below a folder, builds left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                if entry.file_name().is_some_and(|name| name != "target" && name != ".git") {
                    folders.push(entry);
                }
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {}", folder.display());
    found
}

/// What of a source is compiled into a room: no comments, and no unit tests at its end.
fn code(path: &Path) -> String {
    let source = read(path);
    let shipped =
        source.split_once("#[cfg(test)]\nmod tests {").map_or(source.as_str(), |(shipped, _)| shipped);
    shipped.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reader_of_manifests_sees_every_kind_of_dependency() {
    let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n# c = \"1\"\n[lib]\nname = \"d\"\n\
        [target.'cfg(unix)'.dependencies]\ne = { path = \"e\" }\n[dev-dependencies.f]\nversion = \"1\"\n";
    assert_eq!(dependencies(manifest), ["a", "b", "e", "f"]);
    assert!(dependencies(&manifest_of("runtime")).iter().any(|name| name == "glommio"));
}

#[test]
fn pure_rooms_know_neither_each_other_nor_an_executor() {
    for room in PURE {
        for dependency in dependencies(&manifest_of(room)) {
            assert!(!IMPURE.contains(&dependency.as_str()), "{room} depends on {dependency}");
            assert!(!dependency.starts_with("croupier"), "{room} depends on {dependency}");
        }
    }
}

#[test]
fn pure_rooms_forbid_unsafe_code() {
    for room in PURE {
        let library = code(&workspace().join(room).join("src/lib.rs"));
        assert!(library.contains("#![forbid(unsafe_code)]"), "{room} does not forbid unsafe code");
    }
}

#[test]
fn pure_rooms_have_no_sockets_threads_or_clocks() {
    let forbidden =
        ["std::net", "std::thread", "std::fs", "Instant::now", "SystemTime::now", "net::", "thread::"];
    for room in PURE {
        for source in sources(&workspace().join(room).join("src")) {
            let is_test = source.components().any(|part| part.as_os_str() == "tests")
                || source.file_name().is_some_and(|name| name == "tests.rs");
            let code = if is_test { String::new() } else { code(&source) };
            for word in forbidden {
                assert!(!code.contains(word), "{} has {word}", source.display());
            }
        }
    }
}

#[test]
fn only_the_transport_names_glommio() {
    let runtime = workspace().join("runtime/src");
    let transport = runtime.join("transport");
    let mut named = 0;
    for source in sources(&runtime) {
        let code = code(&source);
        if code.contains("glommio::") || code.contains("use glommio") {
            assert!(source.starts_with(&transport), "{} names glommio", source.display());
            named += 1;
        }
    }
    assert!(named > 0, "the transport itself names it");
    for room in rooms().iter().filter(|room| *room != "runtime" && *room != "bench") {
        let names_glommio = dependencies(&manifest_of(room)).iter().any(|name| name == "glommio");
        assert!(!names_glommio, "{room} depends on glommio");
    }
}

/// The configuration is that of the start; what a reload changes is read where the reload puts it.
#[test]
fn limits_are_read_as_they_are_now() {
    let runtime = workspace().join("runtime/src");
    for source in sources(&runtime).iter().filter(|source| !source.starts_with(runtime.join("config"))) {
        let may = source.ends_with("reload.rs") || source.ends_with("node_shared.rs");
        let names = code(source).contains("config.limits");
        assert!(may || !names, "{}: read `node.limits.get()`, not `config.limits`", source.display());
    }
}

#[test]
fn nothing_depends_on_the_rooms_on_top() {
    for room in rooms() {
        for dependency in dependencies(&manifest_of(&room)) {
            let on_top = ON_TOP.iter().any(|top| dependency == format!("croupier-{top}"));
            assert!(!on_top, "{room} depends on {dependency}");
        }
    }
}

#[test]
fn the_house_has_seven_rooms_and_none_is_called_common() {
    let mut rooms = rooms();
    rooms.sort();
    assert_eq!(rooms, ["bench", "loadtest", "protocol", "registry", "ring", "runtime", "tests"]);
    for room in rooms {
        let name = manifest_of(&room);
        assert!(!name.contains("common\""), "{room}");
    }
}

#[test]
fn no_source_is_longer_than_a_thousand_lines() {
    for source in sources(&workspace()) {
        let lines = read(&source).lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", source.display());
    }
}
