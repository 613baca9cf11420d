//! Connections that are cut at any byte: whole messages, in order, none twice, and a fate for each.

use std::{
    collections::VecDeque,
    io::Write,
    net::TcpStream,
    ops::Range,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use croupier::{Node, PublishError, Shard, testing::LocalCluster};

use crate::{
    scripted::{ScriptedServer, Sent, cutting_proxy, info_of, serve_after, serve_politely},
    support::{TestNode, assert_balanced, permit, wait_for},
};

/// Messages that are published without a pause.
const BURST: u64 = 50;
/// Connections that are cut in one run.
const CUTS: u64 = 12;

/// What message `number` carries: its number, and as much of a pattern as its number says. Every third is
/// too large to be copied.
fn payload(number: u64) -> Vec<u8> {
    let len = match number % 3 {
        0 => 3000 + (number * 977 % 30_000) as usize,
        1 => (number * 31 % 200) as usize,
        _ => 2040 + (number % 20) as usize,
    };
    let mut payload = number.to_le_bytes().to_vec();
    payload.extend((0..len).map(|at| (at as u64 * 7 + number) as u8));
    payload
}

/// The number of a whole payload.
fn number_of(received: &[u8]) -> u64 {
    let number = u64::from_le_bytes(received[..8].try_into().unwrap());
    assert!(received == payload(number), "message {number} is not as it was published");
    number
}

#[test]
fn a_cut_at_any_byte_leaves_whole_messages_in_order_and_none_twice() {
    for _ in 0..3 {
        cut_at_any_byte(fastrand::u64(..));
    }
}

fn cut_at_any_byte(seed: u64) {
    println!("seed {seed}");
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let limits = Mutex::new(fastrand::Rng::with_seed(seed));
    let proxy = cutting_proxy(&servers.servers(0)[0], move |number| {
        // The first bytes of a connection are its CONNECT: some cuts fall into the handshake.
        let mut limits = limits.lock().unwrap_or_else(PoisonError::into_inner);
        if number < CUTS { limits.u64(1..1_000_000) } else { u64::MAX }
    });
    let subscriber = TestNode::start(servers.builder(), 1);
    let mut builder = Node::builder().cluster("c1", [proxy.url()]);
    let config = builder.config_mut();
    config.shards.pin = false;
    config.connection.reconnect.max = Duration::from_millis(20);
    // Larger than what the kernel takes, so that some is still queued at a cut.
    config.limits.publish_buffer = 4 << 20;
    let publisher = TestNode::start(builder, 1);

    let received = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&received);
    subscriber.on(0, async move |shard: Shard| {
        let take = move |view: croupier::MessageView<'_>| {
            collected.lock().unwrap_or_else(PoisonError::into_inner).push(number_of(view.payload()));
        };
        let guard = shard.subscribe_with("cut", take).await.unwrap();
        shard.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
    });
    // Bursts, so that some of it is under way at a cut, and some comes while the link is down.
    let mut published = 0;
    while proxy.accepted() <= CUTS || !publisher.link(0, "c1").connected {
        publish(&publisher, published..published + BURST);
        published += BURST;
        assert_balanced(&publisher.link(0, "c1"));
        thread::sleep(Duration::from_millis(10));
    }
    let last_cut = publisher.link(0, "c1");
    publish(&publisher, published..published + BURST);
    published += BURST;
    wait_for("an empty buffer", || {
        let link = publisher.link(0, "c1");
        assert_balanced(&link);
        (link.connected && link.queued == 0 && link.written == 0).then_some(())
    });
    publisher.on(0, async |shard: Shard| shard.flush().await.unwrap());
    // The subscriber's own server answers after what it has delivered.
    subscriber.on(0, async |shard: Shard| shard.flush().await.unwrap());
    let link = publisher.link(0, "c1");
    assert_balanced(&link);
    assert_eq!((link.accepted, link.queued, link.written, link.discarded), (published, 0, 0, 0), "{link:?}");
    assert_eq!(link.in_doubt, last_cut.in_doubt, "nothing was cut any more");
    assert!(link.processed >= BURST && link.disconnects > 0, "{link:?}");
    let received = received.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(received.is_sorted_by(|a, b| a < b), "repeated or out of order");
    assert!(received.ends_with(&(published - BURST..published).collect::<Vec<_>>()));
    let lost = published - received.len() as u64;
    println!(
        "{published} published, {} connections of {} tries, {} in doubt, {lost} lost",
        link.connects, link.tries, link.in_doubt
    );
    assert!(lost <= link.in_doubt, "{lost} lost, {} in doubt", link.in_doubt);
    subscriber.end();
    publisher.end();
}

/// Publishes messages, every second one in memory that need not be copied.
fn publish(node: &TestNode, numbers: Range<u64>) {
    node.on(0, async move |shard: Shard| {
        for number in numbers {
            if number % 2 == 0 {
                shard.publish_wait("cut", Bytes::from(payload(number))).await.unwrap();
            } else {
                shard.publish_wait("cut", &payload(number)).await.unwrap();
            }
        }
    });
}

