//! Two ends in memory: what goes through unchanged, and what does not go through at all.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::secret::Secret;

fn ring(secrets: &[&str]) -> KeyRing {
    KeyRing::new(&secrets.iter().map(Secret::new).collect::<Vec<_>>())
}

fn dialler(secrets: &[&str]) -> Channel {
    Channel::new(&ring(secrets), Side::Dialler)
}

fn acceptor(secrets: &[&str]) -> Channel {
    Channel::new(&ring(secrets), Side::Acceptor)
}

/// What is due of the handshake.
fn due(channel: &mut Channel) -> Vec<u8> {
    let mut out = Vec::new();
    channel.handshake_output(&mut out);
    out
}

fn sealed(channel: &mut Channel, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    channel.seal(plain, &mut out).unwrap();
    out
}

/// Everything that `incoming` opens to, all of which must be taken.
fn opened(channel: &mut Channel, incoming: &[u8]) -> Result<Vec<u8>, ChannelError> {
    let mut plain = Vec::new();
    let taken = channel.open(incoming, &mut plain, usize::MAX)?;
    assert_eq!(taken, incoming.len());
    Ok(plain)
}

/// Two ends after their handshake.
fn pair(dialler_secrets: &[&str], acceptor_secrets: &[&str]) -> (Channel, Channel) {
    let (mut dialler, mut acceptor) = (dialler(dialler_secrets), acceptor(acceptor_secrets));
    assert_eq!(opened(&mut acceptor, &due(&mut dialler)), Ok(vec![]));
    assert_eq!(opened(&mut dialler, &due(&mut acceptor)), Ok(vec![]));
    assert!(dialler.is_ready() && acceptor.is_ready());
    (dialler, acceptor)
}

/// The channel has ended for good: it gives the same error, and nothing else, whatever comes.
#[track_caller]
fn assert_ended(channel: &mut Channel, error: ChannelError) {
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    assert_eq!(channel.open(b"anything", &mut plain, 100), Err(error));
    assert_eq!(channel.open(&[], &mut plain, 100), Err(error));
    assert_eq!(channel.seal(b"anything", &mut out), Err(error));
    channel.handshake_output(&mut out);
    assert!(plain.is_empty() && out.is_empty() && !channel.is_ready());
}

#[test]
fn both_directions_carry_what_was_sent() {
    for secrets in [&["s"][..], &[]] {
        let (mut dialler, mut acceptor) = pair(secrets, secrets);
        for plain in [&b"hello"[..], b"", &[7; RECORD_PLAIN_BYTES_MAX], &[8; 3 * RECORD_PLAIN_BYTES_MAX + 1]]
        {
            let wire = sealed(&mut dialler, plain);
            assert_eq!(opened(&mut acceptor, &wire).as_deref(), Ok(plain));
            let wire = sealed(&mut acceptor, plain);
            assert_eq!(opened(&mut dialler, &wire).as_deref(), Ok(plain));
        }
    }
}

/// An independent reading of the wire: the pattern, the prologue, the key and the lengths are fixed.
#[test]
fn the_wire_is_noise_behind_lengths() {
    use sha2::{Digest, Sha256};

    let key: [u8; 32] = Sha256::digest(b"croupier registry link key 1\0s").into();
    let params = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
    let builder = Builder::new(params).psk(0, &key).unwrap().prologue(b"croupier registry 1").unwrap();
    let mut peer = builder.build_responder().unwrap();
    let mut dialler = dialler(&["s"]);
    let first = due(&mut dialler);
    assert_eq!((first.len(), &first[..2]), (50, &[0, 48][..]));
    peer.read_message(&first[2..], &mut []).unwrap();
    let mut answer = vec![0, 48];
    answer.resize(50, 0);
    peer.write_message(&[], &mut answer[2..]).unwrap();
    assert_eq!(opened(&mut dialler, &answer), Ok(vec![]));
    let mut peer = peer.into_transport_mode().unwrap();

    let wire = sealed(&mut dialler, b"hello");
    assert_eq!(wire[..2], [0, 21]);
    let mut plain = [0; 5];
    peer.read_message(&wire[2..], &mut plain).unwrap();
    assert_eq!(&plain, b"hello");
}

