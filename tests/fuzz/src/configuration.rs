//! A configuration is read or refused with a place; what is read says the same when it is shown and read again.
//! The addresses in it as well.

use croupier::config::{Config, ConfigError, Cpus, PeerAddress, ServerAddress, Sources};

/// The bytes are text: a file, or after a `\0` a setting from elsewhere over it, or a single value.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_values(&text);
    let (file, setting) = text.split_once('\0').unwrap_or((&text, ""));
    match file.parse::<Config>() {
        Ok(config) => check_shown(&config),
        Err(error) => check_error(&error, "<string>:"),
    }
    if !setting.is_empty() {
        let one = "clusters=[{ name = \"c1\", servers = [\"a\"] }]";
        for sources in [
            Sources::new().set(one).set(setting),
            Sources::new().variables([
                ("CROUPIER_CLUSTERS", &one["clusters=".len()..]),
                ("CROUPIER_NODE__NAME", setting),
            ]),
        ] {
            match sources.load() {
                Ok(loaded) => check_shown(&loaded.config),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

fn check_shown(config: &Config) {
    config.validate().expect("what was read has been checked");
    let shown = config.to_toml();
    let again: Config = shown.parse().unwrap_or_else(|error| panic!("{error}\n{shown}"));
    // By what it shows: an address that nobody set is shown as if somebody had.
    assert_eq!(shown, again.to_toml());
}

fn check_error(error: &ConfigError, origin: &str) {
    let shown = error.to_string();
    assert!(shown.starts_with(origin), "{shown}");
    assert!(!error.problems().is_empty(), "{shown}");
}

fn check_values(text: &str) {
    match text.parse::<ServerAddress>() {
        Ok(address) => assert_eq!(address.to_string().parse(), Ok(address)),
        // A quote ends what is hidden, since it does so in a line of a file.
        Err(error) => {
            if let Some((secret, _)) = text.rsplit_once(':').and_then(|(_, rest)| rest.split_once('@'))
                && secret.len() > 8
                && !text.contains(['"', '\'', '`'])
            {
                assert!(!format!("{error} {error:?}").contains(secret), "{error}");
            }
        }
    }
    if let Ok(address) = text.parse::<PeerAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    if let Ok(cpus) = text.parse::<Cpus>() {
        assert_eq!(cpus.to_string().parse(), Ok(cpus));
    }
}
