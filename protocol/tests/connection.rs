//! The life of a connection, told by what a server sends and when.

use std::time::{Duration, Instant};

use croupier_protocol::limits::PONGS_OWED_MAX;
use croupier_protocol::{
    ConnectOptions, Connection, ConnectionConfig, ConnectionError, ConnectionState, DecodeError, Event,
    PingId, Progress, ServerError, TimeoutReason,
};

const INFO: &[u8] = b"INFO {\"server_id\":\"a\",\"headers\":true,\"max_payload\":1048576} \r\n";
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_handshake_ends_with_the_first_pong() {
    let mut party = Party::new();
    assert_eq!(party.connection.state(), ConnectionState::AwaitingInfo);
    assert!(party.connection.info().is_none());

    assert_eq!(party.feed(INFO), ["ServerInfo { first: true }"]);
    assert_eq!(party.connection.state(), ConnectionState::AwaitingPong);
    assert_eq!(party.connection.info().map(|info| info.max_payload), Some(1_048_576));

    let mut out = Vec::new();
    party.connection.connect(&mut out);
    assert_eq!(party.connection.ping(&mut out, party.now), PingId(1));
    let out = String::from_utf8(out).expect("text");
    assert!(out.starts_with("CONNECT {\"verbose\":false,"), "{out}");
    assert!(out.ends_with("}\r\nPING\r\n"), "{out}");

    // The real order: the PONG, and then a second INFO that answers CONNECT.
    assert_eq!(party.feed(b"PONG\r\n"), ["Ready(PingId(1))"]);
    assert_eq!(party.connection.state(), ConnectionState::Ready);
    assert_eq!(party.feed(b"INFO {\"connect_info\":true} \r\n"), ["ServerInfo { first: false }"]);
    assert_eq!(party.connection.state(), ConnectionState::Ready);
}

#[test]
fn a_session_recorded_from_a_real_server_is_understood() {
    let recorded = include_bytes!("../../tests/fuzz/corpus/decoder/nats_server_2_15_1");
    // The first bytes of a corpus file are the fuzzer's.
    let recorded = &recorded[4..];
    let mut party = Party::new();
    party.ping();
    party.ping();
    let events = party.feed(recorded);
    let names: Vec<_> = events.iter().map(|event| event.split(['(', ' ']).next().expect("a name")).collect();
    // CONNECT, PING; 2 SUBs and 5 PUBs, each answered before its message, one of them by 503; PING;
    // a bad SUB; garbage.
    let expected = "ServerInfo Ok Ready ServerInfo Ok Ok Ok Message Ok Message Ok Message Ok Message Ok Message \
                    Pong ServerError ServerError";
    assert_eq!(names.join(" "), expected, "{events:#?}");
    assert_eq!(events.last().map(String::as_str), Some("ServerError(UnknownProtocolOperation)"));
    assert!(events.contains(&"ServerError(InvalidSubject)".to_owned()));
    let info = party.connection.info().expect("an INFO");
    assert_eq!((info.version.as_str(), info.headers, info.connect_info), ("2.15.1", true, true));
}

#[test]
fn with_verbose_an_ok_comes_before_the_pong() {
    let mut party = Party::new();
    party.feed(INFO);
    party.ping();
    assert_eq!(party.feed(b"+OK\r\n+OK\r\nPONG\r\n+OK\r\n"), ["Ok", "Ok", "Ready(PingId(1))", "Ok"]);
}

#[test]
fn an_unasked_pong_is_not_the_end_of_the_handshake() {
    let mut party = Party::new();
    assert_eq!(party.feed(b"PONG\r\n"), ["UnaskedPong"]);
    assert_eq!(party.feed(INFO), ["ServerInfo { first: true }"]);
    assert_eq!(party.feed(b"PONG\r\n"), ["UnaskedPong"]);
    assert_eq!(party.connection.state(), ConnectionState::AwaitingPong);
    party.ping();
    assert_eq!(party.feed(b"PONG\r\nPONG\r\n"), ["Ready(PingId(1))", "UnaskedPong"]);
    assert_eq!(party.connection.pings_outstanding(), 0);
}