#[test]
fn nothing_is_sealed_before_the_handshake_is_over() {
    let (mut dialler, mut acceptor) = (dialler(&["s"]), acceptor(&["s"]));
    let mut out = Vec::new();
    for channel in [&mut dialler, &mut acceptor] {
        assert!(!channel.is_ready());
        assert_eq!(channel.seal(b"early", &mut out), Err(ChannelError::NotReady));
        assert!(out.is_empty());
    }
    // The attempt has done no harm, and an answer that is still due goes first.
    assert_eq!(opened(&mut acceptor, &due(&mut dialler)), Ok(vec![]));
    assert!(due(&mut dialler).is_empty());
    let wire = sealed(&mut acceptor, b"hello");
    assert_eq!(opened(&mut dialler, &wire), Ok(b"hello".to_vec()));
    assert!(due(&mut acceptor).is_empty());
}

#[test]
fn the_caller_need_not_hold_more_than_is_asked() {
    let (mut dialler, acceptor) = (dialler(&["s"]), acceptor(&["s"]));
    assert_eq!(acceptor.incoming_bytes_max(), due(&mut dialler).len());
    let (mut dialler, _) = pair(&["s"], &["s"]);
    let wire = sealed(&mut dialler, &[0; RECORD_PLAIN_BYTES_MAX]);
    assert_eq!(dialler.incoming_bytes_max(), wire.len());
}

#[test]
fn opening_stops_at_the_callers_bound() {
    let (mut dialler, mut acceptor) = pair(&["s"], &["s"]);
    let wire = [sealed(&mut dialler, &[1; 60]), sealed(&mut dialler, &[2; 60])].concat();
    let mut plain = Vec::new();
    assert_eq!(acceptor.open(&wire, &mut plain, 60), Ok(78));
    assert_eq!(acceptor.open(&wire[78..], &mut plain, 60), Ok(0));
    assert_eq!(plain, [1; 60]);
    // A frame of 61 bytes ends in the second record.
    assert_eq!(acceptor.open(&wire[78..], &mut plain, 61), Ok(78));
    assert_eq!(plain, [[1; 60], [2; 60]].concat());

    let (mut dialler, mut acceptor) = pair(&[], &[]);
    let mut plain = Vec::new();
    assert_eq!(acceptor.open(&sealed(&mut dialler, &[1; 100]), &mut plain, 60), Ok(60));
    assert_eq!(acceptor.open(&[1; 40], &mut plain, 60), Ok(0));
    assert_eq!(acceptor.open(&[1; 40], &mut plain, 10), Ok(0));
    assert_eq!(plain, [1; 60]);
}

#[test]
fn a_wrong_key_is_refused_and_not_answered() {
    let (mut dialler, mut acceptor) = (dialler(&["right"]), acceptor(&["wrong", "old"]));
    assert_eq!(opened(&mut acceptor, &due(&mut dialler)), Err(ChannelError::WrongKey));
    assert_ended(&mut acceptor, ChannelError::WrongKey);
}

#[test]
fn the_first_key_sends_and_all_are_accepted() {
    // Each step of a change: the new one known, then used, then the old one gone.
    let steps = [&["old"][..], &["old", "new"], &["new", "old"], &["new"]];
    for (ours, theirs) in steps.iter().zip(&steps[1..]) {
        pair(ours, theirs);
        pair(theirs, ours);
    }
    let mut gone = acceptor(&["new"]);
    assert_eq!(opened(&mut gone, &due(&mut dialler(&["old", "new"]))), Err(ChannelError::WrongKey));
    let many: Vec<String> = (0..16).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    pair(&["15"], &many);
}

