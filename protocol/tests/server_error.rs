//! The texts of `-ERR`, as servers write them.

use bytes::Bytes;
use croupier_protocol::limits::SERVER_ERROR_TEXT_BYTES_MAX;
use croupier_protocol::{PermissionAction, ServerError};
use proptest::prelude::*;

#[test]
fn fatal_texts_are_known() {
    use ServerError::*;
    for (text, expected) in [
        ("Unknown Protocol Operation", UnknownProtocolOperation),
        ("maximum control line exceeded", MaximumControlLine),
        ("Maximum Payload Violation", MaximumPayload),
        ("maximum payload exceeded", MaximumPayload),
        ("Authorization Violation", AuthorizationViolation),
        ("Authorization Violation - more", AuthorizationViolation),
        ("Authentication Timeout", AuthenticationTimeout),
        ("Authorization Timeout", AuthenticationTimeout),
        ("Authentication Expired", AuthenticationExpired),
        ("User Authentication Expired", AuthenticationExpired),
        ("Account Authentication Expired", AuthenticationExpired),
        ("Authentication Revoked", AuthenticationRevoked),
        ("User Authentication Revoked", AuthenticationRevoked),
        ("maximum connections exceeded", MaximumConnections),
        ("maximum account active connections exceeded", MaximumConnections),
        ("Connection throttling is active. Please try again later.", ConnectionThrottling),
        ("Invalid Client Protocol", InvalidClientProtocol),
        ("no responders requires headers support", NoRespondersRequiresHeaders),
        ("Secure Connection - TLS Required", SecureConnectionRequired),
        ("Stale Connection", StaleConnection),
        ("Failed Account Registration", FailedAccountRegistration),
        ("attempted to connect to route port", WrongPort),
        ("Attempted To Connect To Leaf Node Port", WrongPort),
        ("attempted to connect to gateway port", WrongPort),
        ("wrong port", WrongPort),
    ] {
        for wire in forms(text) {
            let error = ServerError::parse(wire.as_bytes());
            assert_eq!(error, expected, "{wire}");
            assert!(error.is_fatal(), "{wire}");
        }
        let authentication =
            text.contains("uth") && text.contains("uthentication") || text.starts_with("Authorization");
        assert_eq!(expected.is_authentication(), authentication, "{text}");
    }
}

#[test]
fn other_texts_leave_the_connection_alone() {
    use ServerError::*;
    for (text, expected) in [
        ("Invalid Subject", InvalidSubject),
        ("Invalid Publish Subject", InvalidSubject),
        ("maximum subscriptions exceeded", MaximumSubscriptions),
        ("Something New", Unknown("Something New".into())),
        ("stale", Unknown("stale".into())),
        ("", Unknown(String::new())),
    ] {
        for wire in forms(text) {
            let error = ServerError::parse(wire.as_bytes());
            if !matches!(error, Unknown(_)) {
                assert_eq!(error, expected, "{wire}");
            }
            assert!(!error.is_fatal() && !error.is_authentication(), "{wire}");
        }
        assert_eq!(ServerError::parse(text.as_bytes()), expected);
    }
}

#[test]
fn a_permissions_violation_names_what_it_ends() {
    use PermissionAction::{Publish, Subscribe};
    for (text, action, subject, queue) in [
        (r#"Permissions Violation for Publish to "a.B""#, Publish, &b"a.B"[..], None),
        (r#"permissions violation for publish to "a""#, Publish, b"a", None),
        (r#"Permissions Violation for Publish with Reply of "r.1""#, Publish, b"r.1", None),
        (r#"Permissions Violation for Subscription to "a.>""#, Subscribe, b"a.>", None),
        (
            r#"Permissions Violation for Subscription to "a.*" using queue "q 1""#,
            Subscribe,
            b"a.*",
            Some(&b"q 1"[..]),
        ),
        (
            r#"Permissions Violation for Publish to "a\"b\\c\x00\xff\u00e9\t""#,
            Publish,
            b"a\"b\\c\x00\xff\xc3\xa9\t",
            None,
        ),
        (
            r#"Permissions Violation for Publish to "\U0001f600\a\b\f\n\r\v""#,
            Publish,
            b"\xf0\x9f\x98\x80\x07\x08\x0c\n\r\x0b",
            None,
        ),
        (r#"Permissions Violation for Publish to """#, Publish, b"", None),
    ] {
        let expected = ServerError::PermissionsViolation {
            action,
            subject: Bytes::copy_from_slice(subject),
            queue: queue.map(Bytes::copy_from_slice),
        };
        for wire in [text.to_owned(), format!("'{text}'")] {
            let error = ServerError::parse(wire.as_bytes());
            assert_eq!(error, expected, "{wire}");
            assert!(!error.is_fatal() && !error.is_authentication());
        }
    }
}

#[test]
fn a_permissions_violation_that_cannot_be_read_is_only_text() {
    for text in [
        "Permissions Violation",
        "Permissions Violation for Publish to a",
        "Permissions Violation for Publish to \"a",
        "Permissions Violation for Publish to \"a\\",
        "Permissions Violation for Publish to \"a\\x0\"",
        "Permissions Violation for Publish to \"\\ud800\"",
        "Permissions Violation for Publish to \"\\x\u{e9}\"",
    ] {
        assert_eq!(ServerError::parse(text.as_bytes()), ServerError::Unknown(text.to_owned()));
    }
}

#[test]
fn what_is_kept_of_a_text_is_bounded() {
    let ascii = "x".repeat(10_000);
    let accents = "é".repeat(10_000);
    for text in [ascii.as_bytes(), accents.as_bytes(), &[0xff; 10_000]] {
        let ServerError::Unknown(kept) = ServerError::parse(text) else { panic!("unknown text") };
        assert!(
            (SERVER_ERROR_TEXT_BYTES_MAX - 3..=SERVER_ERROR_TEXT_BYTES_MAX).contains(&kept.len()),
            "{}",
            kept.len()
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_read(text in proptest::collection::vec(any::<u8>(), 0..100), prefix in any::<bool>()) {
        let head: &[u8] = if prefix { b"Permissions Violation for Publish to \"" } else { b"" };
        let error = ServerError::parse(&[head, &text].concat());
        prop_assert!(!error.to_string().is_empty());
    }
}

/// The same text with and without quotes and blanks, and in other cases.
fn forms(text: &str) -> [String; 5] {
    [
        text.to_owned(),
        format!("'{text}'"),
        format!("  '{text}' "),
        text.to_lowercase(),
        format!("'{}'", text.to_uppercase()),
    ]
}
