//! What a configuration is read from: a file, the environment, a command line, each over the one before.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{Config, ConfigError, Origins, parse};

/// What a configuration is read from. Later ones win: the defaults, the file, the environment, `--set`.
///
/// - The **file** is `node.toml`. Relative paths in it are relative to its folder.
/// - The **environment**: `CROUPIER_REGISTRY__HEARTBEAT=50ms` sets `registry.heartbeat`; two underscores stand for
///   the dot. A cluster is meant by its name, in any case and with `_` for all but letters and digits:
///   `CROUPIER_CLUSTERS__C1__WEIGHT=2`. Variables without `__` are left alone, unless they name a whole
///   section, such as `CROUPIER_CLUSTERS`.
/// - **Assignments** are what a command line has after `--set`: `registry.heartbeat=50ms`, `clusters.c1.weight=2`,
///   `clusters."a.b".weight=2`, or by number from 0 `clusters[1].weight=2`.
///
/// A value is text where the key takes text. What begins with a quote or a bracket is TOML, and so are numbers,
/// `true` and `false`: `CROUPIER_REGISTRY__SEEDS='["a:1", "b:2"]'`. A value replaces what stood at its key; a list or
/// a table is replaced as a whole.
///
/// ```
/// use croupier::config::Sources;
///
/// let loaded = Sources::new()
///     .set("clusters=[{ name = \"c1\", servers = [\"nats://127.0.0.1:4222\"] }]")
///     .set("limits.request_timeout=250ms")
///     .load()?;
/// assert_eq!(loaded.config.limits.request_timeout.as_millis(), 250);
/// assert_eq!(loaded.origins.of("limits.request_timeout").to_string(), "--set limits.request_timeout");
/// # Ok::<(), croupier::config::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Environment,
    assignments: Vec<String>,
}

#[derive(Clone, Default)]
enum Environment {
    #[default]
    Ignored,
    Process,
    Given(Vec<(OsString, OsString)>),
}

/// A configuration, and where each of its settings comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// What the node is to be told.
    pub config: Config,
    /// Where it comes from.
    pub origins: Origins,
}

impl Sources {
    /// Nothing but the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this file.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..self }
    }

    /// Takes the environment of this process, as it is when the sources are read.
    #[must_use]
    pub fn environment(self) -> Self {
        Self { environment: Environment::Process, ..self }
    }

    /// Takes these variables instead of the process's own.
    #[must_use]
    pub fn variables<N, V>(self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let given = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { environment: Environment::Given(given), ..self }
    }

    /// Adds `key=value`, over all before it.
    #[must_use]
    pub fn set(mut self, assignment: impl Into<String>) -> Self {
        self.assignments.push(assignment.into());
        self
    }

    /// The file, if one is read.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads them all, and checks the outcome.
    ///
    /// # Errors
    ///
    /// As [`Config::from_path`]; a problem names the file with line and column, the variable, or the `--set`.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let variables = match &self.environment {
            Environment::Ignored => Vec::new(),
            Environment::Process => std::env::vars_os().collect(),
            Environment::Given(variables) => variables.clone(),
        };
        parse::load(self.file.as_deref(), variables, &self.assignments)
    }
}

/// Without the values, which may be secret by mistake.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("assignments", &self.assignments.len())
            .finish_non_exhaustive()
    }
}