#[test]
fn a_node_without_a_key_and_one_with_a_key_part_at_once() {
    // The node without speaks first with a frame, whose magic is no length of a handshake.
    let mut keyed = acceptor(&["s"]);
    let error = ChannelError::HandshakeLength { bytes: 0x4352 };
    assert_eq!(opened(&mut keyed, b"CR\x01\x01 and the rest of a Hello"), Err(error));
    assert_ended(&mut keyed, error);
    let mut keyed = dialler(&["s"]);
    due(&mut keyed);
    assert_eq!(opened(&mut keyed, b"CR"), Err(error));

    // The node with a key speaks first with a handshake, which is no frame.
    for mut plain in [acceptor(&[]), dialler(&[])] {
        let first = due(&mut dialler(&["s"]));
        assert_eq!(opened(&mut plain, &first[..1]), Err(ChannelError::PeerEncrypts));
        assert_ended(&mut plain, ChannelError::PeerEncrypts);
    }
    // Only the first byte of all tells.
    let (mut dialler, mut acceptor) = pair(&[], &[]);
    assert_eq!(opened(&mut acceptor, &sealed(&mut dialler, b"C")), Ok(b"C".to_vec()));
    assert_eq!(opened(&mut acceptor, &sealed(&mut dialler, &[0])), Ok(vec![0]));
}

#[test]
fn two_ends_of_one_side_never_agree() {
    let (mut left, mut right) = (dialler(&["s"]), dialler(&["s"]));
    let (from_left, from_right) = (due(&mut left), due(&mut right));
    assert_eq!(opened(&mut left, &from_right), Err(ChannelError::Handshake));
    assert_eq!(opened(&mut right, &from_left), Err(ChannelError::Handshake));
    // A dialler's own words come back.
    let mut alone = dialler(&["s"]);
    let echo = due(&mut alone);
    assert_eq!(opened(&mut alone, &echo), Err(ChannelError::Handshake));
    assert!(due(&mut acceptor(&["s"])).is_empty());
}

#[test]
fn a_recording_cannot_be_played_again() {
    let (mut dialling, mut accepting) = (dialler(&["s"]), acceptor(&["s"]));
    let mut to_acceptor = due(&mut dialling);
    opened(&mut accepting, &to_acceptor).unwrap();
    let to_dialler = due(&mut accepting);
    opened(&mut dialling, &to_dialler).unwrap();
    let first = sealed(&mut dialling, b"hello");
    to_acceptor.extend_from_slice(&first);
    assert_eq!(opened(&mut accepting, &first), Ok(b"hello".to_vec()));

    // To another acceptor: it answers the first message, but no record fits the answer's key.
    let mut other = acceptor(&["s"]);
    let mut plain = Vec::new();
    let replayed = other.open(&to_acceptor, &mut plain, 1000);
    assert_eq!((replayed, plain.len()), (Err(ChannelError::Decrypt { record: 0 }), 0));
    assert_ended(&mut other, ChannelError::Decrypt { record: 0 });
    // To another dialler: the recorded answer is not one to its own message.
    let mut other = dialler(&["s"]);
    assert_eq!(opened(&mut other, &to_dialler), Err(ChannelError::Handshake));
    // To the same acceptor, on the same link.
    let error = accepting.open(&to_acceptor, &mut plain, 1000).unwrap_err();
    assert_eq!(error, ChannelError::Decrypt { record: 1 });
    assert!(plain.is_empty());
}

