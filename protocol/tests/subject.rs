//! Which subjects, patterns and queue groups may be sent, and what a pattern matches.

use bytes::Bytes;
use croupier_protocol::limits::SUBJECT_BYTES_MAX;
use croupier_protocol::{QueueGroup, Subject, SubjectError};
use proptest::prelude::*;

#[test]
fn a_subject_is_checked_when_it_is_made() {
    use SubjectError::{Empty, EmptyToken, ForbiddenByte, Wildcard};
    // Bytes; as a literal; as a pattern.
    let table: &[(&[u8], Check, Check)] = &[
        (b"a", Ok(()), Ok(())),
        (b"a.b.c", Ok(()), Ok(())),
        (b"_INBOX.x-1", Ok(()), Ok(())),
        (b"$SYS.a", Ok(()), Ok(())),
        ("größe.温".as_bytes(), Ok(()), Ok(())),
        (b"\xff\x80.\xfe", Ok(()), Ok(())),
        (b"a\x01\x7f", Ok(()), Ok(())),
        (b"", Err(Empty), Err(Empty)),
        (b".", Err(EmptyToken { offset: 0 }), Err(EmptyToken { offset: 0 })),
        (b".a", Err(EmptyToken { offset: 0 }), Err(EmptyToken { offset: 0 })),
        (b"a.", Err(EmptyToken { offset: 2 }), Err(EmptyToken { offset: 2 })),
        (b"a..b", Err(EmptyToken { offset: 2 }), Err(EmptyToken { offset: 2 })),
        (b"a b", forbidden(1, b' '), forbidden(1, b' ')),
        (b" a", forbidden(0, b' '), forbidden(0, b' ')),
        (b"a\tb", forbidden(1, b'\t'), forbidden(1, b'\t')),
        (b"a\r\nPUB x 0\r\n\r\n", forbidden(1, b'\r'), forbidden(1, b'\r')),
        (b"a\n", forbidden(1, b'\n'), forbidden(1, b'\n')),
        (b"a\0", forbidden(1, 0), forbidden(1, 0)),
        (b"*", Err(Wildcard { offset: 0 }), Ok(())),
        (b">", Err(Wildcard { offset: 0 }), Ok(())),
        (b"a.*", Err(Wildcard { offset: 2 }), Ok(())),
        (b"*.*.c", Err(Wildcard { offset: 0 }), Ok(())),
        (b"a.>", Err(Wildcard { offset: 2 }), Ok(())),
        (b"*.>", Err(Wildcard { offset: 0 }), Ok(())),
        (b">.a", Err(Wildcard { offset: 0 }), Err(Wildcard { offset: 0 })),
        (b"a.>.b", Err(Wildcard { offset: 2 }), Err(Wildcard { offset: 2 })),
        (b"a*", Err(Wildcard { offset: 1 }), Err(Wildcard { offset: 1 })),
        (b"a.b>", Err(Wildcard { offset: 3 }), Err(Wildcard { offset: 3 })),
        (b"**", Err(Wildcard { offset: 0 }), Err(Wildcard { offset: 0 })),
        (b"a.>>", Err(Wildcard { offset: 2 }), Err(Wildcard { offset: 2 })),
    ];
    for (bytes, literal, pattern) in table {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(Subject::check_literal(bytes), *literal, "{text:?}");
        assert_eq!(Subject::literal(bytes).map(|subject| assert_eq!(subject, **bytes)), *literal, "{text:?}");
        assert_eq!(Subject::check_pattern(bytes), *pattern, "{text:?}");
        assert_eq!(Subject::pattern(bytes).map(|subject| assert_eq!(subject, **bytes)), *pattern, "{text:?}");
    }

    type Check = Result<(), SubjectError>;

    fn forbidden(offset: usize, byte: u8) -> Check {
        Err(ForbiddenByte { offset, byte })
    }
}

#[test]
fn a_subject_fits_into_a_server_s_line() {
    assert_eq!(Subject::check_literal(&vec![b'a'; SUBJECT_BYTES_MAX]), Ok(()));
    let too_long = SubjectError::TooLong { had: SUBJECT_BYTES_MAX + 1, max: SUBJECT_BYTES_MAX };
    assert_eq!(Subject::check_literal(&vec![b'a'; SUBJECT_BYTES_MAX + 1]), Err(too_long));
    assert_eq!(QueueGroup::new(vec![b'a'; SUBJECT_BYTES_MAX + 1]), Err(too_long));

    let mut out = Vec::new();
    let longest = vec![b'a'; SUBJECT_BYTES_MAX];
    croupier_protocol::encode::publish_line(&mut out, &longest, Some(&longest), 999_999_999);
    assert!(out.len() <= 4096, "{}", out.len());
    out.clear();
    let sid = croupier_protocol::Sid::from_raw(u64::MAX);
    croupier_protocol::encode::subscribe(&mut out, &longest, Some(&longest), sid);
    assert!(out.len() <= 4096, "{}", out.len());
}

