//! Checks that the pages say what is so: README's program is the example, its configuration is accepted, and the
//! files that ARCHITECTURE.md names exist. `.ci/run` compiles it against the library and runs it.

use std::{fs, path::Path, process::ExitCode};

use croupier::{Config, config::AdminListen};

fn main() -> ExitCode {
    let mut faults = Vec::new();
    check_program(&mut faults);
    check_configuration(&mut faults);
    check_paths(&mut faults);
    for fault in &faults {
        eprintln!("pages: {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_program(faults: &mut Vec<String>) {
    let example = read("runtime/examples/hello.rs");
    let example: Vec<&str> =
        example.lines().skip_while(|line| line.starts_with("//!") || line.is_empty()).collect();
    match blocks(&read("README.md"), "rust").as_slice() {
        [program, ..] if program.lines().eq(example.iter().copied()) => {
            println!("README's program is runtime/examples/hello.rs, {} lines", example.len());
        }
        [_, ..] => faults.push("README's program differs from runtime/examples/hello.rs".to_owned()),
        [] => faults.push("README has no program".to_owned()),
    }
}

fn check_configuration(faults: &mut Vec<String>) {
    let configurations = blocks(&read("README.md"), "toml");
    if configurations.is_empty() {
        faults.push("README has no configuration".to_owned());
    }
    for text in configurations {
        match text.parse::<Config>() {
            Ok(config) => {
                // The page says that all but the clusters is the default. An admin server where a file puts it that
                // does not say is the same address, and stands for less: see `AdminListen`.
                let mut expected = Config { clusters: config.clusters.clone(), ..Config::default() };
                expected.node.admin_listen = config.node.admin_listen.clone();
                let usual = config.node.admin_listen.to_string() == AdminListen::Usual.to_string();
                if config != expected || !usual {
                    faults.push(format!("README's configuration is not the default: {config:?}"));
                }
                println!("README's configuration is accepted, {} clusters", config.clusters.len());
            }
            Err(error) => faults.push(format!("README's configuration is refused: {error}")),
        }
    }
}

fn check_paths(faults: &mut Vec<String>) {
    let page = read("ARCHITECTURE.md");
    let quoted = page.split('`').skip(1).step_by(2);
    let is_path =
        |text: &&str| !text.contains([' ', '\n']) && (text.contains('/') || text.ends_with(".toml"));
    let paths: Vec<&str> = quoted.filter(is_path).collect();
    if paths.len() < 20 {
        faults.push(format!("ARCHITECTURE.md names only {} files", paths.len()));
    }
    let missing = paths.iter().filter(|path| **path != "node.toml" && !Path::new(path).exists());
    faults.extend(missing.map(|path| format!("ARCHITECTURE.md names {path}, which is not there")));
    println!("ARCHITECTURE.md names {} files and folders", paths.len());
}

/// The fenced blocks of one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}");
    let mut lines = page.lines();
    let mut found = Vec::new();
    while lines.by_ref().any(|line| line == opening) {
        found
            .push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