#[test]
fn records_come_each_once_and_in_order() {
    let records = |dialler: &mut Channel| ["a", "b", "c"].map(|plain| sealed(dialler, plain.as_bytes()));
    // Which of three records arrive, what is opened of them, and which one ends the link.
    for (order, plain, ends) in [
        (&[0, 1, 2][..], "abc", None),
        (&[0, 0], "a", Some(1)),
        (&[0, 1, 0], "ab", Some(2)),
        (&[1], "", Some(0)),
        (&[0, 2], "a", Some(1)),
        (&[2, 1, 0], "", Some(0)),
    ] {
        let (mut dialler, mut acceptor) = pair(&["s"], &["s"]);
        let records = records(&mut dialler);
        let wire: Vec<u8> = order.iter().flat_map(|index: &usize| records[*index].clone()).collect();
        let mut found = Vec::new();
        let outcome = acceptor.open(&wire, &mut found, 1000).err();
        assert_eq!((found, outcome), (plain.into(), ends.map(|record| ChannelError::Decrypt { record })));
    }
    // A record of one direction is none of the other.
    let (mut dialler, _) = pair(&["s"], &["s"]);
    let wire = sealed(&mut dialler, b"a");
    assert_eq!(opened(&mut dialler, &wire), Err(ChannelError::Decrypt { record: 0 }));
    // Nor one of another link of the same two nodes.
    let ((mut one, _), (_, mut other)) = (pair(&["s"], &["s"]), pair(&["s"], &["s"]));
    assert_eq!(opened(&mut other, &sealed(&mut one, b"a")), Err(ChannelError::Decrypt { record: 0 }));
}

#[test]
fn the_numbers_of_records_end_the_link_before_they_repeat() {
    let (mut dialler, mut acceptor) = pair(&["s"], &["s"]);
    let State::Ready(transport) = &mut acceptor.state else { panic!() };
    transport.set_receiving_nonce(u64::MAX);
    assert_eq!(opened(&mut acceptor, &sealed(&mut dialler, b"a")), Err(ChannelError::Exhausted));
    assert_ended(&mut acceptor, ChannelError::Exhausted);
}

#[test]
fn a_length_is_judged_before_anything_else_arrives() {
    for bytes in [0, 1, 47, 49, 257, 65_535_u16] {
        for mut channel in [dialler(&["s"]), acceptor(&["s"])] {
            let error = ChannelError::HandshakeLength { bytes: bytes.into() };
            assert_eq!(opened(&mut channel, &bytes.to_be_bytes()), Err(error));
        }
    }
    for bytes in 0..17_u16 {
        let (_, mut acceptor) = pair(&["s"], &["s"]);
        let error = ChannelError::RecordLength { bytes: bytes.into(), least: 17 };
        assert_eq!(opened(&mut acceptor, &bytes.to_be_bytes()), Err(error));
    }
    // The longest record is waited for, and costs nothing until it has come.
    let (_, mut acceptor) = pair(&["s"], &["s"]);
    let mut plain = Vec::new();
    let wire = [&[0xff; 2][..], &[0; 65_534]].concat();
    for end in [0, 1, 2, 100, wire.len()] {
        assert_eq!(acceptor.open(&wire[..end], &mut plain, RECORD_PLAIN_BYTES_MAX), Ok(0));
    }
    assert_eq!(plain.capacity(), 0);
}

/// The words of a link, changed by `damage` in message 1, message 2 or the records: what the acceptor
/// opens, and how it and the dialler fare.
fn damaged(part: usize, damage: impl Fn(&mut Vec<u8>)) -> (Vec<u8>, Option<ChannelError>) {
    let (mut dialler, mut acceptor) = (dialler(&["s"]), acceptor(&["s"]));
    let mut plain = Vec::new();
    let mut wire = due(&mut dialler);
    for number in 0..3 {
        if number == part {
            damage(&mut wire);
        }
        let receiver = if number == 1 { &mut dialler } else { &mut acceptor };
        if let Err(error) = receiver.open(&wire, &mut plain, 1000) {
            return (plain, Some(error));
        }
        wire = match number {
            0 => due(&mut acceptor),
            _ if !dialler.is_ready() => vec![],
            _ => [sealed(&mut dialler, b"first"), sealed(&mut dialler, b"second")].concat(),
        };
    }
    (plain, None)
}