#[test]
fn a_queue_group_is_one_word() {
    assert_eq!(QueueGroup::new("workers").map(|group| group.as_bytes().to_vec()), Ok(b"workers".to_vec()));
    assert_eq!(QueueGroup::new("a.*").map(|group| group.to_string()), Ok("a.*".to_owned()));
    assert_eq!(QueueGroup::new(""), Err(SubjectError::Empty));
    for text in ["a b", "a\tb", "a\r", "a\n", "a\0"] {
        let byte = text.as_bytes()[1];
        assert_eq!(QueueGroup::new(text), Err(SubjectError::ForbiddenByte { offset: 1, byte }));
    }
}

#[test]
fn a_pattern_matches_what_a_server_would_send() {
    for (pattern, literal, expected) in [
        ("a.b", "a.b", true),
        ("a.b", "a.c", false),
        ("a.b", "a", false),
        ("a.b", "a.b.c", false),
        ("a", "A", false),
        ("*", "a", true),
        ("*", "a.b", false),
        ("a.*", "a.b", true),
        ("a.*", "a", false),
        ("a.*", "a.b.c", false),
        ("*.b", "a.b", true),
        ("a.*.c", "a.b.c", true),
        ("a.*.c", "a.b.d", false),
        (">", "a", true),
        (">", "a.b.c", true),
        ("a.>", "a", false),
        ("a.>", "a.b", true),
        ("a.>", "a.b.c.d", true),
        ("a.>", "b.c", false),
        ("*.>", "a.b", true),
        ("*.>", "a", false),
        (">", "", false),
        ("*", "", false),
        ("a.*", "a.", false),
    ] {
        let subject = Subject::pattern(pattern).expect(pattern);
        assert_eq!(subject.matches(literal.as_bytes()), expected, "{pattern} {literal}");
        let wildcard = pattern.contains(['*', '>']);
        assert_eq!(subject.is_wildcard(), wildcard, "{pattern}");
    }
}

#[test]
fn a_relayed_subject_is_taken_as_it_is() {
    let subject = Subject::from_wire(Bytes::from_static(b"a.\xff"));
    assert!(subject.to_str().is_err());
    assert_eq!(
        (format!("{subject}"), format!("{subject:?}")),
        ("a.\u{fffd}".to_owned(), "\"a.\u{fffd}\"".to_owned())
    );
    assert_eq!(subject.clone().into_bytes(), Bytes::from_static(b"a.\xff"));
    assert_eq!(Subject::literal("a.b").expect("a subject"), "a.b");
    assert_eq!(Subject::literal("a.b").expect("a subject"), *"a.b");
    assert_eq!(Subject::literal("a.b").expect("a subject").to_str(), Ok("a.b"));
}

#[test]
fn a_clone_shares_the_bytes() {
    let subject = Subject::literal("a.b").expect("a subject");
    assert_eq!(subject.clone().as_bytes().as_ptr(), subject.as_bytes().as_ptr());
}

proptest! {
    #[test]
    fn what_is_checked_is_one_argument(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        let one = !bytes.is_empty() && !bytes.iter().any(|byte| b" \t\r\n\0".contains(byte));
        for checked in [Subject::check_literal(&bytes), Subject::check_pattern(&bytes)] {
            prop_assert!(checked.is_err() || one);
        }
        prop_assert_eq!(QueueGroup::new(&bytes).is_ok(), one);
        prop_assert!(Subject::check_literal(&bytes).is_err() || Subject::check_pattern(&bytes).is_ok());
    }

    #[test]
    fn a_literal_matches_itself_alone(first in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}", other in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}") {
        let subject = Subject::literal(&first).expect("a subject");
        prop_assert!(subject.matches(first.as_bytes()));
        prop_assert_eq!(subject.matches(other.as_bytes()), first == other);
    }

    /// Compared with a matcher that goes by recursion over the tokens.
    #[test]
    fn patterns_match_by_tokens(pattern in "[ab*](\\.[ab*]){0,3}(\\.>)?", literal in "[ab](\\.[ab]){0,4}") {
        fn matches(pattern: &[&str], literal: &[&str]) -> bool {
            match (pattern, literal) {
                ([">"], [_, ..]) | ([], []) => true,
                ([wanted, pattern @ ..], [token, literal @ ..]) => {
                    (*wanted == "*" || wanted == token) && matches(pattern, literal)
                }
                _ => false,
            }
        }
        let expected = matches(&pattern.split('.').collect::<Vec<_>>(), &literal.split('.').collect::<Vec<_>>());
        prop_assert_eq!(Subject::pattern(&pattern).expect("a pattern").matches(literal.as_bytes()), expected);
    }
}