/// Clusters that are reset side by side: each is tried some seven times a second.
const RESET_CLUSTERS: usize = 8;
/// What a reset falls into: a message with and one without headers, for the subscription `#`.
const RESET_MESSAGES: &str =
    "HMSG reset.head # 19 24\r\nNATS/1.0\r\nA: bc\r\n\r\nhello\r\nMSG reset.plain # 5\r\nworld\r\n";

/// Resets a connection, which throws away what either side has not read: `connect` to no address does so.
fn reset(stream: &TcpStream) {
    // SAFETY: all bits zero are a valid address, of the family "unspecified".
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let bytes = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the address is valid for reading for the time of the call.
    let outcome = unsafe { libc::connect(stream.as_raw_fd(), &raw const nowhere, bytes) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_reset_at_any_byte_of_a_message_delivers_what_was_whole_and_nothing_else() {
    let _permit = permit(1);
    // How many bytes are sent before each of the resets that are left.
    let left: Arc<Mutex<Vec<usize>>> = Arc::new(Mutex::new((0..=RESET_MESSAGES.len()).collect()));
    let servers: Vec<_> = (0..RESET_CLUSTERS)
        .map(|index| {
            let left = Arc::clone(&left);
            ScriptedServer::start(move |_, stream| {
                let kept = stream.try_clone()?;
                let mut messages = String::new();
                serve_after(&info_of(&format!("RESET{index}"), 1 << 20), stream, |sent, to| match sent {
                    Sent::Subscribe { sid } => {
                        assert_eq!(sid.len(), 1, "its length is part of the plan");
                        messages = RESET_MESSAGES.replace('#', &sid);
                        Ok(())
                    }
                    Sent::Publish { .. } => {
                        let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some(bytes) = next else { return Ok(()) };
                        to.write_all(&messages.as_bytes()[..bytes])?;
                        // So that the client is likely to have read it before the reset comes.
                        thread::sleep(Duration::from_millis(20));
                        reset(&kept);
                        Err(std::io::ErrorKind::ConnectionReset.into())
                    }
                    _ => Ok(()),
                })
            })
        })
        .collect();
    let mut builder = Node::builder();
    for (index, server) in servers.iter().enumerate() {
        builder = builder.cluster(format!("c{}", index + 1), [server.url()]);
    }
    builder.config_mut().shards.pin = false;
    builder.config_mut().connection.reconnect.max = Duration::from_millis(20);
    let node = TestNode::start(builder, 1);
    let received = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&received);
    node.on(0, async move |shard: Shard| {
        let take = move |view: croupier::MessageView<'_>| {
            let header = view.headers().unwrap().map(|headers| headers.get("A").unwrap().to_owned());
            let message = (view.topic().to_string(), header, view.payload().to_vec());
            collected.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        };
        let guard = shard.subscribe_with("reset.*", take).await.unwrap();
        shard.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        let clusters: Vec<_> = shard.stats().links.iter().map(|link| link.cluster.clone()).collect();
        let publisher = shard.clone();
        // Each new connection is told that the subscription stands.
        shard.spawn(async move {
            let mut told = vec![0; clusters.len()];
            loop {
                for ((cluster, told), link) in clusters.iter().zip(&mut told).zip(publisher.stats().links) {
                    if link.connected && link.connects > *told {
                        *told = link.connects;
                        publisher.publish_to(cluster, "ready", "").unwrap();
                    }
                }
                publisher.sleep(Duration::from_millis(1)).await;
            }
        });
    });
    let first_message_bytes = RESET_MESSAGES.find("MSG reset.plain").unwrap();
    let all = RESET_MESSAGES.len() + 1;
    wait_for("a reset at every byte", || {
        let disconnects: u64 =
            (0..RESET_CLUSTERS).map(|index| node.handle.stats()[0].links[index].disconnects).sum();
        (disconnects >= all as u64).then_some(())
    });
    wait_for("the reconnects", || {
        node.handle.stats()[0].links.iter().all(|link| link.connected).then_some(())
    });
    let received = received.lock().unwrap_or_else(PoisonError::into_inner);
    let headed = received
        .iter()
        .filter(|message| **message == ("reset.head".to_owned(), Some("bc".to_owned()), b"hello".to_vec()));
    let plain =
        received.iter().filter(|message| **message == ("reset.plain".to_owned(), None, b"world".to_vec()));
    let (headed, plain) = (headed.count(), plain.count());
    println!("{all} resets: {headed} messages with headers, {plain} without");
    assert_eq!(headed + plain, received.len(), "{received:?}");
    // What was whole and not read yet may go with the reset.
    assert!((1..=all - first_message_bytes).contains(&headed), "{headed} messages with headers");
    assert!(plain <= 1, "{plain} messages without headers");
    drop(received);
    node.end();
}