#[test]
fn all_of_an_info_in_mid_stream_is_applied() {
    let mut party = Party::ready();
    party.feed(
        b"INFO {\"headers\":true,\"max_payload\":5,\"ldm\":true,\"connect_urls\":[\"a:1\",\"b:2\"]}\r\n",
    );
    let info = party.connection.info().expect("an INFO");
    assert_eq!((info.headers, info.max_payload, info.lame_duck_mode), (true, 5, true));
    assert_eq!(info.connect_urls, ["a:1", "b:2"]);

    party.feed(b"INFO {\"connect_urls\":[\"b:2\"]}\r\n");
    let info = party.connection.info().expect("an INFO");
    assert_eq!((info.headers, info.lame_duck_mode), (false, false));
    assert_eq!(info.connect_urls, ["b:2"]);
}

#[test]
fn a_broken_info_in_mid_stream_leaves_the_old_one() {
    let mut party = Party::ready();
    let before = party.connection.info().cloned();
    let events = party.feed(b"INFO {broken\r\nPING\r\n");
    assert!(events[0].starts_with("InvalidInfo(Json"), "{events:?}");
    assert_eq!(events[1], "Ping");
    assert_eq!(party.connection.info().cloned(), before);
    assert_eq!(party.connection.state(), ConnectionState::Ready);
}

#[test]
fn a_broken_first_info_ends_the_connection() {
    let mut party = Party::new();
    let error = party.connection.handle_input(b"INFO {broken\r\n", party.now).expect_err("no INFO to go by");
    assert!(matches!(error, ConnectionError::FirstInfo(_)), "{error}");
    assert_eq!(party.connection.state(), ConnectionState::Closed);
    assert_eq!(party.connection.handle_input(INFO, party.now), Err(ConnectionError::Closed));
}

#[test]
fn headers_are_asked_for_only_where_they_are_offered() {
    for (info, expected) in [
        (INFO, "\"headers\":true,\"no_responders\":true"),
        (b"INFO {\"headers\":false}\r\n", "\"headers\":false,\"no_responders\":false"),
        (b"INFO {}\r\n", "\"headers\":false,\"no_responders\":false"),
    ] {
        let mut party = Party::new();
        party.feed(info);
        let mut out = Vec::new();
        party.connection.connect(&mut out);
        let out = String::from_utf8(out).expect("text");
        assert!(out.contains(expected), "{out}");
    }
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let canary = "canary-7f3a";
    let secret = || Some(canary.to_owned());
    let connect = ConnectOptions {
        user: secret(),
        pass: secret(),
        auth_token: secret(),
        jwt: secret(),
        nkey: secret(),
        sig: secret(),
        ..ConnectOptions::default()
    };
    let config = ConnectionConfig { connect, ..ConnectionConfig::default() };
    let mut connection = Connection::new(config.clone(), Instant::now());
    connection.connect_options_mut().sig = Some(format!("{canary}-signed"));
    let mut out = Vec::new();
    connection.connect(&mut out);
    let out = String::from_utf8(out).expect("text");
    assert_eq!(out.matches(canary).count(), 6);
    assert!(out.contains("\"sig\":\"canary-7f3a-signed\""));
    for shown in [format!("{config:?}"), format!("{connection:?}"), format!("{config:#?}")] {
        assert!(!shown.contains(canary), "{shown}");
        assert!(shown.contains("auth_token"), "that there is one may be shown: {shown}");
    }
}

#[test]
fn pongs_answer_pings_in_order() {
    let mut party = Party::ready();
    assert_eq!([party.ping(), party.ping(), party.ping()], [PingId(2), PingId(3), PingId(4)]);
    assert_eq!(party.connection.pings_outstanding(), 3);
    assert_eq!(party.feed(b"PONG\r\nPONG\r\n"), ["Pong(PingId(2))", "Pong(PingId(3))"]);
    assert_eq!(party.connection.pings_outstanding(), 1);
    assert_eq!(party.connection.last_pong(), PingId(3));
    assert_eq!(party.feed(b"PONG\r\nPONG\r\n"), ["Pong(PingId(4))", "UnaskedPong"]);
    assert_eq!(party.connection.last_pong(), PingId(4));
}

