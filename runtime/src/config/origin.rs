//! Where a setting comes from.

use std::{collections::BTreeMap, fmt};

use super::error::Place;

/// Where a setting comes from. Later ones win: a default, the file, the environment, `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody has said otherwise.
    Default,
    /// A file, or another text.
    File {
        /// The file's name as it was given, or `<string>`.
        name: String,
        /// Where in it.
        place: Place,
    },
    /// The process's environment.
    Environment {
        /// The variable, such as `CROUPIER_REGISTRY__HEARTBEAT`.
        variable: String,
    },
    /// The command line.
    Set {
        /// The key as it was given, such as `registry.heartbeat`.
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, place } => write!(f, "{name}:{}:{}", place.line, place.column),
            Self::Environment { variable } => f.write_str(variable),
            Self::Set { key } => write!(f, "--set {key}"),
        }
    }
}

/// Where each setting of a configuration comes from, by its key, such as `clusters[0].weight`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Where the setting comes from; [`Origin::Default`] when nobody has set it.
    #[must_use]
    pub fn of(&self, key: &str) -> Origin {
        self.0.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The settings that somebody has set, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(key, origin)| (key.as_str(), origin))
    }

    pub(super) fn insert(&mut self, key: String, origin: Origin) {
        self.0.insert(key, origin);
    }
}
