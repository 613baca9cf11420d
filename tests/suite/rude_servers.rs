//! Servers that lie, babble or say nothing: the link comes back to them with pauses, takes no more memory
//! than it was sent, and a real cluster of the same node notices nothing.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use croupier::{Shard, testing::LocalCluster};

use crate::{
    scripted::{ScriptedServer, info},
    support::{TestNode, permit, topic_on, wait_for},
};

/// Connections that a rude server gets before the test is content.
const CONNECTIONS: u64 = 4;
/// Bytes that a server pours out at most in one connection.
const POURED_BYTES: usize = 64 << 20;
/// Bytes that one connection may bring before it is given up: the longest greeting, and some reads.
const RECEIVED_BYTES_MAX: u64 = 2 << 20;
/// What the process may grow by meanwhile; other tests run in it too, so this is but a guard.
const GROWTH_BYTES_MAX: usize = 400 << 20;

/// Between two bytes of a server that drips.
const DRIP: Duration = Duration::from_millis(50);

/// A node with a rude cluster and a real one: connects to the rude one again and again, while every
/// message on the real one arrives.
fn endures(rude: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> croupier::LinkStats {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let rude = ScriptedServer::start(move |_, stream| rude(stream));
    let mut builder = servers.builder().cluster("rude", [rude.url()]);
    // The message for the rude one is never flushed.
    builder.config_mut().limits.drain_timeout = Duration::from_millis(200);
    let connection = &mut builder.config_mut().connection;
    connection.connect_timeout = Duration::from_millis(300);
    connection.subscribe_timeout = Duration::from_millis(300);
    connection.ping_interval = Duration::from_millis(100);
    connection.reconnect.max = Duration::from_millis(100);
    let before = resident_bytes();
    let node = TestNode::start(builder, 1);
    let [real, lost] = ["c1", "rude"].map(|cluster| topic_on(&node.handle, cluster, "rude"));
    node.on(0, async move |shard: Shard| {
        shard.publish(&lost, "x").unwrap();
        drop(shard.subscribe_unconfirmed(&lost).unwrap());
    });
    let mut peak = 0;
    wait_for("reconnects", || {
        let topic = real.clone();
        node.on(0, async move |shard: Shard| {
            let mut messages = shard.subscribe(&topic).await.unwrap();
            shard.publish(&topic, "y").unwrap();
            assert_eq!(messages.next().await.unwrap().payload(), b"y");
        });
        peak = peak.max(resident_bytes());
        (rude.accepted() >= CONNECTIONS).then_some(())
    });
    let real = node.link(0, "c1");
    assert_eq!((real.connects, real.disconnects, real.in_doubt), (1, 0, 0), "{real:?}");
    let link = node.link(0, "rude");
    println!(
        "{} connections, {} bytes read, {} MiB more resident",
        rude.accepted(),
        link.received_bytes,
        peak.saturating_sub(before) >> 20
    );
    assert!(peak < before + GROWTH_BYTES_MAX, "from {before} to {peak} bytes");
    assert!(link.tries >= CONNECTIONS, "{link:?}");
    assert!(link.received_bytes <= link.tries * RECEIVED_BYTES_MAX, "{link:?}");
    node.end();
    link
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Greets, and waits for the client's first PING.
fn greet(stream: &TcpStream) -> io::Result<()> {
    let mut to = stream;
    to.write_all(info(1 << 20).as_bytes())?;
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    while line != "PING\r\n" {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Greets and accepts the client.
fn accept(stream: &TcpStream) -> io::Result<()> {
    greet(stream)?;
    (&*stream).write_all(b"PONG\r\n")
}

/// Reads until the client goes.
fn listen(mut stream: TcpStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

fn pour(mut stream: TcpStream, bytes: &[u8]) -> io::Result<()> {
    (0..POURED_BYTES / bytes.len()).try_for_each(|_| stream.write_all(bytes))?;
    listen(stream)
}

#[test]
fn an_endless_line_before_the_greeting() {
    let link = endures(|stream| pour(stream, &[b'x'; 1 << 16]));
    assert_eq!(link.connects, 0);
}

#[test]
fn an_endless_line_after_the_greeting() {
    let link = endures(|stream| {
        accept(&stream)?;
        pour(stream, &[b'x'; 1 << 16])
    });
    assert!(link.connects > 0 && link.disconnects > 0, "{link:?}");
}

#[test]
fn a_message_of_all_the_bytes_there_could_be() {
    let link = endures(|mut stream| {
        accept(&stream)?;
        stream.write_all(b"MSG a 1 18446744073709551615\r\n")?;
        pour(stream, &[b'x'; 1 << 16])
    });
    assert!(link.disconnects > 0, "{link:?}");
}

#[test]
fn a_size_that_overflows_a_counter() {
    let link = endures(|mut stream| {
        accept(&stream)?;
        stream.write_all(b"MSG a 1 18446744073709551616\r\nx")?;
        listen(stream)
    });
    assert!(link.disconnects > 0, "{link:?}");
}

#[test]
fn a_greeting_of_two_mebibytes() {
    let link = endures(|mut stream| {
        let filler = "x".repeat(2 << 20);
        stream.write_all(
            format!("INFO {{\"server_id\":\"{filler}\",\"max_payload\":1048576}}\r\n").as_bytes(),
        )?;
        listen(stream)
    });
    assert_eq!(link.connects, 0);
}

#[test]
fn garbage_after_a_payload() {
    let link = endures(|mut stream| {
        accept(&stream)?;
        stream.write_all(b"MSG a 1 3\r\nabcdefg\r\n")?;
        listen(stream)
    });
    assert!(link.disconnects > 0, "{link:?}");
}

#[test]
fn headers_larger_than_their_message() {
    let link = endures(|mut stream| {
        accept(&stream)?;
        stream.write_all(b"HMSG a 1 20 10\r\nNATS/1.0\r\n\r\n")?;
        listen(stream)
    });
    assert!(link.disconnects > 0, "{link:?}");
}

#[test]
fn silence_after_the_connect() {
    let link = endures(listen);
    assert_eq!(link.connects, 0);
}

#[test]
fn silence_after_the_greeting() {
    let link = endures(|stream| {
        greet(&stream)?;
        listen(stream)
    });
    assert_eq!(link.connects, 0);
}

#[test]
fn silence_after_the_acceptance() {
    let link = endures(|stream| {
        accept(&stream)?;
        listen(stream)
    });
    // Two unanswered PINGs, and the message that was written is in doubt.
    assert!(link.disconnects > 0 && link.in_doubt == 1, "{link:?}");
}

#[test]
fn a_greeting_of_another_protocol() {
    for greeting in [
        "220 mail.example ESMTP\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "INFO\r\n",
        "INFO []\r\n",
        "PING\r\n",
    ] {
        let link = endures(move |mut stream| {
            stream.write_all(greeting.as_bytes())?;
            listen(stream)
        });
        assert_eq!(link.connects, 0, "{greeting:?}");
    }
}

/// Says a line one byte at a time, far too slowly to be done before the client's patience is.
fn drip(mut stream: TcpStream, line: &[u8]) -> io::Result<()> {
    for byte in line {
        stream.write_all(&[*byte])?;
        thread::sleep(DRIP);
    }
    listen(stream)
}

#[test]
fn a_greeting_of_a_byte_at_a_time() {
    let link = endures(|stream| drip(stream, info(1 << 20).as_bytes()));
    assert_eq!(link.connects, 0);
}

#[test]
fn a_message_of_a_byte_at_a_time_is_no_sign_of_life() {
    let link = endures(|stream| {
        accept(&stream)?;
        drip(stream, format!("MSG a 1 1000\r\n{}", "x".repeat(1000)).as_bytes())
    });
    assert!(link.disconnects > 0, "{link:?}");
}

#[test]
fn a_server_that_answers_nothing_but_babbles_whole_lines_is_given_up() {
    let link = endures(|mut stream| {
        accept(&stream)?;
        loop {
            stream.write_all(b"+OK\r\n")?;
            thread::sleep(DRIP / 10);
        }
    });
    assert!(link.disconnects > 0, "{link:?}");
}

#[test]
fn a_connection_that_is_closed_at_once() {
    let link = endures(|stream| {
        drop(stream);
        Ok(())
    });
    assert_eq!(link.connects, 0);
}