#[test]
fn each_ping_of_the_server_is_answered_once() {
    let mut party = Party::ready();
    assert_eq!(party.feed(b"PING\r\nMSG a 1 0\r\n\r\nPING\r\n").len(), 3);
    assert_eq!(party.transmitted(), "PONG\r\nPONG\r\n");
    assert_eq!(party.transmitted(), "");
}

#[test]
fn a_flood_of_pings_owes_a_bounded_number_of_pongs() {
    let mut party = Party::ready();
    party.feed(&b"PING\r\n".repeat(PONGS_OWED_MAX as usize + 1000));
    assert_eq!(party.transmitted().len(), PONGS_OWED_MAX as usize * b"PONG\r\n".len());
}

#[test]
fn a_silent_server_is_given_up_after_three_intervals() {
    let mut party = Party::ready();
    let start = party.now;
    for _ in 0..2 {
        assert_eq!(party.connection.poll_timeout(), Some((party.now + 2 * SECOND, TimeoutReason::Keepalive)));
        party.now += 2 * SECOND;
        assert_eq!(party.connection.handle_timeout(party.now), Ok(()));
        assert_eq!(party.transmitted(), "PING\r\n");
    }
    party.now += 2 * SECOND;
    let stale = ConnectionError::StaleConnection { pings_out: 2 };
    assert_eq!(party.connection.handle_timeout(party.now), Err(stale));
    assert_eq!(party.now - start, 6 * SECOND);
    assert_eq!(party.connection.state(), ConnectionState::Closed);
    assert_eq!(party.connection.poll_timeout(), None);
    assert_eq!(party.connection.handle_timeout(party.now + SECOND), Ok(()));
    assert_eq!(party.connection.handle_input(b"PONG\r\n", party.now), Err(ConnectionError::Closed));
}

#[test]
fn a_server_that_answers_is_kept() {
    let mut party = Party::ready();
    for round in 2..100 {
        party.pass_to_timeout().expect("alive");
        assert_eq!(party.transmitted(), "PING\r\n");
        // Every other answer is late by an interval.
        if round % 2 == 0 {
            party.pass_to_timeout().expect("alive");
            assert_eq!(party.transmitted(), "PING\r\n");
            party.feed(b"PONG\r\nPONG\r\n");
        } else {
            party.feed(b"PONG\r\n");
        }
        assert_eq!(party.connection.pings_outstanding(), 0);
    }
}

#[test]
fn a_late_pong_is_a_sign_of_life() {
    let mut party = Party::ready();
    for _ in 0..2 {
        party.pass_to_timeout().expect("alive");
        party.transmitted();
    }
    // The older of two PINGs is answered, and nothing after that.
    assert_eq!(party.feed(b"PONG\r\n"), ["Pong(PingId(2))"]);
    for _ in 0..2 {
        party.pass_to_timeout().expect("alive");
        party.transmitted();
    }
    assert_eq!(party.pass_to_timeout(), Err(ConnectionError::StaleConnection { pings_out: 3 }));
}

#[test]
fn a_caller_s_ping_puts_the_keepalive_off_but_not_the_end() {
    let mut party = Party::ready();
    party.now += SECOND + SECOND / 2;
    party.ping();
    // It counts as the first of the two, so that silence lasts two intervals more.
    let sent = party.now;
    assert_eq!(party.connection.poll_timeout(), Some((sent + 2 * SECOND, TimeoutReason::Keepalive)));
    party.now += SECOND;
    party.ping();
    assert_eq!(party.connection.poll_timeout(), Some((sent + 2 * SECOND, TimeoutReason::Keepalive)));
    party.pass_to_timeout().expect("one PING unanswered");
    assert_eq!(party.transmitted(), "PING\r\n");
    let stale = ConnectionError::StaleConnection { pings_out: 3 };
    assert_eq!(party.pass_to_timeout(), Err(stale));
    assert_eq!(party.now - sent, 4 * SECOND);
}