/// A server that stops reading in the middle of a large message and then cuts: what stands behind it in
/// the buffer, large and small, goes out whole on the next connection.
#[test]
fn what_stands_behind_a_large_message_that_is_cut_goes_out_whole() {
    let _permit = permit(1);
    for cut_after in [0, 1, 100, 70_000, 200_000] {
        let received = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&received);
        let let_go = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&let_go);
        let server = ScriptedServer::start(move |number, stream| {
            let mut read = 0;
            serve_politely(stream, 1 << 20, |sent, _| {
                if let Sent::Publish { payload, .. } = sent {
                    if number == 0 {
                        read += payload.len();
                        // The kernel's buffers fill while this reads no more.
                        while read > cut_after && !gone.load(Ordering::Acquire) {
                            thread::sleep(Duration::from_millis(1));
                        }
                        if read > cut_after {
                            return Err(std::io::ErrorKind::ConnectionReset.into());
                        }
                    }
                    collected.lock().unwrap_or_else(PoisonError::into_inner).push(number_of(&payload));
                }
                Ok(())
            })
        });
        let mut builder = Node::builder().cluster("c1", [server.url()]);
        builder.config_mut().shards.pin = false;
        builder.config_mut().limits.publish_buffer = 64 << 20;
        let node = TestNode::start(builder, 1);
        node.on(0, async |shard: Shard| {
            for number in 0..1000_u64 {
                shard.publish("large", Bytes::from(payload(number))).unwrap();
            }
        });
        // Blocked: the kernel takes no more, in the middle of some message.
        let written = wait_for("a full send buffer", || {
            let link = node.link(0, "c1");
            let later = node.link(0, "c1");
            (link.written > 0 && link.queued > 0 && link.queued == later.queued).then_some(later)
        });
        assert_balanced(&written);
        server.cut_all();
        let_go.store(true, Ordering::Release);
        wait_for("the rest", || {
            (node.link(0, "c1").processed > 0 && node.link(0, "c1").queued == 0).then_some(())
        });
        node.on(0, async |shard: Shard| shard.flush().await.unwrap());
        let link = node.link(0, "c1");
        println!("{} of 1000 in doubt after a cut past {cut_after} bytes", link.in_doubt);
        assert_balanced(&link);
        assert_eq!((link.accepted, link.queued, link.written, link.discarded), (1000, 0, 0, 0));
        let received = received.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(received.is_sorted_by(|a, b| a < b));
        let on_second = received.iter().rev().take_while(|number| **number >= link.in_doubt).count() as u64;
        assert!(on_second >= 1000 - link.in_doubt, "{on_second} came, {} were in doubt", link.in_doubt);
        node.end();
    }
}

#[test]
fn a_restarted_server_with_a_smaller_limit_has_what_is_too_large_discarded_and_counted() {
    let _permit = permit(1);
    let max_payload = Arc::new(AtomicUsize::new(1 << 20));
    let received: Arc<Mutex<VecDeque<u64>>> = Arc::default();
    let (told, collected) = (Arc::clone(&max_payload), Arc::clone(&received));
    let server = ScriptedServer::start(move |_, stream| {
        let max_payload = told.load(Ordering::Acquire);
        if max_payload == 0 {
            return Ok(());
        }
        serve_politely(stream, max_payload, |sent, _| {
            if let Sent::Publish { payload, .. } = sent {
                collected.lock().unwrap_or_else(PoisonError::into_inner).push_back(number_of(&payload));
            }
            Ok(())
        })
    });
    let mut builder = Node::builder().cluster("c1", [server.url()]);
    builder.config_mut().shards.pin = false;
    builder.config_mut().connection.reconnect.max = Duration::from_millis(50);
    let node = TestNode::start(builder, 1);
    node.on(0, async |shard: Shard| {
        shard.publish("limit", payload(0)).unwrap();
        shard.flush().await.unwrap();
    });
    max_payload.store(0, Ordering::Release);
    server.cut_all();
    wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
    node.on(0, async |shard: Shard| {
        for number in 1..100_u64 {
            if number % 2 == 0 {
                shard.publish("limit", payload(number)).unwrap();
            } else {
                shard.publish("limit", payload(number).as_slice()).unwrap();
            }
        }
    });
    max_payload.store(1000, Ordering::Release);
    node.connected(0, "c1");
    let small: Vec<u64> = (1..100).filter(|number| payload(*number).len() <= 1000).collect();
    node.on(0, async |shard: Shard| {
        shard.flush().await.unwrap();
        match shard.publish("limit", payload(3)) {
            Err(PublishError::PayloadTooLarge { payload_bytes, limit_bytes, .. }) => {
                assert_eq!((payload_bytes, limit_bytes), (payload(3).len(), 1000));
            }
            other => panic!("{other:?}"),
        }
    });
    let link = node.link(0, "c1");
    assert_balanced(&link);
    let kept = small.len() as u64;
    assert_eq!((link.accepted, link.processed, link.discarded), (100, 1 + kept, 99 - kept), "{link:?}");
    assert_eq!((link.queued, link.written, link.rejected), (0, 0, 1));
    let received = received.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(received.iter().skip(1).copied().collect::<Vec<_>>(), small);
    node.end();
}
