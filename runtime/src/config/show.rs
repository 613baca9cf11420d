//! A configuration as TOML again, each setting with its origin if asked for.

use super::{Config, Loaded, Origin, Origins};

impl Config {
    /// The configuration as a TOML file that says the same, defaults included.
    ///
    /// Secrets are not in it: neither those given in code nor what stands before the `@` of a server's address,
    /// which becomes `***`. Numbers beyond what TOML holds, which only code can set, become text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.shown(None)
    }

    fn shown(&self, origins: Option<&Origins>) -> String {
        let text = toml::to_string(self).expect("every section writes itself as TOML");
        let mut shown = String::from("version = 1\n");
        let mut section = String::new();
        let mut entries = std::collections::BTreeMap::new();
        for line in text.lines() {
            shown.push_str(line);
            if let Some(list) = line.strip_prefix("[[").and_then(|line| line.strip_suffix("]]")) {
                let next = entries.entry(list.to_owned()).or_insert(0);
                section = format!("{list}[{next}].");
                *next += 1;
            } else if let Some(table) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = key_of_table(table, &entries);
            } else if let (Some(origins), Some((name, _))) = (origins, line.split_once(" = ")) {
                let origin = origins.of(&format!("{section}{name}"));
                let width = COMMENT_COLUMN.saturating_sub(line.chars().count());
                shown.push_str(&format!("{:width$} # {origin}", ""));
            }
            shown.push('\n');
        }
        shown
    }
}

/// Where origins begin, unless a setting is longer.
const COMMENT_COLUMN: usize = 44;

/// `clusters.auth` below `[[clusters]]` is of its last entry.
fn key_of_table(table: &str, entries: &std::collections::BTreeMap<String, usize>) -> String {
    match table.split_once('.').and_then(|(list, rest)| Some((list, entries.get(list)?, rest))) {
        Some((list, next, rest)) => format!("{list}[{}].{rest}.", next - 1),
        None => format!("{table}."),
    }
}

impl Loaded {
    /// As [`Config::to_toml`], with the origin of each setting behind it.
    #[must_use]
    pub fn to_toml_with_origins(&self) -> String {
        self.config.shown(Some(&self.origins))
    }

    /// Where a setting comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.of(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterConfig, RegistryConfig, RingConfig, Sources};

    #[test]
    fn what_is_shown_says_the_same() {
        for config in [
            Config { clusters: vec![ClusterConfig::new("c1", ["a", "b:1"])], ..Config::default() },
            crate::config::tests::FULL.parse().unwrap(),
        ] {
            let shown = config.to_toml();
            let read: Config = shown.parse().unwrap_or_else(|error| panic!("{error}\n{shown}"));
            assert_eq!(read, config, "{shown}");
        }
    }

    #[test]
    fn what_no_file_can_say_is_shown_as_it_can_be() {
        let registry = RegistryConfig::new("prod").secret("canary");
        let ring = RingConfig { seed: u64::MAX, ..RingConfig::default() };
        let cluster = ClusterConfig::new("c1", ["nats://app:canary@a"]);
        let config = Config { ring, registry: Some(registry), clusters: vec![cluster], ..Config::default() };
        let shown = config.to_toml();
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("servers = [\"nats://***@a\"]"), "{shown}");
        assert!(shown.contains("seed = \"18446744073709551615\""), "{shown}");
    }

    #[test]
    fn each_setting_has_its_origin_behind_it() {
        let sources = Sources::new()
            .set("clusters=[{ name = \"a\", servers = [\"x\"] }, { name = \"b\", servers = [\"y\"] }]")
            .set("clusters.b.weight=2")
            .set("limits.subscriber_queue.messages=7");
        let shown = sources.load().unwrap().to_toml_with_origins();
        for (setting, origin) in [
            ("weight = 1.0", "default"),
            ("weight = 2.0", "--set clusters.b.weight"),
            ("messages = 7", "--set limits.subscriber_queue.messages"),
            ("bytes = \"64MiB\"", "default"),
            ("servers = [\"y\"]", "--set clusters"),
        ] {
            let line = shown.lines().find(|line| line.starts_with(setting));
            let (_, found) = line.unwrap_or_else(|| panic!("{shown}")).split_once(" # ").unwrap();
            assert_eq!(found, origin, "{setting}");
        }
        assert!(shown.parse::<Config>().is_ok(), "{shown}");
    }
}
