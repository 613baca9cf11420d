//! INFO: what is read, what has a default, what is refused.

#[path = "../../tests/fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own for the fuzz targets")]
#[allow(dead_code, reason = "of its properties, this test calls that of INFO")]
mod properties;

use croupier_protocol::limits::CONNECT_URLS_MAX;
use croupier_protocol::{InfoError, ServerInfo};
use proptest::prelude::*;

#[test]
fn a_server_s_info_is_read() {
    let info = ServerInfo::parse(
        br#"{"server_id":"NDQ","server_name":"n1","version":"2.15.1","proto":1,"git_commit":"abc","go":"go1.25",
            "host":"0.0.0.0","port":4222,"headers":true,"auth_required":true,"tls_required":true,
            "tls_verify":true,"tls_available":true,"max_payload":8388608,"jetstream":true,"client_id":42,
            "client_ip":"127.0.0.1","nonce":"n0","cluster":"east","domain":"d","xkey":"X",
            "connect_urls":["10.0.0.1:4222","[::1]:4222"],"ldm":true,"connect_info":true,"feature_flags":{"a":[1]}} "#,
    )
    .expect("an INFO");
    let expected = ServerInfo {
        server_id: "NDQ".into(),
        server_name: "n1".into(),
        version: "2.15.1".into(),
        go: "go1.25".into(),
        host: "0.0.0.0".into(),
        port: 4222,
        headers: true,
        max_payload: 8_388_608,
        proto: 1,
        client_id: Some(42),
        client_ip: Some("127.0.0.1".into()),
        auth_required: true,
        tls_required: true,
        tls_available: true,
        tls_verify: true,
        nonce: Some("n0".into()),
        cluster: Some("east".into()),
        domain: Some("d".into()),
        connect_urls: vec!["10.0.0.1:4222".into(), "[::1]:4222".into()],
        lame_duck_mode: true,
        jetstream: true,
        connect_info: true,
    };
    assert_eq!(info, expected);
}

#[test]
fn what_is_left_out_or_null_has_its_default() {
    assert_eq!(ServerInfo::parse(b"{}"), Ok(ServerInfo::default()));
    let nulls =
        br#"{"server_id":null,"connect_urls":null,"port":null,"ldm":null,"client_id":null,"headers":null}"#;
    assert_eq!(ServerInfo::parse(nulls), Ok(ServerInfo::default()));
    assert_eq!(ServerInfo::default().max_payload, 1024 * 1024);
}

#[test]
fn only_so_many_addresses_are_kept() {
    for (count, kept) in [(0, 0), (CONNECT_URLS_MAX, CONNECT_URLS_MAX), (10_000, CONNECT_URLS_MAX)] {
        let urls: Vec<_> = (0..count).map(|port| format!("\"h:{port}\"")).collect();
        let json = format!("{{\"connect_urls\":[{}],\"port\":1}}", urls.join(","));
        let info = ServerInfo::parse(json.as_bytes()).expect("an INFO");
        assert_eq!((info.connect_urls.len(), info.port), (kept, 1));
        assert!(info.connect_urls.iter().enumerate().all(|(port, url)| *url == format!("h:{port}")));
    }
}

#[test]
fn what_is_no_info_is_refused() {
    for json in ["", " ", "null", "[]", "[\"a\"]", "1", "\"a\"", "true"] {
        assert_eq!(ServerInfo::parse(json.as_bytes()), Err(InfoError::NotAnObject), "{json}");
    }
    for json in [
        "{",
        "{\"port\":",
        "{} x",
        "{\"port\":70000}",
        "{\"port\":-1}",
        "{\"port\":\"1\"}",
        "{\"max_payload\":-1}",
        "{\"max_payload\":1e99}",
        "{\"headers\":1}",
        "{\"server_id\":5}",
        "{\"connect_urls\":\"a\"}",
        "{\"connect_urls\":[1]}",
        "{\"connect_urls\":{}}",
        "{\"port\":1,\"port\":2}",
        "{a:1}",
    ] {
        let result = ServerInfo::parse(json.as_bytes());
        assert!(matches!(result, Err(InfoError::Json { .. })), "{json}: {result:?}");
    }
    assert!(ServerInfo::parse(b"{\"server_id\":\"\xff\"}").is_err());
}

#[test]
fn depth_is_no_danger() {
    let deep = [&b"{\"x\":"[..], &b"[".repeat(500_000)].concat();
    assert!(ServerInfo::parse(&deep).is_err());
    let closed = [&deep[..], &b"]".repeat(500_000), b"}"].concat();
    // Read or refused, but without a stack that grows with it.
    let _ = ServerInfo::parse(&closed);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        properties::info::check(&data);
    }

    #[test]
    fn near_objects_are_read_or_refused(
        json in r#"\{("(port|max_payload|headers|ldm|connect_urls|server_id|cluster|other)":(null|true|-?[0-9]{1,6}|"[a-z]{0,4}"|\[("[a-z]"(,"b"){0,3})?\]),?){0,5}\}"#
    ) {
        properties::info::check(json.as_bytes());
    }
}
