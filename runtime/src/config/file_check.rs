//! The files that a configuration names: whether they are there, and who may read them.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value as Schema;
use toml::Value;

use super::{Config, schema::schema};

/// The permission bit that lets every user of the machine read a file.
const READABLE_BY_ALL: u32 = 0o004;

/// What is wrong with a file that a configuration names.
#[derive(Debug)]
#[non_exhaustive]
pub struct FileFinding {
    /// The setting that names it, such as `registry.secret_files[0]`.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: FileFault,
}

/// What is wrong with a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileFault {
    /// It cannot be read.
    Unreadable(io::Error),
    /// There is nothing in it.
    Empty,
    /// It holds a secret, and every user of the machine can read it. The node starts nevertheless.
    ReadableByAll,
}

impl FileFinding {
    /// Whether a node cannot do with the file as it is.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self.fault, FileFault::ReadableByAll)
    }
}

impl fmt::Display for FileFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.key, self.path.display())?;
        match &self.fault {
            FileFault::Unreadable(error) => write!(f, "cannot be read: {error}"),
            FileFault::Empty => f.write_str("is empty"),
            FileFault::ReadableByAll => {
                f.write_str("holds a secret that every user of this machine can read: chmod o-r")
            }
        }
    }
}

impl Config {
    /// Looks at each file that the configuration names: whether it can be read, is not empty and, if it holds a
    /// secret, not open to every user of the machine. What is in them is not looked at.
    #[must_use]
    pub fn check_files(&self) -> Vec<FileFinding> {
        let table = Value::try_from(self).expect("every section writes itself as TOML");
        let mut findings = Vec::new();
        walk(&table, &schema(), "", &mut findings);
        findings
    }
}

fn walk(value: &Value, schema: &Schema, key: &str, findings: &mut Vec<FileFinding>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                if let Some(schema) = schema.get("properties").and_then(|properties| properties.get(name)) {
                    let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    walk(value, schema, &key, findings);
                }
            }
        }
        Value::Array(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                if let Some(schema) = schema.get("items") {
                    walk(entry, schema, &format!("{key}[{index}]"), findings);
                }
            }
        }
        Value::String(path) => {
            if let Some(kind) = schema.get("x-file") {
                let faults = faults(Path::new(path), kind == "secret");
                findings.extend(faults.into_iter().map(|fault| FileFinding {
                    key: key.to_owned(),
                    path: path.into(),
                    fault,
                }));
            }
        }
        _ => {}
    }
}

fn faults(path: &Path, is_secret: bool) -> Vec<FileFault> {
    let mut faults = Vec::new();
    let mode = File::open(path).and_then(|mut file| {
        let mode = file.metadata()?.permissions().mode();
        if file.read(&mut [0])? == 0 {
            faults.push(FileFault::Empty);
        }
        Ok(mode)
    });
    match mode {
        Ok(mode) if is_secret && mode & READABLE_BY_ALL != 0 => faults.push(FileFault::ReadableByAll),
        Ok(_) => {}
        Err(error) => faults.push(FileFault::Unreadable(error)),
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterConfig, RegistryConfig};

    #[test]
    fn each_file_is_looked_at() {
        let folder = std::env::temp_dir().join(format!("croupier-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        let registry = RegistryConfig::new("prod")
            .secret_file(file("good", "canary", 0o600))
            .secret_file(file("open", "canary", 0o644))
            .secret_file(file("empty", "", 0o600))
            .secret_file(folder.join("missing"))
            .secret_file(&folder);
        let clusters = vec![ClusterConfig::new("c1", ["a"])];
        let config = Config { registry: Some(registry), clusters, ..Config::default() };
        let findings = config.check_files();
        std::fs::remove_dir_all(&folder).unwrap();

        let found: Vec<_> = findings.iter().map(|found| (found.key.as_str(), found.is_fatal())).collect();
        let key = |position| format!("registry.secret_files[{position}]");
        let expected = [(key(1), false), (key(2), true), (key(3), true), (key(4), true)];
        assert!(found.iter().map(|(key, fatal)| ((*key).to_owned(), *fatal)).eq(expected), "{findings:?}");
        let shown: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(shown[0].ends_with("chmod o-r"), "{shown:?}");
        assert!(shown[2].contains("cannot be read: No such file"), "{shown:?}");
        assert!(!format!("{shown:?}").contains("canary"));
    }
}