#[test]
fn no_changed_bit_goes_through() {
    assert_eq!(damaged(9, |_| {}), (b"firstsecond".to_vec(), None));
    let lengths = [50, 50, 2 + 16 + 5 + 2 + 16 + 6];
    for (part, bytes) in lengths.into_iter().enumerate() {
        for bit in 0..8 * bytes {
            let (plain, error) = damaged(part, |wire| {
                assert_eq!(wire.len(), bytes);
                wire[bit / 8] ^= 1 << (bit % 8);
            });
            let untouched: &[u8] = if part == 2 && bit / 8 >= 23 { b"first" } else { b"" };
            assert_eq!(plain, untouched, "part {part} bit {bit}");
            // A longer record is waited for; all else ends the link.
            let is_longer = part == 2 && matches!(bit / 8, 0 | 1 | 23 | 24);
            assert!(error.is_some() || is_longer, "part {part} bit {bit}");
        }
    }
}

#[test]
fn what_is_cut_off_is_never_opened() {
    for (part, bytes) in [(0, 50), (1, 50), (2, 47)] {
        for kept in 0..bytes {
            let (plain, error) = damaged(part, |wire| wire.truncate(kept));
            let untouched: &[u8] = if part == 2 && kept >= 23 { b"first" } else { b"" };
            assert_eq!((&plain[..], error), (untouched, None), "part {part}, {kept} bytes");
        }
    }
}

/// The other end of a wire that gives its bytes in pieces of the given sizes, again and again.
struct Pieces<'a> {
    sizes: &'a [usize],
    next: usize,
    held: Vec<u8>,
}

impl<'a> Pieces<'a> {
    fn new(sizes: &'a [usize]) -> Self {
        Self { sizes, next: 0, held: Vec::new() }
    }

    /// Hands `wire` to the channel bit by bit, and keeps what it does not take.
    fn deliver(&mut self, channel: &mut Channel, mut wire: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let mut plain = Vec::new();
        while !wire.is_empty() {
            let (piece, rest) = wire.split_at(self.sizes[self.next % self.sizes.len()].min(wire.len()));
            self.next += 1;
            wire = rest;
            self.held.extend_from_slice(piece);
            let taken = channel.open(&self.held, &mut plain, usize::MAX)?;
            self.held.drain(..taken);
            assert!(self.held.len() <= channel.incoming_bytes_max());
        }
        Ok(plain)
    }
}

#[test]
fn two_pieces_are_as_good_as_one() {
    for secrets in [&["s"][..], &[]] {
        for at in 1..160 {
            let (mut dialler, mut acceptor) = (dialler(secrets), acceptor(secrets));
            let sizes = [at, usize::MAX];
            let (mut there, mut back) = (Pieces::new(&sizes), Pieces::new(&sizes));
            there.deliver(&mut acceptor, &due(&mut dialler)).unwrap();
            // The answer and the first records come in one stream.
            let wire = [sealed(&mut acceptor, b"hello"), sealed(&mut acceptor, &[1; 60])].concat();
            let expected = [&b"hello"[..], &[1; 60]].concat();
            assert_eq!(back.deliver(&mut dialler, &wire), Ok(expected.clone()), "{at}");
            let wire = [sealed(&mut dialler, b"hello"), sealed(&mut dialler, &[1; 60])].concat();
            assert_eq!(there.deliver(&mut acceptor, &wire), Ok(expected), "{at}");
        }
    }
}

