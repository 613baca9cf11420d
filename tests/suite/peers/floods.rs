//! Crowds at the door: thousands of half-open connections and huge announcements against one process.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use croupier::{NodeStanding, testing::LocalCluster};
use croupier_registry::wire::v1::Frame;

use super::{
    child::{ChildNode, listed},
    peer::{Peer, registry},
    raw_peer::{RawPeer, hello},
};
use crate::support::{permit, wait_for};

const KIND: &str = "dealer";
const HALF_OPEN: usize = 10_000;
/// Connections that the flooder holds at a time: the files of this process are others' too.
const HELD: usize = 4000;
/// How much more memory the attacked process may take. What an attack should cost is far less.
const MEMORY_BYTES: u64 = 8 << 20;

/// What an attacked process has before an attack.
struct Before {
    resident_bytes: u64,
    open_files: usize,
    fingerprint: String,
}

impl Before {
    fn of(victim: &mut ChildNode) -> Before {
        Before {
            resident_bytes: victim.resident_bytes(),
            open_files: victim.open_files(),
            fingerprint: victim.ask(&format!("fingerprint {KIND}")),
        }
    }

    fn grown_bytes(&self, victim: &ChildNode) -> u64 {
        victim.resident_bytes().saturating_sub(self.resident_bytes)
    }

    /// Asserts that the process is as it was, as soon as it has closed what was opened.
    fn is_restored(&self, victim: &mut ChildNode) {
        wait_for("the files to be closed", || (victim.open_files() <= self.open_files + 2).then_some(()));
        let grown = self.grown_bytes(victim);
        assert!(grown < MEMORY_BYTES, "{grown} bytes more than before");
        assert_eq!(victim.ask(&format!("fingerprint {KIND}")), self.fingerprint);
    }
}

/// Two nodes: one in a process of its own, to be attacked, and one here.
fn victim_and_friend(servers: &LocalCluster) -> (ChildNode, Peer) {
    let mut victim = ChildNode::start(servers, "victim", 1, None);
    let friend = Peer::start(servers.builder(), "friend", 1, registry().seed(victim.address()));
    victim.offer(KIND, 10);
    friend.offer(KIND, 0..10);
    victim.until_shown(KIND, "friend", 10);
    friend.until_shown(KIND, "victim", 10);
    (victim, friend)
}

/// Opens connections that say nothing, or too little, until it is told to stop.
fn flood(address: SocketAddr, stop: &AtomicBool) -> usize {
    let mut held = VecDeque::new();
    let mut opened = 0;
    while !stop.load(Ordering::Acquire) {
        match TcpStream::connect(address) {
            Ok(mut stream) => {
                opened += 1;
                if opened % 2 == 0 {
                    // The beginning of a frame. The node may have closed the connection already.
                    let _refused = stream.write_all(&[0x43, 0x52, 1, 1, 0]);
                }
                held.push_back(stream);
            }
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused | ErrorKind::TimedOut
                ),
                "{error}"
            ),
        }
        if held.len() >= HELD {
            held.pop_front();
        }
    }
    opened
}

#[test]
fn ten_thousand_half_open_connections_keep_nobody_out() {
    let _permit = permit(3);
    let servers = LocalCluster::start(1).unwrap();
    let (mut victim, friend) = victim_and_friend(&servers);
    let before = Before::of(&mut victim);
    let closed = friend.stats().links_closed;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let address = victim.address();
    let flooder = thread::spawn(move || flood(address, &stopped));
    let mut files_most = 0;
    wait_for("the crowd", || {
        files_most = files_most.max(victim.open_files());
        (victim.stat("refused_half_open") > 100).then_some(())
    });
    let joins = Peer::start(servers.builder(), "joins", 1, registry().seed(victim.address()));
    joins.offer(KIND, 0..10);
    victim.until_shown(KIND, "joins", 10);
    joins.until_shown(KIND, "victim", 10);
    joins.until_shown(KIND, "friend", 10);
    friend.until_shown(KIND, "joins", 10);
    let crowd = (victim.stat("connections_accepted"), before.grown_bytes(&victim), victim.open_files());
    // The attacked side counts: a connection may have ended for who opens it before it is accepted.
    wait_for("all of the crowd to be evicted", || {
        files_most = files_most.max(victim.open_files());
        (victim.stat("refused_half_open") >= HALF_OPEN as u64).then_some(())
    });
    stop.store(true, Ordering::Release);
    let opened = flooder.join().unwrap();
    println!("joined among {} connections; {} bytes more, {} files open", crowd.0, crowd.1, crowd.2);
    println!("{} files open before, {files_most} at most", before.open_files);
    println!("{opened} opened, {} accepted", victim.stat("connections_accepted"));
    assert_eq!(friend.stats().links_closed, closed, "who was there stays");
    let fingerprint = listed(&[friend.fingerprint(KIND)]);
    assert_eq!(victim.ask(&format!("fingerprint {KIND}")), fingerprint);
    joins.end();
    victim.until_shown(KIND, "joins", 0);
    before.is_restored(&mut victim);
    victim.leave();
    friend.end();
}

