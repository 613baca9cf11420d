//! An INFO is read or refused, never half read, and its lists stay within their limit.

use croupier_protocol::ServerInfo;
use croupier_protocol::limits::CONNECT_URLS_MAX;

/// The bytes are the JSON of an INFO.
pub fn check(data: &[u8]) {
    let Ok(info) = ServerInfo::parse(data) else { return };
    assert!(info.connect_urls.len() <= CONNECT_URLS_MAX);
    // A reader of whole values is stricter than one that skips what it does not know: deeper than
    // 128, or with text that is not UTF-8, it refuses.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let object = value.as_object().expect("only an object is an INFO");
    let text = |name: &str| object.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let flag = |name: &str| object.get(name).and_then(|value| value.as_bool()).unwrap_or_default();
    assert_eq!(info.server_id, text("server_id"));
    assert_eq!(info.server_name, text("server_name"));
    assert_eq!(info.version, text("version"));
    assert_eq!(info.host, text("host"));
    assert_eq!(info.nonce.unwrap_or_default(), text("nonce"));
    assert_eq!(info.cluster.unwrap_or_default(), text("cluster"));
    assert_eq!(info.headers, flag("headers"));
    assert_eq!(info.lame_duck_mode, flag("ldm"));
    assert_eq!(info.tls_required, flag("tls_required"));
    assert_eq!(info.auth_required, flag("auth_required"));
    let number = |name: &str| object.get(name).and_then(|value| value.as_u64());
    assert_eq!(u64::from(info.port), number("port").unwrap_or_default());
    assert_eq!(info.client_id, number("client_id"));
    if let Some(max_payload) = number("max_payload") {
        assert_eq!(info.max_payload as u64, max_payload);
    }
    let urls =
        object.get("connect_urls").and_then(|urls| urls.as_array()).map(Vec::as_slice).unwrap_or_default();
    let urls: Vec<_> = urls.iter().take(CONNECT_URLS_MAX).map(|url| url.as_str().expect("text")).collect();
    assert_eq!(info.connect_urls, urls);
}