proptest! {
    #[test]
    fn any_pieces_carry_any_messages(
        messages in vec((any::<bool>(), vec(1_u8.., 0..300)), 0..12),
        big in 0..200_000_usize,
        sizes in vec(1..400_usize, 1..8),
        is_keyed in any::<bool>(),
    ) {
        let secrets: &[&str] = if is_keyed { &["s"] } else { &[] };
        let (mut dialler, mut acceptor) = (dialler(secrets), acceptor(secrets));
        let (mut there, mut back) = (Pieces::new(&sizes), Pieces::new(&sizes));
        prop_assert_eq!(there.deliver(&mut acceptor, &due(&mut dialler)), Ok(vec![]));
        prop_assert_eq!(back.deliver(&mut dialler, &due(&mut acceptor)), Ok(vec![]));
        for (is_back, plain) in messages.into_iter().chain([(false, vec![3; big])]) {
            let (sender, receiver, pieces) = if is_back {
                (&mut acceptor, &mut dialler, &mut back)
            } else {
                (&mut dialler, &mut acceptor, &mut there)
            };
            let wire = sealed(sender, &plain);
            prop_assert_eq!(pieces.deliver(receiver, &wire), Ok(plain));
        }
        prop_assert!(there.held.is_empty() && back.held.is_empty());
    }

    #[test]
    fn garbage_opens_to_nothing_and_panics_nowhere(
        garbage in vec(any::<u8>(), 0..400),
        length in prop_oneof![Just(48_u16), 0..400_u16, any::<u16>()],
        has_length in any::<bool>(),
        bound in prop_oneof![0..500_usize, Just(usize::MAX)],
    ) {
        let wire = if has_length { [&length.to_be_bytes()[..], &garbage].concat() } else { garbage };
        let (ready_dialler, ready_acceptor) = pair(&["s"], &["s"]);
        for mut channel in [dialler(&["s"]), acceptor(&["s", "t"]), ready_dialler, ready_acceptor] {
            let mut plain = vec![9];
            match channel.open(&wire, &mut plain, bound) {
                // An incomplete message is all that can be waited for.
                Ok(taken) => prop_assert_eq!(taken, 0),
                Err(error) => assert_ended(&mut channel, error),
            }
            prop_assert_eq!(plain, vec![9]);
        }
        let mut plain = vec![];
        match dialler(&[]).open(&wire, &mut plain, bound) {
            Ok(taken) => prop_assert_eq!(&plain[..], &wire[..taken]),
            Err(error) => prop_assert_eq!(error, ChannelError::PeerEncrypts),
        }
    }
}

/// Shows what the channel costs; the figures are printed, and what comes out is checked.
#[test]
#[ignore = "a measurement: cargo test --release -p croupier --lib -- --ignored --nocapture channel"]
fn figures() {
    use std::time::Instant;

    // A batch of records is sealed, and then opened, so that reading the clock does not count.
    for (plain_bytes, records) in [(200_usize, 1000_usize), (256 << 10, 16)] {
        let (mut dialler, mut acceptor) = pair(&["s"], &["s"]);
        let message = vec![7; plain_bytes];
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        let (mut sealing, mut opening) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            wire.clear();
            plain.clear();
            let start = Instant::now();
            for _ in 0..records {
                dialler.seal(&message, &mut wire).unwrap();
            }
            sealing.push(start.elapsed().as_nanos() as f64 / records as f64);
            let start = Instant::now();
            acceptor.open(&wire, &mut plain, usize::MAX).unwrap();
            opening.push(start.elapsed().as_nanos() as f64 / records as f64);
            assert_eq!(plain, message.repeat(records));
        }
        for (what, mut each) in [("seal", sealing), ("open", opening)] {
            each.sort_by(f64::total_cmp);
            let (least, median) = (each[0], each[each.len() / 2]);
            let rate = plain_bytes as f64 / median;
            println!("{what} {plain_bytes} B: median {median:.0} ns, {rate:.2} GB/s; least {least:.0} ns");
        }
    }
    let rounds = 2000;
    let start = Instant::now();
    for _ in 0..rounds {
        pair(&["s"], &["s"]);
    }
    println!("handshake, both ends: {} us", start.elapsed().as_micros() / rounds);
    let many: Vec<String> = (0..16).map(|number| number.to_string()).collect();
    let keys = ring(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let first = due(&mut dialler(&["none of them"]));
    let start = Instant::now();
    for _ in 0..rounds {
        assert_eq!(opened(&mut Channel::new(&keys, Side::Acceptor), &first), Err(ChannelError::WrongKey));
    }
    println!("refusal by 16 keys: {} us", start.elapsed().as_micros() / rounds);
}