#[test]
fn memory_follows_what_is_sent_and_not_what_is_announced() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let (mut victim, friend) = victim_and_friend(&servers);
    let before = Before::of(&mut victim);
    // Half a Hello each, as long as a Hello may be.
    let half: Vec<RawPeer> = (0..60)
        .map(|_| {
            let mut stranger = RawPeer::connect(victim.address());
            let bytes = stranger.frame_bytes(&Frame::Hello(hello("half")));
            stranger.send_bytes(&bytes[..bytes.len() - 1]);
            stranger
        })
        .collect();
    let grown = before.grown_bytes(&victim);
    println!("60 halves of Hellos: {grown} bytes more");
    assert!(grown < MEMORY_BYTES, "{grown} bytes for 60 halves of Hellos");
    drop(half);
    // Open links that announce a frame of a megabyte, and send a byte of it.
    let mut links: Vec<RawPeer> =
        (0..50).map(|number| RawPeer::open(victim.address(), hello(&format!("large{number}")))).collect();
    let opened_bytes = before.grown_bytes(&victim);
    for stranger in &mut links {
        let mut bytes = stranger.frame_bytes(&Frame::Ping { nonce: 1 });
        bytes[8..12].copy_from_slice(&((1_u32 << 20) - 24).to_le_bytes());
        bytes.truncate(25);
        stranger.send_bytes(&bytes);
    }
    wait_for("its beats", || Some(links[49].next()));
    let grown = before.grown_bytes(&victim);
    println!("50 open links: {opened_bytes} bytes more; with a megabyte announced on each: {grown}");
    assert!(grown < MEMORY_BYTES, "{grown} bytes for 50 megabytes announced");
    drop(links);
    // Frames that announce four gibibytes.
    let refused = victim.stat("refused_frame");
    for _ in 0..200 {
        let mut stranger = RawPeer::connect(victim.address());
        let mut bytes = stranger.frame_bytes(&Frame::Hello(hello("huge")));
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        stranger.send_bytes(&bytes);
        stranger.until_end();
    }
    wait_for("their refusal", || (victim.stat("refused_frame") == refused + 200).then_some(()));
    friend.until_shown(KIND, "victim", 10);
    before.is_restored(&mut victim);
    victim.leave();
    friend.end();
}

#[test]
fn a_peer_that_reads_nothing_hinders_nobody() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let (mut victim, friend) = victim_and_friend(&servers);
    let before = Before::of(&mut victim);
    let deaf = RawPeer::open(victim.address(), hello("deaf"));
    for round in 1..=20 {
        friend.offer("noise", 500 * (round - 1)..500 * round);
        victim.until_shown("noise", "friend", 500 * round);
        assert_eq!(victim.ask(&format!("offer noise{round} 500")), "done");
        friend.until_shown(&format!("noise{round}"), "victim", 500);
    }
    println!("20 000 services with a deaf peer: {} bytes more", before.grown_bytes(&victim));
    drop(deaf);
    victim.leave();
    friend.end();
}

#[test]
fn who_asks_and_never_reads_the_answers_is_cut_off_before_they_fill_the_memory() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let (mut victim, friend) = victim_and_friend(&servers);
    let before = Before::of(&mut victim);
    let mut chatty = RawPeer::open(victim.address(), hello("chatty"));
    let mut torrent = Vec::new();
    // More than the kernel keeps of the answers.
    for nonce in 0..1_000_000 {
        torrent.extend(chatty.frame_bytes(&Frame::Ping { nonce }));
    }
    // It never reads the answers.
    let mut stream = chatty.into_stream();
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < torrent.len() && !has_stalled(&mut stream, &torrent, &mut sent) {}
    friend.offer("afterwards", 0..20);
    victim.until_shown("afterwards", "friend", 20);
    wait_for("the link's end", || (victim.stat("refused_violation") == 1).then_some(()));
    let grown = before.grown_bytes(&victim);
    println!("{sent} of {} bytes of pings taken, {grown} bytes more", torrent.len());
    assert!(grown < 2 * MEMORY_BYTES, "{grown} bytes for answers that nobody reads");
    friend.until_standing("victim", Some(NodeStanding::Up));
    drop(stream);
    assert_eq!(victim.ask(&format!("fingerprint {KIND}")), before.fingerprint);
    victim.leave();
    friend.end();
}

/// Sends what the kernel takes. Whether it has taken nothing for a second, or the node has had enough.
fn has_stalled(stream: &mut TcpStream, bytes: &[u8], sent: &mut usize) -> bool {
    for _ in 0..100 {
        match stream.write(&bytes[*sent..]) {
            Ok(count) => {
                *sent += count;
                return false;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(_) => return true,
        }
    }
    true
}