#[test]
fn a_server_that_talks_is_not_stale_at_once_but_in_the_end() {
    let mut party = Party::ready();
    let mut rounds = 0;
    let error = loop {
        party.feed(b"MSG a 1 0\r\n\r\n");
        match party.pass_to_timeout() {
            Ok(()) => rounds += 1,
            Err(error) => break error,
        }
        party.transmitted();
    };
    assert_eq!((rounds, error), (20, ConnectionError::StaleConnection { pings_out: 20 }));
}

#[test]
fn a_standstill_of_ours_counts_as_one_interval() {
    let mut party = Party::ready();
    party.now += 3600 * SECOND;
    assert_eq!(party.connection.handle_timeout(party.now), Ok(()));
    assert_eq!(party.connection.poll_timeout(), Some((party.now + 2 * SECOND, TimeoutReason::Keepalive)));
    assert_eq!(party.transmitted(), "PING\r\n");
}

#[test]
fn an_early_timeout_does_nothing() {
    let mut party = Party::ready();
    let (due, _) = party.connection.poll_timeout().expect("a keepalive");
    assert_eq!(party.connection.handle_timeout(due - Duration::from_nanos(1)), Ok(()));
    assert_eq!(party.transmitted(), "");
    assert_eq!(party.connection.handle_timeout(due), Ok(()));
    assert_eq!(party.transmitted(), "PING\r\n");
}

#[test]
fn a_handshake_that_takes_too_long_says_what_was_awaited() {
    let mut party = Party::new();
    assert_eq!(party.connection.poll_timeout(), Some((party.now + 2 * SECOND, TimeoutReason::Handshake)));
    let state = ConnectionState::AwaitingInfo;
    assert_eq!(party.pass_to_timeout(), Err(ConnectionError::HandshakeTimeout { state }));

    let mut party = Party::new();
    let due = party.connection.poll_timeout();
    party.now += SECOND;
    party.feed(INFO);
    party.ping();
    assert_eq!(party.connection.poll_timeout(), due, "one deadline for all of the handshake");
    let state = ConnectionState::AwaitingPong;
    assert_eq!(party.pass_to_timeout(), Err(ConnectionError::HandshakeTimeout { state }));
    assert_eq!(party.connection.state(), ConnectionState::Closed);
}

#[test]
fn a_fatal_error_closes_and_another_does_not() {
    for (text, fatal, authentication) in [
        ("Stale Connection", true, false),
        ("Authorization Violation", true, true),
        ("User Authentication Expired", true, true),
        ("maximum connections exceeded", true, false),
        ("Permissions Violation for Publish to \"a.b\"", false, false),
        ("Invalid Subject", false, false),
        ("maximum subscriptions exceeded", false, false),
        ("Something New", false, false),
    ] {
        let mut party = Party::ready();
        let wire = format!("-ERR '{text}'\r\n");
        let progress = party.connection.handle_input(wire.as_bytes(), party.now).expect("an event");
        let Progress::Event { event: Event::ServerError(error), consumed } = progress else {
            panic!("{progress:?}")
        };
        assert_eq!(consumed, wire.len());
        assert_eq!((error.is_fatal(), error.is_authentication()), (fatal, authentication), "{text}");
        let closed = party.connection.state() == ConnectionState::Closed;
        assert_eq!(closed, fatal, "{text}");
        let next = party.connection.handle_input(b"PING\r\n", party.now);
        assert_eq!(next == Err(ConnectionError::Closed), fatal, "{text}");
    }
}

#[test]
fn a_refusal_in_the_handshake_is_an_event() {
    let mut party = Party::new();
    party.feed(INFO);
    party.ping();
    let progress = party.connection.handle_input(b"-ERR 'Authorization Violation'\r\n", party.now);
    let expected = Event::ServerError(ServerError::AuthorizationViolation);
    assert_eq!(progress, Ok(Progress::Event { event: expected, consumed: 32 }));
    assert_eq!(party.connection.state(), ConnectionState::Closed);
}

