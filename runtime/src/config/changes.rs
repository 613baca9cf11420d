//! In what two configurations differ.

use toml::Value;

use super::Config;

/// The keys whose values differ, in the order of their names. A whole section counts as one if one of the two has
/// none of it.
pub(crate) fn changed_keys(old: &Config, new: &Config) -> Vec<String> {
    let table = |config| Value::try_from(config).expect("every section writes itself as TOML");
    let mut keys = Vec::new();
    compare(Some(&table(old)), Some(&table(new)), "", &mut keys);
    let mut add = |key: String| {
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    // What does not show as TOML: secrets, in addresses and in code.
    for (index, (old, new)) in old.clusters.iter().zip(&new.clusters).enumerate() {
        if old.servers != new.servers {
            add(format!("clusters[{index}].servers"));
        }
    }
    if let (Some(old), Some(new)) = (&old.registry, &new.registry)
        && old.secrets != new.secrets
    {
        add("registry.secrets".to_owned());
    }
    keys
}

fn compare(old: Option<&Value>, new: Option<&Value>, key: &str, keys: &mut Vec<String>) {
    match (old, new) {
        (Some(Value::Table(old)), Some(Value::Table(new))) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(old.get(name), new.get(name), &key, keys);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new)))
            if old.len() == new.len() && old.iter().any(Value::is_table) =>
        {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(Some(old), Some(new), &format!("{key}[{index}]"), keys);
            }
        }
        (old, new) if old == new => {}
        _ => keys.push(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{ClusterConfig, RegistryConfig};

    #[test]
    fn every_key_that_differs_is_named() {
        let cluster = |server: &str| ClusterConfig::new("c1", [server]);
        let old = Config { clusters: vec![cluster("app:a@x"), cluster("y")], ..Config::default() };
        assert_eq!(changed_keys(&old, &old), [""; 0]);
        let mut new = old.clone();
        new.limits.subscriber_queue.messages = 7;
        new.limits.request_timeout = Duration::from_secs(9);
        new.clusters[0] = cluster("app:b@x");
        new.clusters[1].weight = 2.0;
        new.node.name = Some("n1".to_owned());
        let mut expected = vec![
            "clusters[1].weight",
            "limits.request_timeout",
            "limits.subscriber_queue.messages",
            "node.name",
            "clusters[0].servers",
        ];
        assert_eq!(changed_keys(&old, &new), expected);
        new.registry = Some(RegistryConfig::new("prod"));
        expected.insert(4, "registry");
        assert_eq!(changed_keys(&old, &new), expected);
        let mut newer = new.clone();
        newer.registry = newer.registry.map(|registry| registry.secret("canary"));
        assert_eq!(changed_keys(&new, &newer), ["registry.secrets"]);
        newer.clusters.pop();
        assert_eq!(changed_keys(&new, &newer), ["clusters", "registry.secrets"]);
    }
}