#[test]
fn broken_bytes_close() {
    let mut party = Party::ready();
    let error = ConnectionError::Decode(DecodeError::UnknownOperation { offset: 0, byte: b'F' });
    assert_eq!(party.connection.handle_input(b"FOO\r\n", party.now), Err(error));
    assert_eq!(party.connection.state(), ConnectionState::Closed);
    assert_eq!(party.connection.handle_input(b"PING\r\n", party.now), Err(ConnectionError::Closed));
}

#[test]
fn a_half_message_says_what_it_needs() {
    let mut party = Party::ready();
    let progress = party.connection.handle_input(b"MSG a 1 5\r\nhe", party.now);
    assert_eq!(progress, Ok(Progress::Incomplete { needed: 18 }));
}

#[test]
fn a_whole_message_is_handed_out_at_once_and_all_else_is_not() {
    let mut party = Party::ready();
    let wire = b"MSG a 7 r 2\r\nhi\r\nPING\r\n";
    let (message, consumed) = party.connection.handle_message(wire).expect("a message");
    assert_eq!((message.subject, message.sid.raw(), message.reply), (&b"a"[..], 7, Some(&b"r"[..])));
    assert_eq!((message.headers, message.payload, consumed), (None, &b"hi"[..], wire.len() - 6));
    for other in [
        &b"PING\r\n"[..],
        b"msg a 7 2\r\nhi\r\n",
        b"MSG a 7 2\r\nhi\r",
        b"MSG a 7 2\r\nhiXX",
        b"FOO\r\n",
        b"",
    ] {
        assert_eq!(party.connection.handle_message(other), None);
    }

    // In the middle of a message the front of the input is what is known already.
    assert_eq!(
        party.connection.handle_input(&wire[..15], party.now),
        Ok(Progress::Incomplete { needed: wire.len() - 6 })
    );
    assert_eq!(party.connection.handle_message(wire), None);
    assert_eq!(party.feed(wire).len(), 2);

    party.feed(b"-ERR 'Stale Connection'\r\n");
    assert_eq!(party.connection.handle_message(wire), None, "nothing comes after the end");
}

#[test]
fn a_message_handed_out_is_a_sign_of_life() {
    let mut party = Party::ready();
    for _ in 0..10 {
        party.pass_to_timeout().expect("it talks");
        party.transmitted();
        assert!(party.connection.handle_message(b"MSG a 7 0\r\n\r\n").is_some());
    }
}

/// A connection and its time.
struct Party {
    connection: Connection,
    now: Instant,
}

impl Party {
    fn new() -> Self {
        let now = Instant::now();
        Self { connection: Connection::new(ConnectionConfig::default(), now), now }
    }

    fn ready() -> Self {
        let mut party = Self::new();
        party.feed(INFO);
        party.ping();
        assert_eq!(party.feed(b"PONG\r\n"), ["Ready(PingId(1))"]);
        party
    }

    /// Feeds whole operations; returns their events.
    fn feed(&mut self, input: &[u8]) -> Vec<String> {
        let (mut events, mut at) = (Vec::new(), 0);
        while at < input.len() {
            match self.connection.handle_input(&input[at..], self.now).expect("good bytes") {
                Progress::Event { event, consumed } => {
                    events.push(format!("{event:?}"));
                    at += consumed;
                }
                Progress::Incomplete { needed } => panic!("{needed} bytes needed"),
            }
        }
        events
    }

    fn ping(&mut self) -> PingId {
        self.connection.ping(&mut Vec::new(), self.now)
    }

    fn transmitted(&mut self) -> String {
        let mut out = Vec::new();
        self.connection.poll_transmit(&mut out, self.now);
        String::from_utf8(out).expect("text")
    }

    fn pass_to_timeout(&mut self) -> Result<(), ConnectionError> {
        let (due, _) = self.connection.poll_timeout().expect("a timeout");
        self.now = due;
        self.connection.handle_timeout(due)
    }
}
